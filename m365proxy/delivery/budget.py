"""How much may be uploaded to a mailbox in a period: Graph accepts 150 MB in 5 minutes (throttling-limits.md)."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, Tuple

# Octets of request bodies in a window of so many seconds; some are left for what is not counted here.
MOST, WINDOW = 140_000_000, 300.0


class _Window:
    """What was uploaded to a mailbox lately."""

    def __init__(self) -> None:
        self.uploads: Deque[Tuple[float, int]] = deque()  # (when by the monotonic clock, octets)
        self.octets = 0  # of all of them

    def book(self, now: float, octets: int) -> None:
        self.uploads.append((now, octets))
        self.octets += octets

    def expire(self, now: float) -> None:
        while self.uploads and self.uploads[0][0] <= now - WINDOW:
            self.octets -= self.uploads.popleft()[1]


class UploadBudget:
    """Makes uploads wait for their turn.  Any thread may call; all uploads to a mailbox share its budget."""

    def __init__(
        self,
        *,
        most: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`most`: octets in a window; `sleep` may raise to end a wait early, as when the program stops."""
        self._most = most
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._windows: Dict[str, _Window] = {}

    def spend(self, mailbox: str, octets: int) -> None:
        """Wait until `octets` more may be sent to the mailbox, and count them as sent."""
        while True:
            wait = self._try(mailbox.lower(), octets)
            if not wait:
                return
            self._sleep(wait)

    def _try(self, mailbox: str, octets: int) -> float:
        """Seconds until another try makes sense; 0 if the octets are booked."""
        with self._lock:
            now = self._monotonic()
            window = self._windows.setdefault(mailbox, _Window())
            window.expire(now)
            if window.uploads and window.octets + octets > self._most:
                return max(window.uploads[0][0] + WINDOW - now, 0.01)
            window.book(now, octets)
            return 0.0
