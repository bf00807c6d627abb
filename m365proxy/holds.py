"""Who has which folder open: one POP3 session at a time per mailbox and folder (RFC 1939 section 4)."""

from __future__ import annotations

import threading
from typing import Callable, Dict, NamedTuple, Tuple

from . import log
from .errors import InUse

_log = log.get("holds")

# A session that waited so long for its client's next command gives way to a new one of the same client (seconds).
_ABANDONED = 60.0


class Session(NamedTuple):
    """What the registry may ask of whoever holds a folder."""

    peer: str
    idle: Callable[[], float]  # seconds since it began to wait for a command; 0 while it does something
    end: Callable[[], object]


class Hold:
    """One session's right to a folder, until it is released."""

    def __init__(self, holds: Holds, key: Tuple[str, str], login: str, session: Session):
        self._holds = holds
        self.key = key
        self.login = login
        self.session = session

    def release(self) -> None:
        """Let the next session in; again is fine, and so is one that another took over.  Any thread may call."""
        self._holds.release(self)


class Holds:
    """The folders that are open.  Any thread may call."""

    def __init__(self) -> None:
        self._held: Dict[Tuple[str, str], Hold] = {}
        self._lock = threading.Lock()

    def take(self, mailbox: str, folder: str, login: str, session: Session) -> Hold:
        """The session's hold on a folder, given by its id.

        InUse if another session has it; one of the same login and address that
        waited for its client for over a minute is ended instead.
        """
        hold = Hold(self, (mailbox, folder), login, session)
        with self._lock:
            before = self._held.get(hold.key)
            if before is not None and not _gives_way(before, hold):
                raise InUse(f"Another session, from {before.session.peer}, is reading {mailbox}.")
            self._held[hold.key] = hold
        if before is not None:
            _log.info("%s: a session from %s waits no more, a new one takes over", mailbox, session.peer)
            before.session.end()
        return hold

    def release(self, hold: Hold) -> None:
        with self._lock:
            if self._held.get(hold.key) is hold:
                del self._held[hold.key]


def _gives_way(before: Hold, after: Hold) -> bool:
    same = (before.login, before.session.peer) == (after.login, after.session.peer)
    return same and before.session.idle() > _ABANDONED
