"""`queue`: list, show, retry and drop messages.  Prints for people; returns the exit status or None for 0."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from ..account import event_log, spool_of
from ..config.sections import Config
from ..errors import InUse, UsageError
from ..spool import overview
from ..spool.envelope import DamagedMessage
from ..spool.spool import Spool
from ..spool.state import Entry, Phase, Place, State
from ..system import clock, control, log
from . import status
from .running import at_rest, is_running

# Octets of a message's header that `queue show` prints.
_HEADER_SHOWN = 8 * 1024

# Phases in which a message may have been sent.
_DOUBTFUL = (Phase.POSTING, Phase.HELD)

# The least of an ID that is enough: date and time.  With less, `drop` might hit another message than was meant.
_BEGINNING = len("20261129T094207")

# IDs named in an error.
_NAMED = 5

# How often a message is looked for again that changes its state between a look and the command's rename.
_LOOKS = 5


def list_messages(config: Config, as_json: bool) -> Optional[int]:
    spool = spool_of(config)
    entries = sorted(spool.entries(), key=lambda entry: entry.id) if status.has_queue(config) else []
    for entry in entries:
        message = _described(spool, entry)
        if message is None:
            continue  # it was sent while we looked
        print(json.dumps(message) if as_json else _line(message))
    if not entries and not as_json:
        print("The queue is empty.")
    return None


def show(config: Config, typed: str) -> Optional[int]:
    """`typed`, here and below: an ID, or its beginning."""
    spool = spool_of(config)
    id = _whole_id(config, spool, typed)
    entry = _entry(config, spool, id)
    message = _described(spool, entry)
    if message is None:
        raise _changed(id)
    for name, value in message.items():
        if value not in ("", [], 0, 0.0):
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', ' ') + ':':<13} {log.clean(shown, 2000)}")
    print(f"{'file:':<13} {spool.path(entry)}\n")
    _print_header(spool, entry)
    return None


def retry(config: Config, typed: str) -> Optional[int]:
    """Send a message now, whatever it waits for; with "all", each that waits or has failed."""
    spool = spool_of(config)
    if typed == "all":
        _retry_all(config, spool)
    else:
        id = _whole_id(config, spool, typed)
        entry, _ = _take(config, spool, id, spool.requeue)
        _note(config, "retried", [id])  # before the program is told, which notes what became of it
        _report_queued(config, id)
        doubt = " It may have been sent before; then it arrives twice." if entry.phase in _DOUBTFUL else ""
        print(f"{id} will be tried again now.{doubt}")
    if not is_running(config):
        print("m365proxy is not running. It sends mail when it is started.")
    return None


def _retry_all(config: Config, spool: Spool) -> None:
    tried: List[str] = []
    held = 0
    for entry in list(spool.entries()) if status.has_queue(config) else ():
        held += entry.phase is Phase.HELD
        state = spool.state(entry.id) if entry.place is Place.NEW else None
        if entry.place is Place.FAILED or (state is not None and state.due > time.time()):
            with contextlib.suppress(UsageError, InUse):  # the program has taken it meanwhile
                _take(config, spool, entry.id, spool.requeue)
                tried.append(entry.id)
    _note(config, "retried", tried)
    for id in tried:
        _report_queued(config, id)
    if tried:
        print(f"{len(tried)} waiting or failed messages will be tried again now.")
    else:
        print("No message waits for a later attempt.")
    if held:
        print(
            f"{held} held messages are left as they are, because they may have been sent. See `m365proxy queue list`, "
            "then retry or drop each by its ID."
        )


def _report_queued(config: Config, id: str) -> None:
    if is_running(config):
        control.request(config.state_dir, "queued", id)


def _note(config: Config, event: str, ids: Iterable[str]) -> None:
    """Write into the event log, beside the running program perhaps, what an administrator did."""
    events = event_log(config)
    if events is not None:
        with contextlib.closing(events):
            for id in ids:
                events.note(event, id=id)


def drop(config: Config, typed: str) -> Optional[int]:
    """Delete a message for good."""
    spool = spool_of(config)
    id = _whole_id(config, spool, typed)
    entry, state = _take(config, spool, id, spool.drop)
    _note(config, "dropped", [id])
    print(f"{id} is deleted.")
    if entry.phase in _DOUBTFUL:
        print("It may have been sent nevertheless: look in Sent Items of its mailbox.")
    if state.draft is not None and state.draft.id:
        print(f"A draft of it may remain in Drafts of {log.clean(state.draft.mailbox)}.")
    return None


def _take(config: Config, spool: Spool, id: str, action: Callable[[Entry], None]) -> Tuple[Entry, State]:
    """Do something to a message that is not being sent; what it was before.

    UsageError if there is no such message, InUse (75) if it is being sent.
    """
    for _ in range(_LOOKS):
        entry = _entry(config, spool, id)
        with at_rest(config) as is_at_rest:
            if entry.phase in (Phase.CLAIMED, Phase.POSTING) and not is_at_rest:
                raise InUse(f"{id} is being sent right now. See later what became of it: `m365proxy queue show {id}`.")
            state = spool.state(id) or State()
            try:
                action(entry)
            except FileNotFoundError:
                continue
        return entry, state
    raise _changed(id)


def _whole_id(config: Config, spool: Spool, typed: str) -> str:
    """The ID of the only message that it is the beginning of; else what was typed.  UsageError if there are several."""
    if not status.has_queue(config) or len(typed) < _BEGINNING or spool.find(typed) is not None:
        return typed
    found = sorted({entry.id for entry in spool.entries() if entry.id.startswith(typed)})
    if len(found) > 1:
        named = ", ".join(found[:_NAMED]) + (" ..." if found[_NAMED:] else "")
        raise UsageError(f"{len(found)} messages have an ID that begins so: {named}. Type more of it.")
    return found[0] if found else typed


def _entry(config: Config, spool: Spool, id: str) -> Entry:
    """Where a message is; UsageError if it is nowhere."""
    entry = spool.find(id) if status.has_queue(config) and _is_id(id) else None
    if entry is None:
        raise UsageError(f"There is no message {log.quote(id, 60)} in the queue. `m365proxy queue list` shows all.")
    return entry


def _changed(id: str) -> InUse:
    return InUse(f"{id} has just changed its state. `m365proxy queue list` shows it, unless it was sent.")


def _is_id(id: str) -> bool:
    """Whether it may be an id.  It comes from a person: nothing may lead out of the queue's directories."""
    return bool(id) and not set(id) & set("/\\.") and id.isprintable()


def _described(spool: Spool, entry: Entry) -> Optional[Dict[str, Any]]:
    """A message as `queue` shows it; None if it is gone by now."""
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


def _line(message: Dict[str, Any]) -> str:
    recipients: List[str] = message.get("recipients", [])
    more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    line = (
        f"{message['id']}  {message['state']:<7}  {clock.ago(message['age_seconds']):>7}  "
        f"{message.get('size', 0):>9}  {log.clean(message.get('mailbox', '?'))} -> "
        f"{log.clean(recipients[0] if recipients else '?')}{more}"
    )
    return line + (f"\n    {log.clean(message['error'], 500)}" if message.get("error") else "")


def _print_header(spool: Spool, entry: Entry) -> None:
    try:
        _, file = spool.open(entry)
    except (DamagedMessage, FileNotFoundError):
        return
    with file:
        for line in file.read(_HEADER_SHOWN).splitlines():
            if not line:
                return
            print(log.clean(line, 1000))
