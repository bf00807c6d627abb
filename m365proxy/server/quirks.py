"""Peculiarities of clients, each logged once."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Dict, Optional, Tuple

from ..system import events, log
from ..system.choices import Word

logger = log.get("smtp")

# Peculiarities remembered, the oldest forgotten first; a device has a handful, an attacker can invent any number.
_QUIRKS = 1000

# What is told while somebody watches, at most: a flood of clients must not fill the event log.
_TALES = 2000


class Habit(Word):
    """A peculiarity that something can be set for; the words are in the event log."""

    BARE_LF = "bare LF"  # and it is not allowed to
    LF_ONLY = "LF only"  # and it is allowed to
    NO_AUTH = "no AUTH"  # it was offered none, and left
    OLD_TLS = "old TLS"
    TLS_AT_ONCE = "TLS at once"


# Is told an address, what it does, the level of its line, and which habit it is.
First = Callable[[str, str, int, Optional[Habit]], object]


class Quirks:
    """Peculiarities of clients, logged once for each address.  May be used from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, first: Optional[First] = None) -> None:
        """`first` is told what is seen for the first time, instead of the log."""
        self._clock = clock
        self._first = first or log_first
        self._watched_until = float("-inf")
        self._tales = 0
        self._lock = threading.Lock()
        self._seen: Dict[Tuple[str, str], None] = {}

    def note(self, peer: str, what: str, level: int = logging.INFO, habit: Optional[Habit] = None) -> None:
        with self._lock:
            if (peer, what) in self._seen:
                return
            self._seen[peer, what] = None
            if len(self._seen) > _QUIRKS:
                del self._seen[next(iter(self._seen))]
        self._first(peer, what, level, habit)

    def watch(self, seconds: float) -> None:
        """Somebody watches for so long: log each peculiarity once more, and what `tell` says meanwhile."""
        with self._lock:
            self._seen.clear()
            self._watched_until = self._clock() + seconds
            self._tales = 0

    def tell(self, peer: str, what: str) -> None:
        """Log what a client does, if somebody watches."""
        if self._clock() >= self._watched_until or self._tales >= _TALES:
            return
        self._tales += 1
        logger.info("seen from %s: %s", peer, what, extra=events.step("seen", client=peer, what=what))


def log_first(peer: str, what: str, level: int = logging.INFO, habit: Optional[Habit] = None) -> None:
    """The line on a peculiarity that is seen for the first time."""
    extra = events.step("first seen", client=peer, what=what, habit=habit and habit.value)
    logger.log(level, "first seen from %s: %s", peer, what, extra=extra)
