"""Requests to Microsoft Graph."""
