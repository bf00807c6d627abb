"""The places that requests to one mailbox share."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Deque

# Outlook service limit per app and mailbox (throttling-limits.md).
SLOTS = 4

# Seconds a place stays empty after its request is over: Exchange may count a request a little longer than we see
# it, and answers 429 to the next one then.
GAP = 0.003


class Slots:
    """At most SLOTS requests at a time, counted as Exchange may count them.  Any thread may call.

    The gap costs nothing as long as a place is free that was not used a moment ago.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._running = 0
        self.wanted = 0  # calls that have a place or wait for one
        self._ended: Deque[float] = deque()  # when the latest requests were over (monotonic)

    @property
    def spare(self) -> int:
        """Places that no call has or waits for."""
        return max(0, SLOTS - self.wanted)

    def enter(self, seconds: float) -> bool:
        """Take a place, waiting at most `seconds` for it; whether there was one."""
        with self._changed:
            deadline = self._monotonic() + seconds
            self.wanted += 1
            while True:
                now = self._monotonic()
                while self._ended and self._ended[0] + GAP <= now:
                    self._ended.popleft()
                if self._running + len(self._ended) < SLOTS:
                    self._running += 1
                    return True
                if now >= deadline:
                    self.wanted -= 1
                    return False
                until = self._ended[0] + GAP if self._running < SLOTS else deadline
                self._changed.wait(max(0.0, min(until, deadline) - now))

    def leave(self) -> None:
        """Give a place back."""
        with self._changed:
            self._running -= 1
            self.wanted -= 1
            self._ended.append(self._monotonic())
            self._changed.notify_all()
