"""Counters since the installation, and what is remembered of each mailbox.  Both are kept over a restart.

They follow the steps that the log reports (system/events.py), so that log, event log and counters agree.
"""

from __future__ import annotations

import collections
import json
import os
import threading
from typing import Any, Callable, Dict, Mapping, Tuple

from ..system import files, jsontext
from ..system.choices import Word
from ..system.events import Value

_NAME = "counters.json"

_HOUR = 3600

# Hours that are remembered of each mailbox.
_HOURS = 25


class Counter(Word):
    """What is counted; the words are in counters.json.  A counter may have a label, such as a reply code."""

    ACCEPTED = "accepted"
    ACCEPTED_OCTETS = "accepted octets"
    REFUSED = "refused"  # by reply code
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"
    HELD = "held"
    LOGIN_FAILED = "login failed"  # by service
    TLS_FAILED = "TLS failed"
    THROTTLED_SECONDS = "throttled seconds"
    SESSIONS = "sessions"  # by service
    GRAPH_REQUESTS = "graph requests"  # by HTTP status; "": no answer


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
        for old in sorted(self.hours)[:-_HOURS]:
            del self.hours[old]


class Counters:
    """Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Dict[Tuple[Counter, str], float] = collections.defaultdict(float)
        self._mailboxes: Dict[str, MailboxMemory] = collections.defaultdict(MailboxMemory)

    def add(self, counter: Counter, label: str = "", amount: float = 1) -> None:
        with self._lock:
            self._totals[counter, label] += amount

    def totals(self) -> Dict[Tuple[Counter, str], float]:
        with self._lock:
            return dict(self._totals)

    def mailbox(self, name: str) -> MailboxMemory:
        with self._lock:
            return self._mailboxes[name]

    def note(self, when: float, step: Mapping[str, Value]) -> None:
        """Count a step of the log; `when`: seconds since 1970."""
        action = _ACTIONS.get(str(step.get("event")))
        if action is not None:
            with self._lock:
                action(self, when, step)

    def _accepted(self, when: float, step: Mapping[str, Value]) -> None:
        self._totals[Counter.ACCEPTED, ""] += 1
        size = step.get("size")
        self._totals[Counter.ACCEPTED_OCTETS, ""] += size if isinstance(size, int) else 0

    def _delivered(self, when: float, step: Mapping[str, Value]) -> None:
        self._totals[Counter.DELIVERED, ""] += 1
        memory = self._mailboxes[str(step.get("mailbox", ""))]
        memory.count(when, 1, 0)
        memory.last_delivery = when

    def _troubled(self, when: float, step: Mapping[str, Value]) -> None:
        event = str(step["event"])
        if event in (Counter.DEFERRED.value, Counter.FAILED.value, Counter.HELD.value):
            self._totals[Counter(event), ""] += 1
        memory = self._mailboxes[str(step.get("mailbox", ""))]
        memory.count(when, 0, event == Counter.FAILED.value)
        memory.last_error = str(step.get("reason", ""))
        memory.last_code = str(step.get("code", ""))
        memory.last_error_time = when

    # Keeping.

    def save(self, state_dir: str) -> None:
        """Write counters.json, unsynced.  OSError or CannotCreate if the disk does not take it."""
        with self._lock:
            content = json.dumps(self._as_json()).encode()
        files.replace(os.path.join(state_dir, _NAME), content, durable=False)

    def load(self, state_dir: str) -> None:
        """Go on from counters.json; from zero if there is none, or it is damaged."""
        content = files.read(os.path.join(state_dir, _NAME))
        try:
            stored = jsontext.parse(content or b"{}")
            with self._lock:
                self._take(stored if isinstance(stored, dict) else {})
        except (ValueError, TypeError, KeyError, AttributeError):
            return

    def _as_json(self) -> Dict[str, Any]:
        return {
            "totals": [[counter.value, label, amount] for (counter, label), amount in self._totals.items()],
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

    def _take(self, stored: Dict[str, Any]) -> None:
        totals = {(Counter(word), str(label)): float(amount) for word, label, amount in stored.get("totals", [])}
        for key, amount in totals.items():
            self._totals[key] += amount
        for name, kept in stored.get("mailboxes", {}).items():
            memory = self._mailboxes[name]
            memory.last_delivery = float(kept["last_delivery"])
            memory.last_error = str(kept["last_error"])
            memory.last_error_time = float(kept["last_error_time"])
            memory.last_code = str(kept["last_code"])
            memory.hours = {int(hour): (int(sent), int(failed)) for hour, sent, failed in kept["hours"]}


_ACTIONS: Dict[str, Callable[[Counters, float, Mapping[str, Value]], None]] = {
    "accepted": Counters._accepted,
    "delivered": Counters._delivered,
    "deferred": Counters._troubled,
    "doubtful": Counters._troubled,
    "held": Counters._troubled,
    "failed": Counters._troubled,
}
