"""SMTP and POP3 for old devices, relayed over Microsoft Graph."""

__version__ = "3.0.0"
