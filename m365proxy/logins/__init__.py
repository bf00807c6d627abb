"""The logins of devices: user names, passwords, and blocking of guesses."""
