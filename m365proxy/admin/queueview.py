"""Messages of the queue as `queue` shows them: a list in groups of equal reasons, one message, and as JSON."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ..monitoring.stories import local_time
from ..spool import overview
from ..spool.envelope import DamagedMessage
from ..spool.spool import Spool
from ..spool.state import Entry
from ..system import clock, log
from .terminal import Terminal

# An ID is shown as short as this, date, time and four digits more, if no other message's begins so.
_SHORT = len("20261129T094207-94bb")

# Octets of a message's header that are shown.
_HEADER_SHOWN = 8 * 1024

# What is to be done about them.
_HELD = "Each may have been sent: look into Sent Items. Then drop what is there, and retry what is not."


class _Row(NamedTuple):
    id: str
    size: int
    recipient: str
    more: int  # further recipients


def described(spool: Spool, entry: Entry) -> Optional[Dict[str, Any]]:
    """A message for JSON; None if it is gone by now."""
    message: Dict[str, Any] = {"id": entry.id, "state": overview.state_of(entry)}
    try:
        envelope, file = spool.open(entry)
        with file:
            message["size"] = os.fstat(file.fileno()).st_size - file.tell()
        message.update(
            mailbox=envelope.mailbox,
            sender=envelope.sender,
            recipients=list(envelope.recipients),
            client=envelope.client,
            kind=envelope.kind,
        )
    except DamagedMessage as error:
        message["error"] = str(error)
    except FileNotFoundError:
        return None
    state = spool.state(entry.id)
    if state is not None:
        message.update(
            attempts=state.attempts,
            due=state.due,
            error=state.error,
            code=state.code,
            request_id=state.request_id,
            message_id=state.message_id,
        )
    message["age_seconds"] = overview.seconds_since(overview.accepted_time(entry.id), time.time())
    return message


def show_list(terminal: Terminal, messages: Iterable[Dict[str, Any]], program: str) -> None:
    """Print messages, sorted by ID, with each reason once.  `program`: how this program is started."""
    groups: Dict[Tuple[str, str, str], List[_Row]] = {}
    for message in messages:
        key = message["state"], message.get("mailbox", ""), message.get("error", "")
        recipients: List[str] = message.get("recipients") or ["?"]
        row = _Row(message["id"], message.get("size", 0), recipients[0], len(recipients) - 1)
        groups.setdefault(key, []).append(row)
    if not groups:
        terminal.line("The queue is empty.")
        return
    length = _length([row.id for rows in groups.values() for row in rows])
    for (state, mailbox, reason), rows in groups.items():
        head = terminal.bold(f"{len(rows)} {'being sent' if state == 'sending' else state}")
        head += f" in {log.clean(mailbox)}" if mailbox else ""
        why = " ".join(filter(None, (log.clean(reason, 1000), _HELD if state == "held" else "")))
        terminal.line(terminal.wrap(f"{head}: {why}" if why else head))
        for row in rows:
            terminal.line(_line(row, length))
        terminal.line()
    advice = f"`{program} queue show ID` shows more of one; so much of an ID is enough, also for `retry` and `drop`."
    terminal.line(terminal.wrap(advice))


def _length(ids: List[str]) -> int:
    """How much of each ID distinguishes it from the others."""
    length, different = _SHORT, set(ids)  # a copy put back beside its message has the same
    while len({id[:length] for id in different}) < len(different):
        length += 2
    return length


def _line(row: _Row, length: int) -> str:
    accepted = overview.accepted_time(row.id)
    when = local_time(accepted)[: len("2026-11-29 10:42")] if accepted else "?"
    more = f" and {row.more} more" if row.more else ""
    return f"  {log.clean(row.id[:length])}  {when:<16}  {_size(row.size):>6}  {log.clean(row.recipient)}{more}"


def _size(octets: int) -> str:
    """In a fitting unit of 1,024: "66 B", "12 KB", "3.4 MB"."""
    if octets < 1024:
        return f"{octets} B"
    return f"{octets / 1024:.0f} KB" if octets < 1024 * 1000 else f"{octets / 1024 / 1024:.1f} MB"


def show_message(terminal: Terminal, spool: Spool, entry: Entry, message: Dict[str, Any]) -> None:
    """Print all that is known of one, and its header."""
    accepted, due = overview.accepted_time(entry.id), message.get("due") or 0.0
    shown = {
        **message,
        "accepted": f"{local_time(accepted)}, {clock.ago(message['age_seconds'])} ago" if accepted else "",
        "next attempt": f"{local_time(due)} at the latest" if due and message["state"] == "waiting" else "",
        "file": spool.path(entry),
    }
    for name in ("due", "age_seconds"):
        shown.pop(name, None)
    for name, value in shown.items():
        if value not in ("", [], 0):
            text = ", ".join(value) if isinstance(value, list) else value
            terminal.line(f"{name.replace('_', ' ') + ':':<13} {log.clean(text, 2000)}")
    terminal.line()
    try:
        _, file = spool.open(entry)
    except (DamagedMessage, FileNotFoundError):
        return
    with file:
        for line in file.read(_HEADER_SHOWN).splitlines():
            if not line:
                return
            terminal.line(log.clean(line, 1000))
