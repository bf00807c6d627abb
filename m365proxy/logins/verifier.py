"""Whether a password is the one that is configured, at a cost that does not tell anything else."""

from __future__ import annotations

import contextlib
import hmac
import os
import threading
from typing import Callable, Dict, Iterable, Iterator

from ..errors import Temporary
from . import passwords
from .passwords import SALT_OCTETS, is_hash, octets, scrypt_parts, spellings

# Runs of scrypt at once in the whole program: 32 MiB together, which a router with 128 MiB can spare.
_TURNS = threading.BoundedSemaphore(2)


class Verifier:
    """Compares passwords.  May be used from any thread.

    A comparison costs one scrypt run for each spelling of the password that is
    tried.  A password that was right once costs none the next time: it is
    remembered as an HMAC, under a key that lives as long as this object.
    """

    def __init__(self, scrypt_wait_seconds: float = 10.0, scrypt: Callable[[bytes, bytes], bytes] = passwords.scrypt):
        """`scrypt_wait_seconds` is how long a check may wait for its turn; `scrypt` takes password and salt."""
        self._scrypt = scrypt
        self._wait_seconds = scrypt_wait_seconds
        self._secret = os.urandom(32)
        self._nobody = os.urandom(SALT_OCTETS)
        # One entry at most for each user name; single dict operations need no lock.
        self._remembered: Dict[str, bytes] = {}

    def is_right(self, name: str, password: str, stored: str) -> bool:
        """Whether `password` is the one stored for a user name, plain or hashed.

        A password that is wrong and ends in CR, LF or NUL is tried without them, too.  Temporary if too many
        checks are waiting.
        """
        tokens = {self._token(name, spelling): spelling for spelling in spellings(password)}
        if self._remembers(name, tokens):
            return True
        with self._turn():
            # Many may have waited for the first check of one password; they need no run of their own.
            if self._remembers(name, tokens):
                return True
            for token, spelling in tokens.items():
                if self._matches(spelling, stored):
                    self._remembered[name] = token
                    return True
        return False

    def refuse(self, password: str) -> None:
        """Take as long as for a wrong password.  Temporary, too."""
        with self._turn():
            for spelling in spellings(password):
                self._scrypt(octets(spelling), self._nobody)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """A with block in which one password may be checked; Temporary if no turn comes in time."""
        if not _TURNS.acquire(timeout=self._wait_seconds):
            raise Temporary("Too many devices are logging in at once; try again in a minute.")
        try:
            yield
        finally:
            _TURNS.release()

    def _token(self, name: str, password: str) -> bytes:
        return hmac.digest(self._secret, octets(name) + b"\0" + octets(password), "sha256")

    def _remembers(self, name: str, tokens: Iterable[bytes]) -> bool:
        remembered = self._remembered.get(name, b"")
        return any(hmac.compare_digest(remembered, token) for token in tokens)

    def _matches(self, password: str, stored: str) -> bool:
        if is_hash(stored):
            salt, key = scrypt_parts(stored)
            return hmac.compare_digest(self._scrypt(octets(password), salt), key)
        self._scrypt(octets(password), self._nobody)  # it takes as long as with a hash
        # All digests have one length: the time of a comparison tells nothing about the password's.
        return hmac.compare_digest(self._token("", password), self._token("", stored))
