"""One-time passwords: by one, `m365proxy test` logs in as a device whose own password only the device knows.

Whoever asks for one writes its digest to a place that only the owner of the state directory can write; the same
place holds the sign-in and its key.  So a one-time password gives nobody a right that he does not have already.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from typing import Callable, Dict

from .passwords import octets

# Seconds in which it must be used.
_LIFE = 60.0

# Passwords that wait to be used; the oldest go first.
_LIMIT = 20

_DIGEST = re.compile(r"[0-9a-f]{64}")


def make() -> str:
    """A new password, of 256 random bits."""
    return secrets.token_urlsafe(32)


def digest(login: str, service: str, password: str) -> str:
    """What is told of a password: for this user name, and "smtp" or "pop3", only.  Nobody can find it out from this."""
    parts = (octets(login.casefold()), octets(service), octets(password))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


class OneTimePasswords:
    """Those that may be used, each once and within a minute.  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._ends: Dict[str, float] = {}  # by digest

    def admit(self, digest: str) -> None:
        """Let the password of this digest be used; nothing if it is no digest."""
        with self._lock:
            if _DIGEST.fullmatch(digest):
                self._ends[digest] = self._clock() + _LIFE
            while len(self._ends) > _LIMIT:
                del self._ends[next(iter(self._ends))]

    def use(self, login: str, service: str, password: str) -> bool:
        """Whether this is one of them, which it is no more after that."""
        if not self._ends:  # as nearly always
            return False
        with self._lock:
            end = self._ends.pop(digest(login, service, password), None)
        return end is not None and self._clock() < end
