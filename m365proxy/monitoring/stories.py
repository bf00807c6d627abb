"""What became of messages, told from the event log: `trace` and the page tell the same in the same words."""

from __future__ import annotations

import calendar
import collections
import re
import time
from typing import Any, Dict, List, NamedTuple, Sequence

from ..system import events, log

Event = Dict[str, Any]

# After these a message is not in the queue any more.
FINAL = ("delivered", "dropped", "removed")

# Recipients that are named.
_NAMED = 10

_ID = re.compile(rb'"id": "([^"]+)"')

# An event as a sentence.  A field that is not known is empty.
_SENTENCES = {
    "accepted": "accepted from {client}, {size} octets",
    "delivered": "handed over to Exchange",
    "deferred": "not sent: {reason}",
    "doubtful": "may have been sent, and is looked for: {reason}",
    "held": "held, as it may have been sent: {reason}",
    "failed": "given up: {reason}",
    "reported": "the delivery report {id} was queued",
    "retried": "an administrator wanted it sent now",
    "dropped": "an administrator deleted it",
    "removed": "deleted, because it was in failed/ for queue.keep_failed_days",
    "refused": "refused: {refusal}",
    "login failed": "login failed ({service}, {login}): {reason}",
    "TLS failed": "TLS handshake failed: {reason}",
    "session ended": "session ended: {reason}",
    "first seen": "{what}",
    "seen": "{what}",
    "throttled": "Graph asked to leave {mailbox} alone for {seconds} s",
}


class Story(NamedTuple):
    """A message and its events, the oldest first; those that the event log no longer has are missing."""

    id: str
    events: Sequence[Event]

    @property
    def accepted(self) -> Event:
        """The event of its acceptance; {} if that is not known."""
        return next((event for event in self.events if event["event"] == "accepted"), {})

    @property
    def last(self) -> Event:
        """Its latest event; one without a name if none is known."""
        return self.events[-1] if self.events else {"event": ""}


def latest(directory: str, count: int, octets: int) -> List[Story]:
    """The last `count` messages that the event log names, the newest first.

    No more than the last `octets` of the event log are read, so that it costs the same however long that is.
    OSError if the directory or a file cannot be read.
    """
    found = group(events.last_lines(directory, octets // 4))  # mostly enough, and it saves memory
    if sum(b'"event": "accepted"' in lines[0] for lines in found.values()) < count:
        found = group(events.last_lines(directory, octets))
    told = [Story(id, parsed(found[id])) for id in reversed([id for id in found if id][-count:])]
    return [story for story in told if story.events]


def group(lines: Sequence[bytes]) -> Dict[str, List[bytes]]:
    """The lines of each message, by id, in the order of the first; "" has those that belong to no message."""
    found: Dict[str, List[bytes]] = {}
    for line in lines:
        found.setdefault(id_of(line), []).append(line)
    return found


def id_of(line: bytes) -> str:
    """The id of the message a line is about; "" if it is about none.  Quicker than to parse it."""
    found = _ID.search(line)
    return found.group(1).decode("ascii", "replace") if found is not None else ""


def parsed(lines: Sequence[bytes]) -> List[Event]:
    """The events of lines; damaged ones are left out."""
    return [event for event in map(events.parse, lines) if event]


def sentence(event: Event) -> str:
    """What happened, in one line without its time."""
    fields = collections.defaultdict(str, {name: text(event, name) for name in event})
    if fields["event"] == "refused":
        fields["refusal"] = _refusal(event)
    told = _SENTENCES.get(fields["event"], "{event}").format_map(fields)
    if fields["event"] == "accepted":
        told += f", login {fields['login']}" if "login" in event else ""
        told += f", {fields['tls']}" if "tls" in event else ", without TLS"
    if fields["event"] == "delivered" and "seconds" in event:
        told += f" after {fields['seconds']} s"
    return told + (f" (request-id {fields['request_id']})" if "request_id" in event else "")


def _refusal(event: Event) -> str:
    """What a client was refused, and how."""
    command = [log.quote(event["command"], 500)] if "command" in event else []
    return ": ".join(command + [text(event, name) for name in ("reply", "reason") if name in event])


def recipients(event: Event) -> str:
    """Some of its recipients by name, and how many more there are."""
    named = event.get("recipients")
    names = [log.clean(name) for name in named] if isinstance(named, list) else []
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def text(event: Event, name: str) -> str:
    """A field as people read it; "" if it is not there."""
    value = event.get(name, "")
    return log.clean(f"{value:.1f}".replace(".0", "") if isinstance(value, float) else value, 500)


def local(event: Event) -> str:
    """When it happened, in this machine's time zone."""
    try:
        seconds = calendar.timegm(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return text(event, "time")
    return local_time(seconds)


def local_time(seconds: float) -> str:
    """A moment (seconds since 1970) in this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
