"""Passwords as the configuration holds them: plain, or an scrypt hash."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from typing import Tuple

from ..errors import UsageError
from . import sasl

# What one check costs: 16 MiB of memory.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1

SCRYPT_KEY_OCTETS = 32

SALT_OCTETS = 16

# OpenSSL refuses to use more than this.
_SCRYPT_MEMORY = 64 * 1024 * 1024

HASH_HINT = "run `m365proxy hash-password` and put what it prints here"


# No character of these is easily taken for another, and all are on the first page of a printer's keypad.
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"

# 16 of 31 characters are 79 bits; some devices take no longer password.
_GENERATED_LENGTH = 16


def generate() -> str:
    """A new password for a device: it can be read off, typed on a keypad, and not be guessed."""
    return "".join(secrets.choice(_READABLE) for _ in range(_GENERATED_LENGTH))


def is_hash(stored: str) -> bool:
    """Whether a stored password is a hash of ours and not a plain one."""
    return stored.startswith("scrypt$")


def scrypt_parts(stored: str) -> Tuple[bytes, bytes]:
    """Salt and key of "scrypt$16384$8$1$<base64 salt>$<base64 key>"; ValueError says what is wrong with it."""
    parts = stored.split("$")
    if len(parts) != 6:
        raise ValueError(f"is not a whole scrypt hash; {HASH_HINT}")
    if parts[1:4] != [str(SCRYPT_N), str(SCRYPT_R), str(SCRYPT_P)]:
        raise ValueError(
            f"is a scrypt hash with other parameters than n={SCRYPT_N}, r={SCRYPT_R}, p={SCRYPT_P}, "
            f"and larger ones would exhaust a small machine; {HASH_HINT}"
        )
    try:
        salt, key = (base64.b64decode(part, validate=True) for part in parts[4:])
    except (binascii.Error, ValueError):
        raise ValueError(f"is not a whole scrypt hash; {HASH_HINT}") from None
    if len(salt) < 8 or len(key) != SCRYPT_KEY_OCTETS:
        raise ValueError(f"is not a whole scrypt hash; {HASH_HINT}")
    return salt, key


def octets(text: str) -> bytes:
    """A user name or password in octets; whatever a device sent has some, half a surrogate pair too."""
    return text.encode("utf-8", "surrogatepass")


def spellings(password: str) -> Tuple[str, ...]:
    """What to try for a password that a client sent: as it is, and without CR, LF and NUL at its end."""
    trimmed = sasl.trimmed(password)
    return (password, trimmed) if trimmed and trimmed != password else (password,)


def scrypt(password: bytes, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=_SCRYPT_MEMORY, dklen=SCRYPT_KEY_OCTETS
    )


def hash_password(password: str) -> str:
    """What to put into the configuration for a password; UsageError if it is empty."""
    if not password:
        raise UsageError("The password is empty; give one of at least one character.")
    salt = os.urandom(SALT_OCTETS)
    encoded = (base64.b64encode(part).decode("ascii") for part in (salt, scrypt(octets(password), salt)))
    return "$".join(("scrypt", str(SCRYPT_N), str(SCRYPT_R), str(SCRYPT_P), *encoded))
