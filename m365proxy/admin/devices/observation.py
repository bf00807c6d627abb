"""What came in while somebody watched: a line for each step, and for each client what to make of it."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Set

from ...monitoring import stories
from ...monitoring.devices import client_of, is_guessing
from ...monitoring.troubles import WORDS, Trouble, trouble_in
from ...system import log
from ..terminal import Mark

# Seconds within which the same line is not shown again: some devices try every second.
_QUIET = 10.0

# User names that are remembered of a client; more tell nothing new.
_NAMES = 100

# What becomes of a message that was accepted meanwhile.
_OUTCOMES = {
    "delivered": Mark.OK,
    "deferred": Mark.ATTENTION,
    "doubtful": Mark.ATTENTION,
    "held": Mark.WRONG,
    "failed": Mark.WRONG,
}


class Line(NamedTuple):
    """A line to show; without the mark."""

    mark: Mark
    text: str


class Sighting:
    """A client that came.  `troubles`: the last step of each since its last message, in the order of these."""

    def __init__(self) -> None:
        self.troubles: Dict[Trouble, Mapping[str, Any]] = {}
        self.messages = 0
        self._refused_logins: Set[str] = set()

    @property
    def is_guessing(self) -> bool:
        """Whether it tries many user names: no device does."""
        return is_guessing(sorted(self._refused_logins))

    def take(self, event: Mapping[str, Any], trouble: Optional[Trouble]) -> None:
        if event["event"] == "accepted":
            self.messages += 1
            self.troubles.clear()
            self._refused_logins.discard(str(event.get("login")))
        elif event["event"] == "login failed" and len(self._refused_logins) < _NAMES:
            self._refused_logins.add(str(event.get("login")))
        if trouble is not None:
            self.troubles.pop(trouble, None)
            self.troubles[trouble] = event


class Observation:
    """All that came.  `clients`: by address, in the order they came."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic):
        self.clients: Dict[str, Sighting] = {}
        self._monotonic = monotonic
        self._clients_of_ids: Dict[str, str] = {}
        self._shown: Dict[Line, float] = {}

    def take(self, event: Mapping[str, Any]) -> List[Line]:
        """Take in an event of the event log; the lines to show."""
        line = self._line(event)
        if line is None or self._monotonic() - self._shown.get(line, float("-inf")) < _QUIET:
            return []
        self._shown[line] = self._monotonic()
        return [Line(line.mark, f"{stories.local(dict(event))[-8:]} {line.text}")]

    def _line(self, event: Mapping[str, Any]) -> Optional[Line]:
        if not event:
            return None
        client = client_of(event)
        if client:
            return self._of_client(client, event)
        sender = self._clients_of_ids.get(str(event.get("id")))
        if sender is None or event["event"] not in _OUTCOMES:
            return None
        return Line(_OUTCOMES[event["event"]], f"{sender}: its mail: {stories.sentence(dict(event))}")

    def _of_client(self, client: str, event: Mapping[str, Any]) -> Line:
        trouble = trouble_in(event)
        self.clients.setdefault(client, Sighting()).take(event, trouble)
        shown, told = log.clean(client), stories.sentence(dict(event))
        if event["event"] == "accepted":
            self._clients_of_ids[str(event.get("id"))] = shown
            return Line(Mark.OK, f"{shown}: its mail was {told}")
        if trouble is None:
            return Line(Mark.INFO, f"{shown}: {told}")
        return Line(Mark.WRONG, f"{shown} {WORDS[trouble].did}: {told}")
