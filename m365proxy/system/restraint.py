"""Keeps a client that guesses, or a fault that stays, from filling the log: what is too much is only counted."""

from __future__ import annotations

import logging
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple

from .networks import client_network

# Lines of one kind about one client or mailbox within so many seconds; fail2ban needs 20 in 10 minutes (etc/fail2ban).
_LINES, _SECONDS = 30, 600.0

# Kinds remembered; the one that began first is forgotten first.
_MOST = 10_000

# Characters of a line that are kept, to say what was left out.
_LONGEST = 500

# Events on a message that have a line each time: somebody has to decide about every one of these.
_ALWAYS = ("failed", "held")

_Kind = Tuple[str, str]


class _Run:
    """Lines of one kind since the first of them."""

    def __init__(self, begun: float):
        self.begun = begun
        self.count = 0
        self.last = (logging.NOTSET, "")  # level and text of the last one that was left out

    @property
    def left_out(self) -> int:
        return max(0, self.count - _LINES)


class Restraint:
    """Decides once for each record, for all handlers.  Any thread may log.

    What can repeat without end are warnings and errors, and all that a client does by itself, without a message being
    accepted.  How many lines were left out is logged with the next line of any kind after the time is over.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic):
        """`logger` tells how many lines were left out."""
        self._logger = logger
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: Dict[_Kind, _Run] = {}  # in the order in which they began

    def allows_line(self, record: logging.LogRecord) -> bool:
        """A filter for handlers that write lines for people."""
        return not self._is_left_out(record)

    def allows_event(self, record: logging.LogRecord) -> bool:
        """A filter for the event log: a client's doings are restrained there, the steps of messages never."""
        event = getattr(record, "event", None) or {}
        return "id" in event or not self._is_left_out(record)

    def _is_left_out(self, record: logging.LogRecord) -> bool:
        known = getattr(record, "left_out", None)
        if known is None:
            over, known = self._decide(record)
            record.left_out = known
            for run in over:
                self._tell(run)
        return bool(known)

    def _decide(self, record: logging.LogRecord) -> "tuple[List[_Run], bool]":
        """The kinds whose time is over and that had lines left out; and whether this one is."""
        kind, now = _kind(record), self._clock()
        with self._lock:
            over = self._take_over(now)
            if kind is None:
                return over, False
            run = self._runs.setdefault(kind, _Run(now))
            run.count += 1
            if run.left_out:
                run.last = record.levelno, record.getMessage()[:_LONGEST]  # a record may have much more with it
            return over, bool(run.left_out)

    def _take_over(self, now: float) -> List[_Run]:
        over = []
        while self._runs:
            kind, run = next(iter(self._runs.items()))
            if now - run.begun < _SECONDS and len(self._runs) <= _MOST:
                break
            del self._runs[kind]
            if run.left_out:
                over.append(run)
        return over

    def _tell(self, run: _Run) -> None:
        level, message = run.last
        extra = {"left_out": False}
        self._logger.log(level, "%d more lines like this one were left out: %s", run.left_out, message, extra=extra)


def _kind(record: logging.LogRecord) -> Optional[_Kind]:
    """What kind of line it is, and about whom; None if all of the kind are written."""
    event = getattr(record, "event", None) or {}
    if event.get("event") in _ALWAYS or (record.levelno < logging.WARNING and ("client" not in event or "id" in event)):
        return None
    # A line that is nothing but a sentence made elsewhere is a kind of its own.
    what = event.get("event") or (record.msg if record.msg != "%s" else record.getMessage())
    whom = client_network(event["client"]) if "client" in event else event.get("mailbox", "")
    return f"{record.name} {what}", str(whom)
