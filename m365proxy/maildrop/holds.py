"""Who has which folder open: one POP3 session at a time per mailbox and folder (RFC 1939 section 4)."""

from __future__ import annotations

import math
import threading
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ..errors import InUse
from ..system import log

_log = log.get("holds")

# A session that waited so long for its client's next command gives way to a new one of the same client (seconds).
_ABANDONED = 60.0

# A client that comes back while its own earlier session still deletes waits so long for its end (seconds): less than
# a time without a sign of life, after which it could not be refused any more.
_PATIENCE = 10.0


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
        self.left: Optional[int] = None  # messages it still deletes, before it ends; None: it is not ending
        self.begun = (0, 0.0)  # how many those were at first, and when

    def finishing(self, left: int) -> None:
        """Its session is ending, and only deletes so many messages more.  To be told as they become fewer, by any
        thread."""
        self._holds.finishing(self, left)

    def release(self) -> None:
        """Let the next session in; again is fine, and so is one that another took over.  Any thread may call."""
        self._holds.release(self)


class Holds:
    """The folders that are open.  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, patience: float = _PATIENCE) -> None:
        """`patience`: how long a client waits for the end of its own earlier session (seconds)."""
        self._clock = clock
        self._patience = patience
        self._held: Dict[Tuple[str, str], Hold] = {}
        self._changed = threading.Condition()

    def take(self, mailbox: str, folder: str, login: str, session: Session) -> Hold:
        """The session's hold on a folder, given by its id.

        InUse if another session has it; one of the same login and address that
        waited for its client for over a minute is ended instead, and the end of
        one of the same login that only deletes is waited for a little.
        """
        hold = Hold(self, (mailbox, folder), login, session)
        with self._changed:
            self._changed.wait_for(lambda: not self._is_ending(hold), self._patience)
            before = self._held.get(hold.key)
            if before is not None and self._is_ending(hold):
                raise InUse(self._sentence(before))
            if before is not None and not _gives_way(before, hold):
                raise InUse(f"Another session, from {before.session.peer}, is reading {mailbox}.")
            self._held[hold.key] = hold
        if before is not None:
            _log.info("%s: a session from %s waits no more, a new one takes over", mailbox, session.peer)
            before.session.end()
        return hold

    def finishing(self, hold: Hold, left: int) -> None:
        with self._changed:
            if hold.left is None:
                hold.begun = (left, self._clock())
            hold.left = left

    def release(self, hold: Hold) -> None:
        with self._changed:
            if self._held.get(hold.key) is hold:
                del self._held[hold.key]
                self._changed.notify_all()

    def _is_ending(self, after: Hold) -> bool:
        """Whether an earlier session of the same login has the folder, and only deletes."""
        before = self._held.get(after.key)
        return before is not None and before.left is not None and before.login == after.login

    def _sentence(self, hold: Hold) -> str:
        assert hold.left is not None
        first, since = hold.begun
        when = "later"
        if hold.left < first:
            seconds = math.ceil(hold.left * (self._clock() - since) / (first - hold.left))
            when = f"in about {max(1, seconds)} seconds"
        return f"Your earlier session is still deleting {hold.left} messages; try again {when}."


def _gives_way(before: Hold, after: Hold) -> bool:
    same = (before.login, before.session.peer) == (after.login, after.session.peer)
    return same and before.session.idle() > _ABANDONED
