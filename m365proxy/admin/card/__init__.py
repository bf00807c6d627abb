"""`card`: what to type into a device."""
