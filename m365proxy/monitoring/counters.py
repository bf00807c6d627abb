"""Counters since the installation, and what is remembered of each mailbox.

They follow the steps that the log reports (system/events.py), so that log, event log and counters agree.  What the log
does not report each time (sessions, requests to Graph) is counted where it happens.  counterfile.py keeps them.
"""

from __future__ import annotations

import bisect
import collections
import math
import threading
from typing import Any, Callable, Collection, Deque, Dict, FrozenSet, Mapping, Optional, Tuple

from ..system import jsontext
from ..system.choices import Word
from ..system.events import Value

_HOUR = 3600

# Hours that are remembered of each mailbox.  A clock that was set may leave as many in the future.
_HOURS = 50

# Deliveries that are remembered by their ids: at least as many as may be under way at a time.
_LATEST = 64

# Seconds from 250 to 202 are counted up to each of these; what took longer is counted beyond them.
DELIVERY_BOUNDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)
BEYOND = "+Inf"


class Counter(Word):
    """What is counted; the words are in counters.json.  A counter may have a label."""

    ACCEPTED = "accepted"
    ACCEPTED_OCTETS = "accepted octets"
    DELIVERED = "delivered"
    DELIVERED_WITHIN = "delivered within"  # by the bound of DELIVERY_BOUNDS, or BEYOND
    DELIVERY_SECONDS = "delivery seconds"  # of those that are in DELIVERED_WITHIN
    DEFERRED = "deferred"
    FAILED = "failed"
    HELD = "held"
    LOGIN_FAILED = "login failed"  # by service
    TLS_FAILED = "TLS failed"  # by service
    REFUSED = "refused"  # by the reply's code and enhanced code: "550 5.7.60"
    SESSIONS = "sessions"  # by service
    CONNECTIONS_REFUSED = "connections refused"  # by service
    RETRIEVED = "retrieved"
    GRAPH_REQUESTS = "graph requests"  # by HTTP status; NO_ANSWER
    THROTTLED_SECONDS = "throttled seconds"


# Of these there is no step in the event log for each: some have none, and of what a client does without sending a
# message, the log leaves out what is too much (system/restraint.py).
UNREPORTED = frozenset(
    (
        Counter.LOGIN_FAILED,
        Counter.TLS_FAILED,
        Counter.REFUSED,
        Counter.SESSIONS,
        Counter.CONNECTIONS_REFUSED,
        Counter.RETRIEVED,
        Counter.GRAPH_REQUESTS,
        Counter.THROTTLED_SECONDS,
    )
)

# What the use of JSON raises that somebody else has written.
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, OverflowError)

# The label of a request to Graph that got no answer.
NO_ANSWER = "none"


