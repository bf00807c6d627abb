"""`trace`: what became of a message, or what a client did, from the event log and the queue."""

from __future__ import annotations

import json
import os
import sys
from typing import Dict, List, Optional, Set

from ..account import spool_of
from ..config.sections import Config
from ..errors import UsageError
from ..monitoring import stories
from ..monitoring.stories import Event, Story
from ..spool import overview
from ..spool.spool import Spool
from ..spool.state import Entry, Phase, Place, State
from ..system import events, log
from . import spans, status
from .terminal import Terminal

# So many messages are shown, the last ones; a device that sends all day has thousands.
_SHOWN = 20

_INDENT = "  "


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
    known = stories.group(found)
    for entry in _queued(spool, what):
        known.setdefault(entry.id, [])
    if not known:
        raise UsageError(_nothing(config, what, directory))
    _print(Terminal(sys.stdout, os.environ), spool, known)
    return None


def _search(directory: str, what: str, since: float) -> List[bytes]:
    """The lines on all messages that `what` (in lower case) names, and on the client or login itself."""
    needle = json.dumps(what, ensure_ascii=False)[1:-1]  # as in a line
    ids: Set[str] = set()
    others: Set[bytes] = set()
    for line in events.lines(directory, since):
        if needle in line.decode("utf-8", "replace").lower() and _concerns(events.parse(line), what):
            id = stories.id_of(line)
            if id:
                ids.add(id)
            else:
                others.add(line)
    if not ids and not others:
        return []
    return [line for line in events.lines(directory, since) if stories.id_of(line) in ids or line in others]


def _concerns(event: Event, what: str) -> bool:
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
        reach = f"The event log begins {stories.local(first)}."
    elif config.logging.events_mb:
        reach = "The event log is empty."
    else:
        reach = "The event log is switched off (logging.events_mb)."
    return f"Nothing is known of {log.quote(what, 60)}. {reach} `m365proxy queue list` shows what waits."


def _print(terminal: Terminal, spool: Optional[Spool], known: Dict[str, List[bytes]]) -> None:
    for event in stories.parsed(known.pop("", [])[-_SHOWN:]):
        _print_event(terminal, event, f"{stories.text(event, 'client')}  ")
    older = len(known) - _SHOWN
    if older > 0:
        terminal.line(f"{older} earlier messages are not shown; --since SPAN or --json shows others.")
    for id in list(known)[-_SHOWN:]:
        terminal.line()
        _print_story(terminal, Story(id, stories.parsed(known[id])), spool)


def _print_story(terminal: Terminal, story: Story, spool: Optional[Spool]) -> None:
    terminal.line(terminal.bold(log.clean(story.id)))
    if story.accepted:
        sender = stories.text(story.accepted, "sender") or "<>"
        terminal.line(terminal.wrap(f"{sender} -> {stories.recipients(story.accepted)}", _INDENT))
    for event in story.events:
        _print_event(terminal, event)
    if story.last["event"] == "delivered":
        terminal.line(terminal.wrap(_in_exchange(story.last, story.accepted), _INDENT))
    elif story.last["event"] not in stories.FINAL:
        terminal.line(terminal.wrap(_in_queue(story.id, spool), _INDENT))


def _print_event(terminal: Terminal, event: Event, who: str = "") -> None:
    """A line that begins with the time; if the terminal is too narrow for it, the others are indented."""
    terminal.line(terminal.wrap(f"{stories.local(event)}: {who}{stories.sentence(event)}", _INDENT * 2)[len(_INDENT) :])


def _in_exchange(delivered: Event, accepted: Event) -> str:
    """Where to look next for a message that has left."""
    who = f" from {stories.text(accepted, 'sender')} to {stories.recipients(accepted)}" if accepted else ""
    return (
        f"Where it is now, Exchange knows: Exchange admin center, Mail flow, Message trace{who}, about "
        f"{stories.local(delivered)}. Microsoft's support asks for the request-id."
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
    due = f" Its next attempt is {stories.local_time(state.due)} at the latest." if state.due else ""
    return f"It waits in the queue.{due} Send it now with `m365proxy queue retry {id}`."


def begin_of(span: str, now: float) -> float:
    """When a span such as 90s, 30m, 2h or 7d began (seconds since 1970); UsageError if it is none."""
    return max(0.0, now - spans.seconds_of(span, "--since"))
