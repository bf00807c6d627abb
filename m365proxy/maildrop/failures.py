"""Messages that Graph does not give out, remembered over sessions so that they do not block the others.

Many clients stop at the first -ERR and begin anew in the next session.  So a
message that failed in two sessions is left out of a few of the next listings;
and if Graph itself refuses it again and again, a text takes its place.
"""

from __future__ import annotations

import collections
import threading
import time
from typing import Callable, Container, Dict, FrozenSet, NamedTuple, Optional, Set

from ..errors import ProxyError
from ..graph.answer import Answer, GraphRefused, GraphTrouble, NoAnswer

# Graph's own refusals in so many sessions, over so long (seconds), before a text takes a message's place.
_REFUSALS = 3
_OVER = 300.0

# Each time a message fails it is left out of one listing more than before, up to so many: it may become readable.
_LISTINGS = 10

# A message that Graph lists but twice says is gone, while others come, is left out for so long (seconds).
_GONE_SECONDS = 7 * 86400.0

# How many messages are remembered.
_MOST = 1000


class Cause(NamedTuple):
    """Graph's answer that a message cannot be had."""

    status: int
    code: str
    request_id: str


def cause_of(answer: Answer) -> Cause:
    return Cause(answer.status, answer.code, answer.request_id)


def answer_in(error: ProxyError) -> Optional[Answer]:
    """The answer that Graph gave instead of a message; None if none came, or it was not Graph's."""
    answer = error.answer if isinstance(error, (GraphTrouble, GraphRefused)) else None
    return answer if answer is not None and answer.from_graph else None


class _Failed:
    """What is known of one message; times by the clock."""

    def __init__(self) -> None:
        self.listed = True  # since it last failed; if not, a further failure is not counted
        self.sessions = 0  # sessions in which it failed
        self.refusals = 0  # sessions in which Graph itself said that it cannot be had
        self.gone = 0  # sessions in which Graph itself said that it is not there
        self.gone_until = 0.0
        self.since = 0.0  # when Graph first said one or the other
        self.listings = 0  # listings it is still to be left out of
        self.cause: Optional[Cause] = None  # why a text takes its place; None if none does


class Failures:
    """For all mailboxes and sessions of one run.  Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._failed: "collections.OrderedDict[str, _Failed]" = collections.OrderedDict()  # by the item's id
        self._came: Dict[str, float] = {}  # mailbox -> when a message of it last came whole
        self._lock = threading.Lock()

    @property
    def all(self) -> FrozenSet[str]:
        """The ids of all messages that are remembered."""
        with self._lock:
            return frozenset(self._failed)

    def known(self, id: str) -> bool:
        """Whether it failed the last time it was asked for."""
        with self._lock:
            return id in self._failed

    def forget(self, mailbox: str, id: str) -> None:
        """The message came whole: what was noted of it is forgotten."""
        with self._lock:
            self._came[mailbox] = self._clock()
            self._failed.pop(id, None)

    def give_up(self, id: str, cause: Cause) -> Cause:
        """A text takes its place from now on; the cause that the text names, which stays the first."""
        with self._lock:
            failed = self._remembered(id)
            failed.cause = failed.cause or cause
            return failed.cause

    def note(self, mailbox: str, id: str, error: ProxyError) -> Optional[Cause]:
        """A client asked for it and did not get it; the cause if a text is to take its place.

        That is so after Graph's own answers in three sessions over five minutes,
        while another message of the mailbox came.
        """
        answer = answer_in(error)
        if answer is None and not (isinstance(error, NoAnswer) and error.maybe_processed):
            return None  # it was not even asked
        if answer is not None and answer.status in (401, 429):
            return None  # this is about the sign-in, or about how much was asked
        # 503 is about Exchange, not about the message.
        refusal = answer if answer is not None and answer.status != 503 else None
        with self._lock:
            failed = self._remembered(id)
            now = self._clock()
            if failed.listed:
                self._count(failed, refusal, now)
            # If no other message comes either, the mailbox is to blame: it may be being moved.
            if refusal is not None and self._came.get(mailbox, failed.since) > failed.since:
                self._judge(failed, refusal, now)
            return failed.cause

    def leave_out(self, ids: Container[str]) -> Set[str]:
        """The messages of a new listing that are to be left out of it.  Each call counts as one listing."""
        out = set()
        with self._lock:
            now = self._clock()
            for id, failed in self._failed.items():
                if id not in ids:
                    continue
                if now < failed.gone_until:
                    out.add(id)
                elif failed.listings and failed.cause is None:
                    failed.listings -= 1
                    out.add(id)
                else:
                    failed.listed = True
        return out

    def given_up(self, ids: Container[str]) -> Dict[str, Cause]:
        """Which of these messages a text takes the place of, and why."""
        with self._lock:
            return {id: one.cause for id, one in self._failed.items() if one.cause is not None and id in ids}

    # -- with the lock held -----------------------------------------------

    def _remembered(self, id: str) -> _Failed:
        failed = self._failed.setdefault(id, _Failed())
        if len(self._failed) > _MOST:
            self._failed.popitem(last=False)
        return failed

    def _count(self, failed: _Failed, refusal: Optional[Answer], now: float) -> None:
        failed.listed = False
        failed.sessions += 1
        failed.listings = min(failed.sessions - 1, _LISTINGS)
        if refusal is None:
            return
        if not (failed.gone or failed.refusals):
            failed.since = now
        if refusal.status == 404:
            failed.gone += 1
        else:
            failed.refusals += 1

    def _judge(self, failed: _Failed, refusal: Answer, now: float) -> None:
        if refusal.status == 404:
            if failed.gone >= 2:
                failed.gone_until = now + _GONE_SECONDS
        elif failed.cause is None and failed.refusals >= _REFUSALS and now - failed.since >= _OVER:
            failed.cause = cause_of(refusal)
