"""Connections to Graph that wait for their next request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple

from ..system.outbound import Outbound

if TYPE_CHECKING:
    from ..system.httpsession import Session

# Seconds: a connection unused for longer, or older, is not trusted with a request.
IDLE_SECONDS = 20.0
_AGE_SECONDS = 600.0


class Pooled(NamedTuple):
    """A session with at most one connection; times are monotonic."""

    session: Session
    made: float
    used: float


class Sessions:
    """Any thread may call; a session is used by one call at a time."""

    def __init__(
        self,
        outbound: Outbound,
        monotonic: Callable[[], float] = time.monotonic,
        idle_seconds: float = IDLE_SECONDS,
    ):
        self._outbound = outbound
        self._monotonic = monotonic
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._pool: List[Pooled] = []
        self._closed = False

    def take(self) -> Pooled:
        """A session with a connection that is not too old, or a new one."""
        now = self._monotonic()
        with self._lock:
            fresh = [one for one in self._pool if self._is_fresh(one, now)]
            stale = [one for one in self._pool if one not in fresh]
            found = fresh.pop() if fresh else None
            self._pool = fresh
        for one in stale:
            one.session.close()
        return found or Pooled(self._outbound.session(), now, now)

    def give_back(self, pooled: Pooled, reusable: bool) -> None:
        """A call is over; the session is closed unless it is `reusable`."""
        with self._lock:
            kept = reusable and not self._closed
            if kept:
                self._pool.append(pooled._replace(used=self._monotonic()))
        if not kept:
            pooled.session.close()

    def close(self) -> None:
        """Close what is not in use; the others are closed when their calls end."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, []
        for one in pool:
            one.session.close()

    def _is_fresh(self, one: Pooled, now: float) -> bool:
        return now - one.used <= self._idle_seconds and now - one.made <= _AGE_SECONDS
