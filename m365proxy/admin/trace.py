"""`trace`: what became of a message, or what a client did, from the event log and the queue."""

from __future__ import annotations

import calendar
import collections
import json
import os
import re
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, Set

from ..account import spool_of
from ..config.sections import Config
from ..errors import UsageError
from ..spool import overview
from ..spool.spool import Spool
from ..spool.state import Entry, Phase, Place, State
from ..system import events, log
from . import status
from .terminal import Terminal

# So many messages are shown, the last ones; a device that sends all day has thousands.
_SHOWN = 20

# Recipients that are named.
_NAMED = 10

_Event = Dict[str, Any]

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
    "throttled": "Graph asked to leave {mailbox} alone for {seconds} s",
}

_INDENT = "  "

# After these a message is not in the queue any more.
_FINAL = ("delivered", "dropped", "removed")


def trace(config: Config, what: str, since: float, as_json: bool) -> Optional[int]:
    """Tell the story of the messages of an ID (its beginning is enough), an address, a login or a client.

    `since`: seconds since 1970; nothing older is shown.  UsageError if nothing is known.
    """
    directory = os.path.join(config.state_dir, "events")
    what = os.fsencode(what).decode("utf-8", "replace")  # a terminal may know ASCII only
    if not what.strip():
        raise UsageError("Nothing to look for: give an ID, an address, a login or a client's address.")
    found = _search(directory, what.lower(), since)
    if as_json:
        for line in found:
            print(line.decode("utf-8", "replace"), end="")
        return None
    spool = spool_of(config) if status.has_queue(config) else None
    stories: Dict[str, List[bytes]] = {}  # by id; "" has what belongs to no message
    for line in found:
        stories.setdefault(_id_of(line), []).append(line)
    for entry in _queued(spool, what):
        stories.setdefault(entry.id, [])
    if not stories:
        raise UsageError(_nothing(config, what, directory))
    _print(Terminal(sys.stdout, os.environ), spool, stories)
    return None


def _search(directory: str, what: str, since: float) -> List[bytes]:
    """The lines on all messages that `what` (in lower case) names, and on the client or login itself."""
    needle = json.dumps(what, ensure_ascii=False)[1:-1]  # as in a line
    ids: Set[str] = set()
    others: Set[bytes] = set()
    for line in events.lines(directory, since):
        if needle in line.decode("utf-8", "replace").lower() and _concerns(events.parse(line), what):
            id = _id_of(line)
            if id:
                ids.add(id)
            else:
                others.add(line)
    if not ids and not others:
        return []
    return [line for line in events.lines(directory, since) if _id_of(line) in ids or line in others]


def _id_of(line: bytes) -> str:
    """The id of the message a line is about; "" if it is about none.  Quicker than to parse it."""
    found = _ID.search(line)
    return found.group(1).decode("ascii", "replace") if found is not None else ""


def _concerns(event: _Event, what: str) -> bool:
    """Whether it is about this message, address, login or client (in lower case)."""
    if str(event.get("id", "")).lower().startswith(what):
        return True
    named = [event.get(name) for name in ("client", "login", "mailbox", "sender")]
    several = [event.get(name) for name in ("recipients", "messages")]
    return what in (str(value).lower() for value in named + [item for value in several for item in value or ()])


def _queued(spool: Optional[Spool], id: str) -> List[Entry]:
    """The messages in the queue whose ID begins so: the event log may be switched off, or not reach back so far."""
    if spool is None or not overview.accepted_time(id):
        return []
    return [entry for entry in spool.entries() if entry.id.startswith(id)]


def _nothing(config: Config, what: str, directory: str) -> str:
    first = next((event for event in map(events.parse, events.lines(directory)) if event), None)
    if first is not None:
        reach = f"The event log begins {_local(first)}."
    elif config.logging.events_mb:
        reach = "The event log is empty."
    else:
        reach = "The event log is switched off (logging.events_mb)."
    return f"Nothing is known of {log.quote(what, 60)}. {reach} `m365proxy queue list` shows what waits."


def _print(terminal: Terminal, spool: Optional[Spool], stories: Dict[str, List[bytes]]) -> None:
    for event in _parsed(stories.pop("", [])[-_SHOWN:]):
        _print_event(terminal, event, f"{_text(event, 'client')}  ")
    older = len(stories) - _SHOWN
    if older > 0:
        terminal.line(f"{older} earlier messages are not shown; --since SPAN or --json shows others.")
    for id in list(stories)[-_SHOWN:]:
        terminal.line()
        _print_story(terminal, id, _parsed(stories[id]), spool)


