"""What clients send in AUTH exchanges, the same for SMTP (RFC 4954) and POP3 (RFC 5034)."""

from __future__ import annotations

import base64
import binascii
from typing import Tuple

_BLANK = " \t"

# What some devices send behind a user name or password: the line end of their settings file, the end of a C string.
_STRAY = "\r\n\0"


class Malformed(ValueError):
    """The text is not of the form it should have."""


def unbase64(text: str) -> bytes:
    """Decoded octets; "=" is the empty string (RFC 4954 section 4).  Malformed.

    Nothing but base64 is accepted; padding may be missing, as some devices leave it out.
    """
    text = text.strip(_BLANK)
    if text == "=":
        return b""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("base64") from None


def credential(octets: bytes) -> str:
    """A user name or password: UTF-8 (RFC 4616), else as the Latin-1 that old devices send."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def trimmed(text: str) -> str:
    """A user name or password without CR, LF and NUL at its end."""
    return text.rstrip(_STRAY)


def user_name(octets: bytes) -> str:
    """A user name as it is looked up; none in the configuration ends in CR, LF or NUL."""
    return trimmed(credential(octets))


def plain(octets: bytes) -> Tuple[str, str, str]:
    """(authorization identity, user name, password) of SASL PLAIN (RFC 4616).  Malformed.

    NULs at the end belong to the password: some devices send that of a C string, too.
    """
    parts = octets.split(b"\0", 2)
    if len(parts) != 3 or b"\0" in parts[2].rstrip(_STRAY.encode()):
        raise Malformed("PLAIN has three parts")
    identity, login, password = user_name(parts[0]), user_name(parts[1]), credential(parts[2])
    if identity and login and not trimmed(password):
        # Without the first NUL the password stands where the log expects a user name.
        raise Malformed("PLAIN has a password")
    return identity, login, password
