"""Deadlines of calls to Graph: a call whose time is over is broken off, whatever still trickles in."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Optional, Set

from ..system.threads import try_start
from .answer import NoAnswer

if TYPE_CHECKING:
    from ..system.httpsession import Session

# Seconds after which the thread ends if there is no other call.
_IDLE_SECONDS = 1.0


class Deadline:
    """One call's.  `passed` once it was broken off, and for good."""

    def __init__(self, deadlines: Deadlines, session: Session, label: str):
        """`label`: the call, for the log."""
        self._deadlines = deadlines
        self.session = session
        self.label = label
        self.passed = False
        self.end = 0.0  # monotonic
        self.begun = time.monotonic()

    def arm(self, seconds: float) -> None:
        """Give the call so many seconds from now on."""
        self._deadlines.arm(self, seconds)

    def disarm(self) -> None:
        """Stop the time: nothing is waited for now, or another call may use the session."""
        self._deadlines.disarm(self)


class Deadlines:
    """Watches all calls in one thread, which exists only while calls are under way.  Any thread may call."""

    def __init__(self, logger: logging.Logger) -> None:
        """`logger` gets a line for each call that is broken off because its time is over."""
        self._logger = logger
        self._changed = threading.Condition()
        self._armed: Set[Deadline] = set()
        self._thread: Optional[threading.Thread] = None
        self._over = False

    def arm(self, deadline: Deadline, seconds: float) -> None:
        with self._changed:
            if self._over:
                raise NoAnswer("The program is being stopped.", False)
            deadline.end = time.monotonic() + seconds
            sooner = all(deadline.end < other.end for other in self._armed)
            self._armed.add(deadline)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="graph-deadlines", daemon=True)
                if try_start(thread):  # else the next call tries again
                    self._thread = thread
            elif sooner:
                self._changed.notify()

    def disarm(self, deadline: Deadline) -> None:
        with self._changed:
            self._armed.discard(deadline)

    def break_off(self) -> None:
        """Let every call that waits for Graph fail now, and none begin any more: the program stops."""
        with self._changed:
            self._over = True
            for deadline in self._armed:
                self._pass(deadline)
            self._armed.clear()

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for deadline in [one for one in self._armed if one.end <= now]:
                    self._armed.discard(deadline)
                    self._pass(deadline)
                    self._logger.info(  # who asked says what follows
                        "%s: no complete answer in time; the call was broken off after %d s",
                        deadline.label,
                        now - deadline.begun,
                    )
                if not self._armed and not self._changed.wait(_IDLE_SECONDS) and not self._armed:
                    self._thread = None
                    return
                if self._armed:
                    left = min(one.end for one in self._armed) - time.monotonic()
                    self._changed.wait(max(0.0, min(left, _IDLE_SECONDS)))

    @staticmethod
    def _pass(deadline: Deadline) -> None:
        deadline.passed = True
        deadline.session.interrupt()
