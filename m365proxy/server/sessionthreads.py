"""Threads that serve one client after another: a new one for each would cost more than a short session does."""

from __future__ import annotations

import threading
from typing import Callable, List, Optional

# Threads that may wait for a client at once, and for how long (seconds).  What a rush needed is soon given back.
_WAITING = 32
_SECONDS = 3.0


class SessionThreads:
    """The threads of one port.  Any thread may call."""

    def __init__(self, protocol: str, waiting: int = _WAITING, seconds: float = _SECONDS):
        """At most `waiting` of them wait, each so many `seconds`; `protocol` is in their names."""
        self.name_waiting = f"waiting {protocol}"
        self.seconds = seconds
        self._most = waiting
        self._lock = threading.Lock()
        self._waiting: List[_SessionThread] = []  # the one that has worked last serves next
        self._closed = False

    def start(self, name: str, serve: Callable[[], object]) -> None:
        """Call `serve`, which raises nothing, in a thread that has this name meanwhile.

        Raises RuntimeError or MemoryError if there is no thread to be had.
        """
        with self._lock:
            thread = self._waiting.pop() if self._waiting else None
        if thread is None:
            _SessionThread(self, name, serve).start()
        else:
            thread.wake(name, serve)

    def close(self) -> None:
        """Those that wait end now, the others after their client."""
        with self._lock:
            self._closed = True
            ended, self._waiting = self._waiting, []
        for thread in ended:
            thread.wake(self.name_waiting, None)

    def add(self, thread: _SessionThread) -> bool:
        """Have a thread wait for a client; False if it has to end."""
        with self._lock:
            if self._closed or len(self._waiting) >= self._most:
                return False
            self._waiting.append(thread)
            return True

    def remove(self, thread: _SessionThread) -> bool:
        """Have a thread wait no more; False if it is being woken."""
        with self._lock:
            if thread not in self._waiting:
                return False
            self._waiting.remove(thread)
            return True


class _SessionThread(threading.Thread):
    def __init__(self, threads: SessionThreads, name: str, serve: Callable[[], object]):
        super().__init__(name=name, daemon=True)
        self._threads = threads
        self._serve: Optional[Callable[[], object]] = serve
        self._woken = threading.Lock()
        self._woken.acquire()

    def wake(self, name: str, serve: Optional[Callable[[], object]]) -> None:
        """Have it serve, or end if there is nothing to serve.  It must have been taken from those waiting."""
        self.name = name
        self._serve = serve
        self._woken.release()

    def run(self) -> None:
        while self._serve is not None:
            self._serve()
            self._serve = None  # the client and its buffers are not kept
            self.name = self._threads.name_waiting
            if not self._threads.add(self):
                return
            if not self._woken.acquire(timeout=self._threads.seconds):
                if self._threads.remove(self):
                    return
                self._woken.acquire()
