"""Mailboxes for old clients (RFC 1939)."""
