"""Peculiarities of clients, each logged once."""

from __future__ import annotations

import logging
import threading
from typing import Dict, Tuple

from ..system import events, log

logger = log.get("smtp")

# Peculiarities remembered, the oldest forgotten first; a device has a handful, an attacker can invent any number.
_QUIRKS = 1000


class Quirks:
    """Peculiarities of clients, logged once for each address.  May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Dict[Tuple[str, str], None] = {}

    def note(self, peer: str, what: str, level: int = logging.INFO) -> None:
        with self._lock:
            if (peer, what) in self._seen:
                return
            self._seen[peer, what] = None
            if len(self._seen) > _QUIRKS:
                del self._seen[next(iter(self._seen))]
        logger.log(level, "first seen from %s: %s", peer, what, extra=events.step("first seen", client=peer, what=what))
