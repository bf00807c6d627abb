"""`test`: plays a device on the program's own listener, and follows its mail to the end."""
