"""TLS handshakes that failed, in words an administrator can use."""

from __future__ import annotations

from ..system import events, log
from .connection import Closed, Injection, TimedOut, WireError

logger = log.get("server")

# What OpenSSL's reason for a failed handshake usually means for an administrator.
_HINTS = (
    ("UNKNOWN_CA", "the client does not trust the certificate"),
    ("CERTIFICATE_UNKNOWN", "the client does not trust the certificate"),
    ("BAD_CERTIFICATE", "the client does not trust the certificate"),
    ("UNSUPPORTED_PROTOCOL", "the client supports only older TLS: see min_version"),
    ("VERSION_TOO_LOW", "the client supports only older TLS: see min_version"),
    ("NO_SUITABLE_SIGNATURE_ALGORITHM", "the client supports only older TLS: see min_version"),
    (
        "NO_SHARED_CIPHER",
        "no cipher in common: the client needs a certificate with an RSA key, or older ciphers (see min_version)",
    ),
    ("WRONG_VERSION_NUMBER", "the client did not speak TLS"),
    ("HTTP_REQUEST", "the client spoke HTTP"),
)


def log_failure(peer: str, error: WireError) -> None:
    """The line an administrator looks for when a device does not accept our TLS, or we do not accept the device's."""
    why = reason(error)
    logger.warning(
        "TLS handshake failed from %s: %s", peer, why, extra=events.step("TLS failed", client=peer, reason=why)
    )


def reason(error: WireError) -> str:
    """Why a connection or its handshake ended, in a few words."""
    if isinstance(error, Injection):
        return "commands were sent before it"
    code = str(error).upper().replace(" ", "_")
    for openssl, hint in _HINTS:
        if openssl in code:
            return f"{hint} ({log.clean(error)})"
    if str(error):
        return log.clean(error)
    if isinstance(error, Closed):
        return "connection closed"
    if isinstance(error, TimedOut):
        return "timed out"
    return type(error).__name__
