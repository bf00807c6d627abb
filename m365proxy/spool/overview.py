"""The queue at a glance: how many messages are in which state, since when, and why they wait."""

from __future__ import annotations

import calendar
import collections
import os
import threading
import time
from typing import Callable, Dict, Iterable, List, Tuple, TypedDict

from ..errors import Temporary
from ..system.clock import clock_is_plausible
from .spool import Spool, tag_of
from .state import Entry, Phase, Place, State

# Of so many messages, the oldest, the reasons are read: each is a file of its own.
_READ = 500

# A listing that took one second is not repeated within so many: looking takes 2 % of the time at most.
_REST = 50.0

# A directory that was changed so recently (nanoseconds) may change again without another time of change.
_RECENT = 2_000_000_000


class Group(TypedDict):
    """Messages of one mailbox in the same state for the same reason.

    `status` and `code` are those of the oldest: see `spool.state.State`.
    """

    state: str  # "waiting", "sending" (only if an attempt failed before), "held" or "failed"
    tag: str  # of the mailbox: see `spool.mailbox_tag`
    reason: str  # "": not tried yet
    status: str
    code: str
    count: int
    oldest: float  # seconds since 1970, by the machine's clock at acceptance; 0 if that was wrong


class QueueView(TypedDict):
    """The queue.  `oldest`: when the oldest message was accepted that waits or is being sent; 0: none."""

    waiting: int
    sending: int
    held: int
    failed: int
    oldest: float
    groups: List[Group]  # the largest first
    unread: int  # messages beyond those whose reasons were read
    waiting_by_tag: Dict[str, int]  # waiting or being sent, by the mailbox's tag


EMPTY = QueueView(waiting=0, sending=0, held=0, failed=0, oldest=0.0, groups=[], unread=0, waiting_by_tag={})


class Overview:
    """Looks at one queue, but no more often than is cheap, and not again before something has changed."""

    def __init__(
        self,
        spool: Spool,
        monotonic: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ):
        """`clock_ns`: this machine's clock, that of its files, nanoseconds since 1970."""
        self._spool = spool
        self._clock_ns = clock_ns
        self._monotonic = monotonic
        self._view = EMPTY
        self._seen: Tuple[int, ...] = ()
        self._rests_until = 0.0  # monotonic
        self._lock = threading.Lock()

    def look(self) -> QueueView:
        """The queue as it is, or was a moment ago if it is long.  OSError if it cannot be listed.

        There is no directory before the first start: the queue is empty then.
        Any thread may call; those that come while it is listed wait for that.
        """
        with self._lock:
            return self._look()

    @property
    def latest(self) -> QueueView:
        """The queue as it was seen last."""
        return self._view

    def _look(self) -> QueueView:
        begun = self._monotonic()
        if begun < self._rests_until:
            return self._view
        seen = tuple(_changed(self._spool.path(Entry("x", place))) for place in Place)
        if seen != self._seen:
            self._view = _view(self._spool) if any(seen) else EMPTY
            self._seen = seen if abs(self._clock_ns() - max(seen)) > _RECENT else ()
            self._rests_until = self._monotonic() + _REST * (self._monotonic() - begun)
        return self._view

    def refusal(self) -> str:
        """Why new mail is refused for now; "" if it is accepted."""
        try:
            self._spool.check_room()
        except Temporary as error:
            return str(error)
        return ""


def _changed(path: str) -> int:
    """When the directory of a path was changed last (ns); 0 if there is none."""
    try:
        return os.stat(os.path.dirname(path)).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _view(spool: Spool) -> QueueView:
    entries = {entry.id: entry for entry in spool.entries()}  # one that moves meanwhile is counted once
    counts = collections.Counter(state_of(entry) for entry in entries.values())
    waiting = [id for id, entry in entries.items() if entry.is_waiting]
    # Of those that are being sent, only the ones that may have been sent already wait for anything.
    reasons = [entry for entry in entries.values() if entry.phase is not Phase.CLAIMED]
    reasons.sort(key=lambda entry: (entry.place is Place.FAILED, entry.id))
    return QueueView(
        waiting=counts["waiting"],
        sending=counts["sending"],
        held=counts["held"],
        failed=counts["failed"],
        oldest=_oldest(waiting),
        groups=_groups(spool, reasons[:_READ]),
        unread=max(0, len(reasons) - _READ),
        waiting_by_tag=dict(collections.Counter(map(tag_of, waiting))),
    )


def _groups(spool: Spool, entries: List[Entry]) -> List[Group]:
    found: Dict[Tuple[str, str, str], List[Tuple[Entry, State]]] = {}
    for entry in entries:
        state = spool.state(entry.id) or State()
        if state.error or entry.phase is not Phase.POSTING:
            found.setdefault((state_of(entry), tag_of(entry.id), state.error), []).append((entry, state))
    groups = [
        Group(
            state=word,
            tag=tag,
            reason=reason,
            status=members[0][1].status,
            code=members[0][1].code,
            count=len(members),
            oldest=_oldest(entry.id for entry, _ in members),
        )
        for (word, tag, reason), members in found.items()
    ]
    return sorted(groups, key=lambda group: -group["count"])


def state_of(entry: Entry) -> str:
    """ "waiting", "sending", "held" or "failed"."""
    if entry.place is Place.CUR:
        return "held" if entry.phase is Phase.HELD else "sending"
    return "waiting" if entry.place is Place.NEW else "failed"


def accepted_time(id: str) -> float:
    """When a message was accepted (seconds since 1970), from its id; 0 if it is none."""
    try:
        return float(calendar.timegm(time.strptime(id[:15], "%Y%m%dT%H%M%S")))
    except (ValueError, OverflowError):
        return 0.0


def _oldest(ids: Iterable[str]) -> float:
    """When the first of them was accepted while the clock was right; 0 if none was."""
    # An ID begins with its time: only the first ones need to be read.
    return next(filter(clock_is_plausible, map(accepted_time, sorted(ids))), 0.0)


def seconds_since(moment: float, now: float) -> int:
    """Whole seconds since a moment; 0 if that is 0, or in the future because a clock was set."""
    return max(0, int(now - moment)) if moment else 0
