"""Listeners and connections, for every protocol."""
