"""`devices`: who connected, what they do and what to set; and learning what a device needs while it tries."""
