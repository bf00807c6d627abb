"""Lanes: which message of which mailbox may be tried, and when.

Each mailbox has a lane of its own, so that a throttled or broken one delays no
other.  Everything here is in memory and returns at once.
"""

from __future__ import annotations

import collections
import enum
import heapq
import threading
import time
from typing import Callable, Deque, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple, TypedDict

from ..graph.slots import SLOTS
from ..spool.spool import Claim, mailbox_tag, tag_of
from ..spool.state import Entry
from . import reachability

# A message that is due at this (monotonic) time is tried before all that came later.
AT_ONCE = 0.0

# Of so many messages of a mailbox it is known that they were sent, and under which request-id.
_SENT_KEPT = 8


class Work(enum.Enum):
    """What is to be done with a message in its turn."""

    SEND = "send"
    LOOK = "look"  # it may have been sent: find out
    REMOVE = "remove"  # it was sent, but the disk would not remove its file
    RESCUE = "rescue"  # it is left in cur/: the disk would not let its file be moved or read


class Turn(NamedTuple):
    """When a message is tried next, and what is done then."""

    due: float  # monotonic
    work: Work = Work.SEND
    claim: Optional[Claim] = None  # of LOOK and REMOVE, which keep it


class Job(NamedTuple):
    """A message whose turn it is."""

    lane: "Lane"
    id: str
    work: Work
    claim: Optional[Claim]
    flushes: int  # how often all messages had been made due by then


class Outlook(NamedTuple):
    """Whether a message may be tried now, and in how many seconds the next one that may not; None if there is none."""

    is_due: bool
    wait: Optional[float]


class SentMail(TypedDict):
    """How a message was sent: the request-id of Graph's 202, and the mailbox its draft was in ("": there was none).

    There was no 202 if the message was found to be sent afterwards.
    """

    request_id: str
    draft: str


class LaneStatus(TypedDict):
    """What `status` shows of a mailbox.  Times are seconds since 1970, 0: never."""

    waiting: int
    sending: int
    last_delivery: float
    last_error: str
    last_error_time: float
    sent: Dict[str, SentMail]  # the latest, by the message's id


class Lane:
    """One mailbox's messages.  Any thread may call the public methods."""

    def __init__(self, mailbox: str, lock: threading.RLock, monotonic: Callable[[], float], slots: int):
        self.mailbox = mailbox
        self.waiting: List[Tuple[float, str]] = []  # a heap of (due by the monotonic clock, id)
        self.kept: Dict[str, Turn] = {}  # by id, of the waiting: the turns that are for something else than to send
        self.active = 0  # messages in the hands of workers
        self.last_delivery = 0.0  # wall clock
        self._sent: Deque[Tuple[str, SentMail]] = collections.deque(maxlen=_SENT_KEPT)
        self._last_error = ""
        self._last_error_time = 0.0  # wall clock
        self._slots = slots
        self._lock = lock
        self._monotonic = monotonic
        # Nothing starts before these moments (monotonic):
        self._paced_until = 0.0  # for pace_per_minute
        self._paused_until = 0.0  # because Graph asked to wait
        self._rests_until = 0.0  # after a connection that failed
        self._rest = reachability.FIRST

    def turn_in(self, seconds: float, work: Work = Work.SEND, claim: Optional[Claim] = None) -> Turn:
        return Turn(self._monotonic() + seconds, work, claim)

    def rest(self) -> None:
        """Start nothing for a while, each time for longer; calls that fail together count once."""
        with self._lock:
            now = self._monotonic()
            if now >= self._rests_until:
                self._rests_until = now + self._rest
                self._rest = min(self._rest * 2, reachability.LONGEST)

    def end_rest(self) -> None:
        with self._lock:
            self._rests_until, self._rest = 0.0, reachability.FIRST

    def pause(self, seconds: float) -> bool:
        """Start nothing for so long; whether the mailbox was not paused before."""
        with self._lock:
            now = self._monotonic()
            was_paused = now < self._paused_until
            self._paused_until = max(self._paused_until, now + seconds)
            return not was_paused

    def skip_pace(self) -> None:
        """Nothing is sent in this turn: the next message need not keep its distance from it."""
        with self._lock:
            self._paced_until = self._monotonic()

    def note_delivery(self, when: float, id: str, mail: SentMail) -> None:
        """A message was sent at this time (wall clock)."""
        with self._lock:
            self.last_delivery = when
            self._sent.append((id, mail))
        self.end_rest()

    def note_error(self, sentence: str, when: float) -> None:
        """For `status`; `when` by the wall clock."""
        with self._lock:
            self._last_error, self._last_error_time = sentence, when

    # For Lanes, which holds the lock.

    def next_start(self) -> Optional[float]:
        """When the next message may start (monotonic), as far as it is for the lane to say; None if none may."""
        if not self.waiting or self.active >= self._slots:
            return None
        return max(self.waiting[0][0], self._paced_until, self._rests_until, self._paused_until)

    def add(self, id: str, turn: Turn) -> None:
        if turn.work is not Work.SEND:
            self.kept[id] = turn
        heapq.heappush(self.waiting, (turn.due, id))

    def load(self, ids: Iterable[str]) -> None:
        """Let these wait, too, unless they do already."""
        known = {id for _, id in self.waiting}
        self.waiting = sorted(self.waiting + [(AT_ONCE, id) for id in ids if id not in known])

    def make_all_due(self) -> None:
        self.waiting = [(AT_ONCE, id) for _, id in sorted(self.waiting)]

    def take(self, pace: float, flushes: int) -> Job:
        """Take the next message; `pace`: seconds until the one after it."""
        self.active += 1
        self._paced_until = self._monotonic() + pace
        id = heapq.heappop(self.waiting)[1]
        turn = self.kept.pop(id, None) or Turn(AT_ONCE)
        return Job(self, id, turn.work, turn.claim, flushes)

    def status(self) -> LaneStatus:
        return {
            "waiting": len(self.waiting),
            "sending": self.active,
            "last_delivery": self.last_delivery,
            "last_error": self._last_error,
            "last_error_time": self._last_error_time,
            "sent": dict(self._sent),
        }


