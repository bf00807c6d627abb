"""What clients send in AUTH exchanges, the same for SMTP (RFC 4954) and POP3 (RFC 5034)."""

from __future__ import annotations

import base64
import binascii
from typing import Tuple

_BLANK = " \t"


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


def plain(octets: bytes) -> Tuple[str, str, str]:
    """(authorization identity, user name, password) of SASL PLAIN (RFC 4616).  Malformed."""
    parts = octets.split(b"\0")
    if len(parts) != 3:
        raise Malformed("PLAIN has three parts")
    identity, login, password = (credential(part) for part in parts)
    return identity, login, password