def _parsed(lines: Sequence[bytes]) -> List[_Event]:
    return [event for event in map(events.parse, lines) if event]


def _print_story(terminal: Terminal, id: str, story: List[_Event], spool: Optional[Spool]) -> None:
    terminal.line(terminal.bold(log.clean(id)))
    accepted = next((event for event in story if event["event"] == "accepted"), {})
    if accepted:
        terminal.line(terminal.wrap(f"{_text(accepted, 'sender') or '<>'} -> {_names(accepted)}", _INDENT))
    for event in story:
        _print_event(terminal, event)
    last = story[-1] if story else {"event": ""}
    if last["event"] == "delivered":
        terminal.line(terminal.wrap(_in_exchange(last, accepted), _INDENT))
    elif last["event"] not in _FINAL:
        terminal.line(terminal.wrap(_in_queue(id, spool), _INDENT))


def _print_event(terminal: Terminal, event: _Event, who: str = "") -> None:
    """A line that begins with the time; if the terminal is too narrow for it, the others are indented."""
    terminal.line(terminal.wrap(f"{_local(event)}: {who}{_sentence(event)}", _INDENT * 2)[len(_INDENT) :])


def _sentence(event: _Event) -> str:
    fields = collections.defaultdict(str, {name: _text(event, name) for name in event})
    if fields["event"] == "refused":
        fields["refusal"] = _refusal(event)
    text = _SENTENCES.get(fields["event"], "{event}").format_map(fields)
    if fields["event"] == "accepted":
        text += f", login {fields['login']}" if "login" in event else ""
        text += f", {fields['tls']}" if "tls" in event else ", without TLS"
    if fields["event"] == "delivered" and "seconds" in event:
        text += f" after {fields['seconds']} s"
    return text + (f" (request-id {fields['request_id']})" if "request_id" in event else "")


def _refusal(event: _Event) -> str:
    """What a client was refused, and how."""
    command = [log.quote(event["command"], 500)] if "command" in event else []
    return ": ".join(command + [_text(event, name) for name in ("reply", "reason") if name in event])


def _names(event: _Event) -> str:
    recipients = event.get("recipients")
    names = [log.clean(name) for name in recipients] if isinstance(recipients, list) else []
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _text(event: _Event, name: str) -> str:
    value = event.get(name, "")
    return log.clean(f"{value:.1f}".replace(".0", "") if isinstance(value, float) else value, 500)


def _in_exchange(delivered: _Event, accepted: _Event) -> str:
    """Where to look next for a message that has left."""
    who = f" from {_text(accepted, 'sender')} to {_names(accepted)}" if accepted else ""
    return (
        f"Where it is now, Exchange knows: Exchange admin center, Mail flow, Message trace{who}, about "
        f"{_local(delivered)}. Microsoft's support asks for the request-id."
    )


def _in_queue(id: str, spool: Optional[Spool]) -> str:
    """What a message waits for, and what can be done."""
    entry = spool.find(id) if spool is not None else None
    if spool is None or entry is None:
        return "It is no longer in the queue, and the event log does not say why."
    state = spool.state(id) or State()
    if entry.place is Place.FAILED:
        return f"It is kept in failed/. Send it again with `m365proxy queue retry {id}`."
    if entry.phase is Phase.HELD:
        return (
            f"Look in Sent Items whether it was sent, then run `m365proxy queue retry {id}` or "
            f"`m365proxy queue drop {id}`."
        )
    if entry.place is Place.CUR:
        return "It is being sent now."
    due = f" Its next attempt is {_local_time(state.due)} at the latest." if state.due else ""
    return f"It waits in the queue.{due} Send it now with `m365proxy queue retry {id}`."


def _local(event: _Event) -> str:
    try:
        seconds = calendar.timegm(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return _text(event, "time")
    return _local_time(seconds)


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def begin_of(span: str, now: float) -> float:
    """When a span such as 90s, 30m, 2h or 7d began (seconds since 1970); UsageError if it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", span.strip().lower())
    if found is None:
        raise UsageError(f"--since takes a time such as 30m, 2h or 7d, not {log.quote(span, 40)}.")
    return max(0.0, now - int(found.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2)])
