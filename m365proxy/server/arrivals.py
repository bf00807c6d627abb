"""Clients that connect again and again and achieve nothing have to wait for their next greeting."""

from __future__ import annotations

import collections
import threading
import time
from typing import Callable, Tuple

# Connections of one client that may achieve nothing (no login, no message), and how many are forgiven in a second.
# A monitor that connects every second is never slowed down.
_FREE = 60
_FORGIVEN = 1.0

# The pause before a greeting (seconds): one step more for each further connection, up to the longest.  Clients wait
# much longer for a greeting, and an orderly stop for a session.
_STEP = 0.05
_LONGEST = 2.0

# Clients remembered; the one that has been away longest is forgotten first.
_MOST = 10_000


class Arrivals:
    """Counts connections that achieved nothing, by client (`networks.client_network`).  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: "collections.OrderedDict[str, Tuple[float, float]]" = collections.OrderedDict()  # (count, when)

    def note_idle(self, client: str) -> None:
        """A connection of this client has ended and achieved nothing."""
        with self._lock:
            self._idle[client] = (self._count(client) + 1, self._clock())
            self._idle.move_to_end(client)
            if len(self._idle) > _MOST:
                self._idle.popitem(last=False)

    def pause(self, client: str) -> float:
        """Seconds that the client's next connection has to wait for its greeting."""
        with self._lock:
            return min(max(0.0, self._count(client) - _FREE) * _STEP, _LONGEST)

    def _count(self, client: str) -> float:
        count, when = self._idle.get(client, (0.0, 0.0))
        return max(0.0, count - (self._clock() - when) * _FORGIVEN)
