"""What pages are made of: the monitor's reports, taken no more often than is needed, and what else it keeps."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from ..errors import Temporary
from ..monitoring.monitor import Monitor, Report

# A report is given to everybody who asks within so many seconds after it was begun.
_AGE = 1.0

# How long to wait for a report that is being taken for somebody else (seconds); probes wait for some ten.
_PATIENCE = 5.0


class Source:
    """Any thread may call."""

    def __init__(self, monitor: Monitor, monotonic: Callable[[], float] = time.monotonic):
        self.monitor = monitor
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: Optional[Report] = None
        self._taken = 0.0  # monotonic

    def report(self) -> Report:
        """The state of things.  OSError if the queue cannot be listed, Temporary if that takes too long."""
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
