"""`report`: a text about an installation that may be posted in public."""
