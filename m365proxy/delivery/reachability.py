"""Whether anything can be sent at all: while that is doubtful, a cheap request finds out.

One failed connection may be the trouble of one mailbox.  So it pauses nothing
else: the probe decides, and is repeated while it fails.
"""

from __future__ import annotations

import threading
import time
from typing import Callable

from ..errors import ProxyError
from ..system import log
from ..system.threads import Timer

logger = log.get("courier")

# Seconds between probes: the first, and the longest.  A mailbox whose connections fail rests for as long.
FIRST, LONGEST = 1.0, 15.0

# A pause of at least so many seconds is a long one.
_LONG = 60.0


class Reachability:
    """Any thread may call; the lock is held for memory work only."""

    def __init__(
        self,
        probe: Callable[[], None],
        back: Callable[[bool], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`probe` raises while nothing can be sent; `back(long)` is called when a pause is over, by a timer."""
        self.paused = ""  # why nothing can be sent; "" when it can
        self._probe = probe
        self._back = back
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._timer = Timer(self._ask, "courier-timer")
        self._asking = False  # a probe is due or under way
        self._delay = FIRST
        self._since = 0.0  # monotonic; when the pause began
        self._stopped = False

    def check(self) -> None:
        """A connection failed: find out whether it is the only one."""
        with self._lock:
            self._ask_in(0.0)

    def pause(self, reason: str) -> None:
        """It is known that nothing can be sent, as without a sign-in."""
        with self._lock:
            self._pause(reason)
            self._ask_in(self._delay)

    def tick(self) -> None:
        """To be called now and then: asks if no thread could be started for that when it was due."""
        with self._lock:
            if self.paused:
                self._ask_in(0.0)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._timer.cancel()

    # Under the lock.

    def _pause(self, reason: str) -> None:
        if not (self._stopped or self.paused):
            self._since = self._monotonic()
            logger.warning("sending is paused: %s", reason)
        self.paused = reason

    def _ask_in(self, seconds: float) -> None:
        if not (self._stopped or self._asking):
            self._asking = self._timer.start(seconds)

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
            self._asking = False
            self._delay = FIRST
            was_paused, self.paused = self.paused, ""
            long = self._monotonic() - self._since >= _LONG
        if was_paused:
            logger.info("sending goes on")
            self._back(long)

    def _ask_again(self, reason: str) -> None:
        with self._lock:
            self._asking = False
            self._pause(reason)
            self._ask_in(self._delay)
            self._delay = min(self._delay * 2, LONGEST)