class MailboxMemory:
    """What is remembered of a mailbox.  Times are seconds since 1970, 0: never."""

    def __init__(self) -> None:
        self.last_delivery = 0.0
        self.last_error = ""
        self.last_error_time = 0.0
        self.last_code = ""
        self.hours: Dict[int, Tuple[int, int]] = {}  # hours since 1970: sent, failed

    def last_day(self, now: float) -> Tuple[int, int]:
        """Messages sent and failed in the last 24 hours, in whole hours.

        What a clock that was wrong put into the future does not count.
        """
        present = int(now // _HOUR)
        found = [counts for hour, counts in self.hours.items() if present - 24 < hour <= present]
        return sum(sent for sent, _ in found), sum(failed for _, failed in found)

    def count(self, when: float, sent: int, failed: int) -> None:
        hour = int(when // _HOUR)
        before = self.hours.get(hour, (0, 0))
        self.hours[hour] = (before[0] + sent, before[1] + failed)
        if len(self.hours) > _HOURS:  # whichever way the clock was set: the farthest from now goes
            del self.hours[max(self.hours, key=lambda other: abs(other - hour))]


class Counters:
    """Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Dict[Tuple[Counter, str], float] = collections.defaultdict(float)
        self._mailboxes: Dict[str, MailboxMemory] = {}
        self._latest: Deque[str] = collections.deque(maxlen=_LATEST)
        self._earlier: FrozenSet[str] = frozenset()  # delivered before the program started

    def add(self, counter: Counter, label: str = "", amount: float = 1) -> None:
        with self._lock:
            self._totals[counter, label] += amount

    def totals(self) -> Dict[Tuple[Counter, str], float]:
        with self._lock:
            return dict(self._totals)

    def mailbox(self, name: str) -> MailboxMemory:
        """What is remembered of it; it may be looked at only."""
        with self._lock:
            return self._mailboxes.get(name) or MailboxMemory()

    # What is counted where it happens.

    def note_session(self, service: str) -> None:
        """A client was let in."""
        self.add(Counter.SESSIONS, service)

    def note_refused_connection(self, service: str) -> None:
        self.add(Counter.CONNECTIONS_REFUSED, service)

    def note_refusal(self, reason: str) -> None:
        """An SMTP client got a reply that refuses something; its code and enhanced code: "550 5.7.60"."""
        self.add(Counter.REFUSED, reason)

    def note_retrieved(self, messages: int) -> None:
        """A POP3 client has fetched so many messages."""
        self.add(Counter.RETRIEVED, amount=messages)

    def note_answer(self, status: int) -> None:
        """A request to Graph ended with this HTTP status; 0: without an answer."""
        self.add(Counter.GRAPH_REQUESTS, str(status) if status else NO_ANSWER)

    def note_throttling(self, seconds: float) -> None:
        """Graph wants a mailbox left alone so much longer."""
        self.add(Counter.THROTTLED_SECONDS, amount=seconds)

    # Steps.

    def note(self, when: float, step: Mapping[str, Value]) -> None:
        """Count a step of the log; `when`: seconds since 1970."""
        action = _ACTIONS.get(str(step.get("event")))
        if action is not None:
            with self._lock:
                action(self, when, step)

    def _accepted(self, when: float, step: Mapping[str, Value]) -> None:
        self._totals[Counter.ACCEPTED, ""] += 1
        self._totals[Counter.ACCEPTED_OCTETS, ""] += _number(step.get("size")) or 0

    def _delivered(self, when: float, step: Mapping[str, Value]) -> None:
        id = str(step.get("id", ""))
        if (
            id in self._earlier
        ):  # the program was killed before it was out of the queue, and found again that it is sent
            return
        self._latest.append(id)
        self._totals[Counter.DELIVERED, ""] += 1
        seconds = _number(step.get("seconds"))
        if seconds is not None:
            self._totals[Counter.DELIVERED_WITHIN, _bound(seconds)] += 1
            self._totals[Counter.DELIVERY_SECONDS, ""] += seconds
        memory = self._remembered(step)
        memory.count(when, 1, 0)
        memory.last_delivery = when

    def _troubled(self, when: float, step: Mapping[str, Value]) -> None:
        event = str(step["event"])
        memory = self._remembered(step)
        if event in _COUNTED_TROUBLE:
            self._totals[_COUNTED_TROUBLE[event], ""] += 1
        if event == Counter.FAILED.value:
            memory.count(when, 0, 1)
        memory.last_error = str(step.get("reason") or "")
        memory.last_code = str(step.get("code") or "")
        memory.last_error_time = when

    def _login_failed(self, when: float, step: Mapping[str, Value]) -> None:
        self._totals[Counter.LOGIN_FAILED, str(step.get("service", ""))] += 1

    def _tls_failed(self, when: float, step: Mapping[str, Value]) -> None:
        self._totals[Counter.TLS_FAILED, str(step.get("service", ""))] += 1

    def _remembered(self, step: Mapping[str, Value]) -> MailboxMemory:
        name = str(step.get("mailbox") or "")
        return self._mailboxes.setdefault(name, MailboxMemory()) if name else MailboxMemory()

    # Over a restart.

    def content(self) -> Dict[str, Any]:
        """Everything, as JSON takes it; `restore` reads it."""
        with self._lock:
            return {
                "totals": [[counter.value, label, _short(total)] for (counter, label), total in self._totals.items()],
                "latest": list(self._latest),
                "mailboxes": {
                    name: {
                        "last_delivery": memory.last_delivery,
                        "last_error": memory.last_error,
                        "last_error_time": memory.last_error_time,
                        "last_code": memory.last_code,
                        "hours": [[hour, *counts] for hour, counts in memory.hours.items()],
                    }
                    for name, memory in self._mailboxes.items()
                },
            }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take what `content` gave in place of everything.  One of DAMAGED, and no change, if it is damaged."""
        totals = {(Counter(word), str(label)): float(total) for word, label, total in content["totals"]}
        if not all(0 <= total < math.inf for total in totals.values()):
            raise ValueError("no total")
        latest = [str(id) for id in content["latest"]]
        mailboxes = {str(name): _memory(kept) for name, kept in content["mailboxes"].items()}
        with self._lock:
            self._totals = collections.defaultdict(float, totals)
            self._latest = collections.deque(latest, _LATEST)
            self._earlier = frozenset(latest)
            self._mailboxes = mailboxes

    def drop_totals(self, counters: Collection[Counter]) -> None:
        """Begin these at zero again."""
        with self._lock:
            for key in [key for key in self._totals if key[0] in counters]:
                del self._totals[key]

    def begin(self, mailboxes: Collection[str]) -> None:
        """What an earlier run has left is restored: remember these mailboxes only, and count its deliveries once."""
        with self._lock:
            self._earlier |= frozenset(self._latest)
            for name in set(self._mailboxes) - set(mailboxes):
                del self._mailboxes[name]


def _memory(kept: Mapping[str, Any]) -> MailboxMemory:
    memory = MailboxMemory()
    memory.last_delivery = jsontext.number(kept["last_delivery"])
    memory.last_error = str(kept["last_error"])
    memory.last_error_time = jsontext.number(kept["last_error_time"])
    memory.last_code = str(kept["last_code"])
    memory.hours = {int(hour): (int(sent), int(failed)) for hour, sent, failed in kept["hours"]}
    return memory


def _number(value: Value) -> Optional[float]:
    return value if isinstance(value, (int, float)) else None


def _bound(seconds: float) -> str:
    """The smallest of DELIVERY_BOUNDS that it is not above."""
    place = bisect.bisect_left(DELIVERY_BOUNDS, seconds)
    return str(DELIVERY_BOUNDS[place]) if place < len(DELIVERY_BOUNDS) else BEYOND


def _short(total: float) -> float:
    """Without a fraction that says nothing."""
    return int(total) if total.is_integer() else round(total, 3)


_COUNTED_TROUBLE = {counter.value: counter for counter in (Counter.DEFERRED, Counter.FAILED, Counter.HELD)}

_ACTIONS: Dict[str, Callable[[Counters, float, Mapping[str, Value]], None]] = {
    "accepted": Counters._accepted,
    "delivered": Counters._delivered,
    "deferred": Counters._troubled,
    "doubtful": Counters._troubled,
    "held": Counters._troubled,
    "failed": Counters._troubled,
    "throttled": Counters._troubled,
    "login failed": Counters._login_failed,
    "TLS failed": Counters._tls_failed,
}
