"""TLS handshakes that failed, in words an administrator can use."""

from __future__ import annotations

from ..system import events, log
from .connection import Closed, Injection, TimedOut, WireError

logger = log.get("server")

UNTRUSTED = "the client does not trust the certificate"
OLD_TLS = "the client supports only older TLS: see min_version"
NO_CIPHER = "no cipher in common: the client needs a certificate with an RSA key, or older ciphers (see min_version)"
NO_TLS = "the client did not speak TLS"
NO_HTTP = "the client spoke HTTP"

# What OpenSSL's reason for a failed handshake usually means for an administrator.
_HINTS = (
    ("UNKNOWN_CA", UNTRUSTED),
    ("CERTIFICATE_UNKNOWN", UNTRUSTED),
    ("BAD_CERTIFICATE", UNTRUSTED),
    ("UNSUPPORTED_PROTOCOL", OLD_TLS),
    ("VERSION_TOO_LOW", OLD_TLS),
    ("NO_SUITABLE_SIGNATURE_ALGORITHM", OLD_TLS),
    ("NO_SHARED_CIPHER", NO_CIPHER),
    ("WRONG_VERSION_NUMBER", NO_TLS),
    ("HTTP_REQUEST", NO_HTTP),
)


def log_failure(service: str, peer: str, error: WireError, at_once: bool = False) -> None:
    """The line an administrator looks for when a device does not accept our TLS, or we do not accept the device's.

    `at_once`: TLS was to begin with the first octet.
    """
    why = reason(error)
    extra = events.step("TLS failed", service=service, client=peer, reason=why, at_once=at_once or None)
    logger.warning("TLS handshake failed from %s: %s", peer, why, extra=extra)


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
