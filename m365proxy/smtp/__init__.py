"""Submission by devices (RFC 5321)."""
