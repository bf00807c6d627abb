"""Whether anything can be sent at all: a cheap request tells, while that is doubtful.

One failed connection may be the business of one mailbox.  So it pauses
nothing: the probe decides, and goes on asking while the answer is no.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from ..errors import ProxyError
from ..system import log
from ..system.threads import try_start

logger = log.get("courier")

# Seconds between probes: the first, and the longest.
FIRST, LONGEST = 1.0, 15.0

# A pause of at least so many seconds is a long one.
_LONG = 60.0


class Reachability:
    """Any thread may call; the lock is held for memory work only."""

    def __init__(self, probe: Callable[[], None], back: Callable[[bool], None]):
        """`probe` raises while nothing can be sent; `back(long)` is called when a pause is over, by a timer."""
        self.away = ""  # why nothing can be sent; "" when it can
        self._probe = probe
        self._back = back
        self._lock = threading.Lock()
        self._timer: Optional[threading.Timer] = None  # set while a probe is due or under way
        self._delay = FIRST
        self._since = 0.0  # monotonic
        self._stopped = False

    def doubt(self) -> None:
        """A connection failed: find out whether it is the only one."""
        with self._lock:
            self._ask_in(0.0)

    def lose(self, reason: str) -> None:
        """It is known that nothing can be sent, as without a sign-in."""
        with self._lock:
            self._pause(reason)
            self._ask_in(self._delay)

    def tick(self) -> None:
        """To be called now and then: asks if no thread could be started for that when it was due."""
        with self._lock:
            if self.away:
                self._ask_in(0.0)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    # Under the lock.

    def _pause(self, reason: str) -> None:
        if not (self._stopped or self.away):
            self._since = time.monotonic()
            logger.warning("sending is paused: %s", reason)
        self.away = reason

    def _ask_in(self, seconds: float) -> None:
        if self._stopped or self._timer is not None:
            return
        timer = threading.Timer(seconds, self._ask)
        timer.daemon = True
        timer.name = "courier-timer"
        if try_start(timer):
            self._timer = timer

    # In the timer's thread.

    def _ask(self) -> None:
        try:
            self._probe()
        except Exception as error:  # were this loop to end, nothing would ever be sent again
            if not isinstance(error, ProxyError):
                logger.exception("unexpected error while asking whether Graph can be reached")
            self._ask_again(str(error))
            return
        with self._lock:
            self._timer = None
            self._delay = FIRST
            was_away, self.away = self.away, ""
            long = time.monotonic() - self._since >= _LONG
        if was_away:
            logger.info("sending goes on")
            self._back(long)

    def _ask_again(self, reason: str) -> None:
        with self._lock:
            self._timer = None
            self._pause(reason)
            self._ask_in(self._delay)
            self._delay = min(self._delay * 2, LONGEST)
