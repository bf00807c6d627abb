"""Processes that take mail in, so that it does not wait for one interpreter; docs/internals.md has the picture."""
