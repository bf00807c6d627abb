"""Who devices and clients log in as."""
