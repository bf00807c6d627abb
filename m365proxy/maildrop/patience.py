"""How long a POP3 client has to wait because Graph asks for pauses."""

from __future__ import annotations

import time
from typing import Callable, Optional

from ..errors import Temporary
from ..graph.answer import Answer
from ..graph.client import Graph

# How long a client is kept waiting for one thing it asks for (seconds).
_SECONDS = 45.0


class Patience:
    """Waits as often as Graph asks for a pause, up to `seconds` in all.  For one thread.

    The time of calls that fail counts too, or a silent Graph would be waited
    for again and again; what succeeds may take its time, but no call begins
    once `whole` seconds are over (None: no such end).
    """

    def __init__(
        self,
        graph: Graph,
        mailbox: str,
        sleep: Callable[[float], object],
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
        whole: Optional[float] = None,
    ):
        self._graph = graph
        self._mailbox = mailbox
        self._sleep = sleep
        self._left = seconds
        self._clock = clock
        self._whole = whole
        self._since = clock()

    @property
    def spent(self) -> bool:
        return self._left <= 0

    def ask(self, call: Callable[[], Answer]) -> Answer:
        """`call()`, again after each pause Graph wants; its Temporary when patience ends."""
        while True:
            began = self._clock()
            if self._whole is not None and began - self._since >= self._whole:
                raise Temporary(
                    f"{self._mailbox}: Exchange needs more than {self._whole / 60:.0f} minutes for this. "
                    "Try again later, or show only the newest messages (pop3.max_messages)."
                )
            try:
                return call()
            except Temporary as error:
                self._left -= self._clock() - began
                pause = error.seconds or self._graph.throttled_for(self._mailbox)
                if not self.wait(pause):
                    raise

    def wait(self, seconds: float) -> bool:
        """Pause; False, at once, if that is no time at all or more than is left."""
        if not 0 < seconds <= self._left:
            return False
        self._left -= seconds
        self._sleep(seconds)
        return True
