"""What many threads write to one file or stream, one of them writes for all (databases call it group commit).

While a thread writes, others run.  If it held a lock meanwhile, they would run up against that, one after the other,
and wait by turns for the lock and for the interpreter.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import threading
from typing import Any, Callable, Deque, Generic, Iterator, List, Optional, Set, TypeVar

T = TypeVar("T")

# How often a thread writes what others have put in meanwhile, before a thread of its own does.
_ROUNDS = 20

# What may wait while a write hangs; what comes then is lost.
_MOST = 1000

# What may wait for the end of a `together`.
_TOGETHER = 100


class _Gathered(threading.local):
    """Of each thread: the writers into which it has put something; None outside of `together`."""

    writers: Optional[Set[GroupWriter[Any]]] = None


_gathered = _Gathered()


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A with block at whose end all is written that this thread has put into any writer; it cannot be nested.

    Another thread may write it sooner.
    """
    _gathered.writers = set()
    try:
        yield
    finally:
        writers, _gathered.writers = _gathered.writers, None
        for writer in writers:
            writer.write_waiting()


class GroupWriter(Generic[T]):
    """Any thread may call.  All is written in the order in which it was put in, and nothing twice."""

    def __init__(self, write: Callable[[List[T]], object], tell_lost: Callable[[int], object]):
        """`write`: writes some, is called by one thread at a time, and must not raise.

        `tell_lost`: called as `write`, when a write has ended during which so many had to be thrown away.
        """
        self._write = write
        self._tell_lost = tell_lost
        self._turn = threading.Lock()  # of who writes; others never wait for it
        self._waiting: Deque[T] = collections.deque()
        self._counting = threading.Lock()
        self._lost = 0

    def put(self, item: T) -> None:
        """It is written when this returns, unless another thread is writing, which does it at once after that.

        In `together` it waits for the end of the block, if not too much waits already.
        """
        if len(self._waiting) >= _MOST:
            with self._counting:
                self._lost += 1
            return
        self._waiting.append(item)
        if _gathered.writers is None or len(self._waiting) >= _TOGETHER:
            self.write_waiting()
        else:
            _gathered.writers.add(self)

    def write_waiting(self) -> None:
        """Write what waits, unless another thread is writing, which does it at once after that."""
        self._write_waiting(_ROUNDS)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A with block in which nothing is written, after all that was put in before."""
        try:
            with self._turn:
                self._write_some()
                yield
        finally:
            self._write_waiting(_ROUNDS)

    def _write_waiting(self, rounds: float) -> None:
        while self._waiting and self._turn.acquire(blocking=False):
            try:
                self._write_some()
            finally:
                self._turn.release()
            rounds -= 1
            if not rounds and self._waiting and self._hand_over():
                return

    def _hand_over(self) -> bool:
        """Let a thread go on that has nothing else to do; False if the system has none left."""
        thread = threading.Thread(target=self._write_waiting, args=(math.inf,), name="log-writer", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        return True

    def _write_some(self) -> None:
        """What waits now; in the turn."""
        items = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if items:
            self._write(items)
        if self._lost:
            with self._counting:
                lost, self._lost = self._lost, 0
            self._tell_lost(lost)


class UnlockedHandler(logging.Handler):
    """A handler of the log that needs no lock: what it writes with has its own order."""

    def handle(self, record: logging.LogRecord) -> bool:
        """As of all handlers, but without a lock."""
        is_written = bool(self.filter(record))
        if is_written:
            self.emit(record)
        return is_written