class Lanes:
    """The lanes of all mailboxes.  Any thread may call; who needs several steps to be one holds `lock` meanwhile."""

    def __init__(
        self,
        mailboxes: Iterable[str],
        throttled_for: Callable[[str], float],
        *,
        pace_per_minute: float = 0,
        slots: int = SLOTS,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`throttled_for(mailbox)`: seconds for which Graph wants a mailbox left alone;
        `pace_per_minute`: the most messages a minute of each mailbox (0: any number);
        `slots`: the most messages of a mailbox at a time."""
        self.lock = threading.RLock()
        self._throttled_for = throttled_for
        self._slots = slots
        self._pace = 60.0 / pace_per_minute if pace_per_minute else 0.0
        self._monotonic = monotonic
        self._by_tag: Dict[str, Lane] = {}
        self._order: List[Lane] = []  # of the mailboxes in the config: the one that was served last is last
        self._flushes = 0
        self.set_mailboxes(mailboxes)

    def set_mailboxes(self, mailboxes: Iterable[str]) -> Set[str]:
        """The mailboxes of the config; returns the tags of those that are new.

        What waits in the lane of a mailbox that is gone stays there, and is not tried.
        """
        wanted = {mailbox_tag(name): name for name in mailboxes}
        with self.lock:
            new = {tag for tag in wanted if tag not in self._by_tag}
            for tag, name in wanted.items():
                if tag in new:
                    self._by_tag[tag] = Lane(name, self.lock, self._monotonic, self._slots)
            self._order = [lane for tag, lane in self._by_tag.items() if tag in wanted]
        return new

    def of_message(self, id: str) -> Optional[Lane]:
        return self._by_tag.get(tag_of(id))

    def of_mailbox(self, mailbox: str) -> Optional[Lane]:
        return self._by_tag.get(mailbox_tag(mailbox))

    def load(self, entries: Iterable[Entry], tags: Optional[Set[str]] = None) -> int:
        """Let the listed messages of some mailboxes wait (of all by default); how many belong to no lane."""
        ids: Dict[str, List[str]] = {tag: [] for tag in (self._by_tag if tags is None else tags)}
        strangers = 0
        for entry in entries:
            tag = tag_of(entry.id)
            if tag in ids:
                ids[tag].append(entry.id)
            if tag not in self._by_tag:
                strangers += 1
        with self.lock:
            for tag, found in ids.items():
                self._by_tag[tag].load(found)
        return strangers

    def add(self, id: str, turn: Turn) -> None:
        """Let a message wait for its turn; nothing if its mailbox has no lane."""
        lane = self.of_message(id)
        if lane is not None:
            with self.lock:
                lane.add(id, turn)

    def add_now(self, id: str) -> None:
        """It is due now, but not before those that were due already."""
        self.add(id, Turn(self._monotonic()))

    def make_all_due(self) -> None:
        """Let everything be tried now, also what is in the hands of workers: they do not know what has changed."""
        with self.lock:
            for lane in self._order:
                lane.make_all_due()
            self._flushes += 1

    def end_rests(self) -> None:
        with self.lock:
            for lane in self._order:
                lane.end_rest()

    def outlook(self) -> Outlook:
        """What there is to do now and later, by one reading of the clock: no message may fall between the two."""
        with self.lock:
            now = self._monotonic()
            waits = []
            for lane in self._order:
                start = lane.next_start()
                if start is not None:
                    waits.append(max(start - now, self._throttled_for(lane.mailbox)))
        return Outlook(any(wait <= 0 for wait in waits), min((wait for wait in waits if wait > 0), default=None))

    def take(self) -> Optional[Job]:
        """The next message that may be tried now, which is in hand until `finish`; None if there is none."""
        with self.lock:
            lane = self._find()
            if lane is None:
                return None
            # The lane that was served goes to the end: fair between mailboxes.
            self._order = [other for other in self._order if other is not lane] + [lane]
            return lane.take(self._pace, self._flushes)

    def _find(self) -> Optional[Lane]:
        now = self._monotonic()
        for lane in self._order:
            start = lane.next_start()
            if start is not None and start <= now and not self._throttled_for(lane.mailbox):
                return lane
        return None

    def finish(self, job: Job, turn: Optional[Turn]) -> None:
        """The job is done; `turn` is when its message is tried next, None if it is not."""
        with self.lock:
            job.lane.active -= 1
            if turn is not None:
                job.lane.add(job.id, turn if job.flushes == self._flushes else turn._replace(due=AT_ONCE))

    def status(self) -> Dict[str, LaneStatus]:
        """By mailbox."""
        with self.lock:
            return {lane.mailbox: lane.status() for lane in self._order}
