"""Clients that begin TLS at once on a STARTTLS port, and never learn better (HP MFPs).

They cannot be recognised before the banner without making all others wait.
So the first such connection fails, and its address is remembered.  From the
next one on the server lets that address speak first.
"""

from __future__ import annotations

import json
import threading
from typing import Callable, Dict, Optional, Sequence

from ..system import files, jsontext, log
from ..system.networks import Network, within
from . import quirks
from .quirks import Habit

logger = log.get("server")

# The first octet of a TLS record that holds a handshake (RFC 8446 5.1); no SMTP command begins with it.
FIRST_OCTET = b"\x16"

# Seconds to wait for a known address to speak first.
PATIENCE = 1.0

# Addresses remembered, the oldest forgotten first.
_LIMIT = 1000


class ClientHellos:
    """Addresses that begin with a ClientHello.  May be used from any thread."""

    def __init__(self, path: str, networks: Sequence[Network] = (), tell: Optional[Callable[[str], object]] = None):
        """`path` is the file they are kept in; `networks` are known from the start (tls_first).

        `tell` is told each new address: another process keeps and logs it.
        """
        self._path = path
        self._tell = tell
        self.networks = networks  # may be exchanged while running
        self._lock = threading.Lock()
        self.load()

    def load(self) -> None:
        """Know what is in the file: another process may have written it meanwhile."""
        self._known: Dict[str, None] = dict.fromkeys(_load(self._path))

    def expected(self, peer: str) -> bool:
        """Whether this (normalised) address is allowed to speak first."""
        return peer in self._known or within(peer, self.networks)

    def note(self, peer: str) -> None:
        """Remember an address, on the disk too."""
        with self._lock:
            if peer in self._known:
                return
            self._remember(peer)
            if self._tell is None:
                self._keep()  # under the lock: an older list must not overwrite a newer one
        if self._tell is not None:
            self._tell(peer)
            return
        what = "TLS started at once on a STARTTLS port; from now on its connections start with TLS"
        quirks.log_first(peer, what, habit=Habit.TLS_AT_ONCE)

    def learn(self, peer: str) -> None:
        """Another process has noted an address."""
        with self._lock:
            self._remember(peer)

    def _remember(self, peer: str) -> None:
        self._known[peer] = None
        if len(self._known) > _LIMIT:
            del self._known[next(iter(self._known))]

    def _keep(self) -> None:
        try:
            files.replace(self._path, json.dumps(list(self._known)).encode(), durable=False)
        except OSError as error:
            logger.warning(
                "%s cannot be written: %s; its addresses are forgotten at the next start", self._path, error.strerror
            )


def _load(path: str) -> Sequence[str]:
    try:
        known = jsontext.parse(files.read(path) or b"[]")
    except (OSError, ValueError):
        known = None
    if not isinstance(known, list) or not all(isinstance(item, str) for item in known):
        logger.warning("%s cannot be read; its addresses will be learned again", path)
        return ()
    return known[-_LIMIT:]
