"""`init`: a few questions, then a config and the script for the tenant."""
