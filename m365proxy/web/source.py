"""What pages are made of: the monitor's reports, taken no more often than is needed, and what else it keeps."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from ..errors import Temporary
from ..monitoring.monitor import Monitor, Report
from ..system.readiness import Readiness

# A report is given to everybody who asks within so many seconds after it was begun.
_AGE = 1.0

# How long to wait for a report that is being taken for somebody else (seconds); probes wait for some ten.
_PATIENCE = 5.0


# What took one second to make is made again after so many.
_REST = 20.0


class Kept:
    """Something that takes a while to make, kept for a while.  Any thread may call."""

    def __init__(self, monotonic: Callable[[], float]):
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._content = b""
        self._fresh_until = 0.0  # monotonic

    def get(self, make: Callable[[], bytes]) -> bytes:
        """What `make` returned, a moment ago perhaps.  Temporary if it is being made for somebody else for too long."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise Temporary("The page is still being made; the disk is slow. Ask again in a minute.")
        try:
            begun = self._monotonic()
            if not self._content or begun >= self._fresh_until:
                self._content = make()
                done = self._monotonic()
                self._fresh_until = done + max(_AGE, _REST * (done - begun))
            return self._content
        finally:
            self._lock.release()


class Source:
    """Any thread may call."""

    def __init__(
        self,
        monitor: Monitor,
        program: str = "m365proxy",
        monotonic: Callable[[], float] = time.monotonic,
        readiness: Callable[[], Readiness] = lambda: Readiness.READY,
    ):
        """`program`: what starts this program in a shell.  `readiness` may take some seconds."""
        self.readiness = readiness
        self.monitor = monitor
        self.program = program
        self.page, self.still_page = Kept(monotonic), Kept(monotonic)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: Optional[Report] = None
        self._taken = 0.0  # monotonic

    def report(self) -> Report:
        """The state of things.  Temporary if listing the queue takes too long."""
        if not self._lock.acquire(timeout=_PATIENCE):
            raise Temporary("The queue is still being listed; the disk is slow. Ask again in a minute.")
        try:
            now = self._monotonic()
            if self._last is None or now - self._taken >= _AGE:
                self._last = self.monitor.report()
                self._taken = now
            return self._last
        finally:
            self._lock.release()
