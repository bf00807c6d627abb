"""The places that requests to one mailbox share."""

from __future__ import annotations

import bisect
import threading
import time
from typing import Callable, List

# Outlook service limit per app and mailbox (throttling-limits.md).
SLOTS = 4

# Seconds a place stays empty after its request is over: Exchange may count a request a little longer than we see
# it, and answers 429 to the next one then.
GAP = 0.003

# The same for a request that was broken off: Exchange learns of it a little later, or, where it had not begun to
# answer, when it is done with the request.
BROKEN_OFF = 0.05
UNANSWERED = 1.0


def share(nodes: int) -> int:
    """The places of one of several programs that send for the same mailboxes, at least one."""
    return max(1, SLOTS // nodes)


class Slots:
    """At most so many requests at a time, counted as Exchange may count them.  Any thread may call.

    The gap costs nothing as long as a place is free that was not used a moment ago.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, number: int = SLOTS) -> None:
        self.number = number
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._running = 0
        self.wanted = 0  # calls that have a place or wait for one
        self._empty: List[float] = []  # until when the places of the latest requests stay empty (monotonic), sorted

    @property
    def spare(self) -> int:
        """Places that no call has or waits for, and that may be taken in a moment."""
        with self._changed:
            soon = self._monotonic() + BROKEN_OFF
            return max(0, self.number - self.wanted - sum(1 for until in self._empty if until > soon))

    def enter(self, seconds: float) -> bool:
        """Take a place, waiting at most `seconds` for it; whether there was one."""
        with self._changed:
            deadline = self._monotonic() + seconds
            self.wanted += 1
            while True:
                now = self._monotonic()
                del self._empty[: bisect.bisect_right(self._empty, now)]
                if self._running + len(self._empty) < self.number:
                    self._running += 1
                    return True
                if now >= deadline:
                    self.wanted -= 1
                    return False
                until = self._empty[0] if self._running < self.number else deadline
                self._changed.wait(max(0.0, min(until, deadline) - now))

    def leave(self, gap: float = GAP) -> None:
        """Give a place back; it stays empty for `gap` seconds."""
        with self._changed:
            self._running -= 1
            self.wanted -= 1
            bisect.insort(self._empty, self._monotonic() + gap)
            self._changed.notify_all()
