"""The key by which the application signs in as itself, made here: its private half never leaves this machine."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from typing import NamedTuple

from ...server import tls

# Days it is valid: many tenants allow no more (appManagementPolicy), and the config warns before its end.
_DAYS = 730


class AppKey(NamedTuple):
    """`key` and `certificate` are PEM; `thumbprint` is SHA-1 in hex, as Entra shows it."""

    key: bytes
    certificate: bytes
    thumbprint: str
    end: datetime.date


def make(name: str) -> AppKey:
    """A new RSA key with a certificate for two years."""
    certificate, key = tls.self_signed([name], days=_DAYS)
    der = ssl.PEM_cert_to_DER_cert(certificate.decode())
    thumbprint = hashlib.new("sha1", der, usedforsecurity=False).hexdigest().upper()
    return AppKey(key, certificate, thumbprint, tls.end_of(certificate).date())
