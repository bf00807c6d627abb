"""The exclusive lock on a maildrop: one POP3 session at a time per mailbox and folder (RFC 1939 section 4)."""

from __future__ import annotations

import math
import threading
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ..errors import InUse
from ..system import log

_log = log.get("locks")

# A session that waited so long for its client's next command gives way to a new one of the same client (seconds).
_ABANDONED = 60.0

# A client that comes back while its own earlier session still deletes waits so long for its end (seconds).  It is less
# than the time until the first sign of life, after which the client could not be refused any more.
_PATIENCE = 10.0


class SessionHandle(NamedTuple):
    """What the locks may ask of a session that has one."""

    peer: str
    idle: Callable[[], float]  # seconds since it began to wait for a command; 0 while it does something
    end: Callable[[], object]


class FolderLock:
    """One session's lock on a folder, until it is released."""

    def __init__(self, locks: FolderLocks, key: Tuple[str, str], login: str, session: SessionHandle):
        self._locks = locks
        self.key = key
        self.login = login
        self.session = session
        self.left: Optional[int] = None  # messages its session still deletes before it ends; None: it is not ending
        self.begun = (0, 0.0)  # how many those were at first, and when

    def report_left(self, left: int) -> None:
        """Its session is ending and has so many messages left to delete.  Any thread may call."""
        self._locks.report_left(self, left)

    def release(self) -> None:
        """Let the next session in.  Does nothing if that was done, or another took over.  Any thread may call."""
        self._locks.release(self)


class FolderLocks:
    """The folders that are open.  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, patience: float = _PATIENCE) -> None:
        """`patience`: how long a client waits for the end of its own earlier session (seconds)."""
        self._clock = clock
        self._patience = patience
        self._locks: Dict[Tuple[str, str], FolderLock] = {}
        self._changed = threading.Condition()

    def acquire(self, mailbox: str, folder: str, login: str, session: SessionHandle) -> FolderLock:
        """Lock a folder, given by its id, for a session.

        InUse if another session has it.  But a session of the same login and
        address that has waited for its client for over a minute is ended
        instead; and if one of the same login is only deleting, its end is
        waited for a little.
        """
        lock = FolderLock(self, (mailbox, folder), login, session)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_ending(lock), self._patience)
            before = self._locks.get(lock.key)
            if before is not None and self._is_ending(lock):
                raise InUse(self._sentence(before))
            if before is not None and not _gives_way(before, lock):
                raise InUse(f"Another session, from {before.session.peer}, is reading {mailbox}.")
            self._locks[lock.key] = lock
        if before is not None:
            _log.info("%s: an idle session from %s is ended, because a new one takes over", mailbox, session.peer)
            before.session.end()
        return lock

    def report_left(self, lock: FolderLock, left: int) -> None:
        with self._changed:
            if lock.left is None:
                lock.begun = (left, self._clock())
            lock.left = left

    def release(self, lock: FolderLock) -> None:
        with self._changed:
            if self._locks.get(lock.key) is lock:
                del self._locks[lock.key]
                self._changed.notify_all()

    def _is_ending(self, wanted: FolderLock) -> bool:
        """Whether an earlier session of the same login has the folder, and only deletes."""
        before = self._locks.get(wanted.key)
        return before is not None and before.left is not None and before.login == wanted.login

    def _sentence(self, lock: FolderLock) -> str:
        assert lock.left is not None
        first, since = lock.begun
        when = "later"
        if lock.left < first:
            seconds = math.ceil(lock.left * (self._clock() - since) / (first - lock.left))
            when = f"in about {max(1, seconds)} seconds"
        return f"Your earlier session is still deleting {lock.left} messages; try again {when}."


def _gives_way(before: FolderLock, wanted: FolderLock) -> bool:
    same = (before.login, before.session.peer) == (wanted.login, wanted.session.peer)
    return same and before.session.idle() > _ABANDONED
