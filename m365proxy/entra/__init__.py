"""The sign-in at Microsoft Entra."""
