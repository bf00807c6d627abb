"""`queue`: list, show, retry and drop messages.  Prints for people; returns the exit status or None for 0."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Callable, Iterable, List, Optional, Tuple

from ..account import event_log, spool_of
from ..config.sections import Config
from ..errors import InUse, UsageError
from ..spool.spool import Spool
from ..spool.state import Entry, Phase, Place, State
from ..system import control, log
from . import queueview, status
from .init.nextsteps import Call
from .running import at_rest, is_running
from .terminal import Terminal

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
    described = (queueview.described(spool, entry) for entry in entries)
    messages = (message for message in described if message is not None)  # None: it was sent while we looked
    if as_json:
        for message in messages:
            print(json.dumps(message))
    else:
        program = Call(config.path, os.environ)("").rstrip()
        queueview.show_list(Terminal(sys.stdout, os.environ), messages, program)
    return None


def show(config: Config, typed: str) -> Optional[int]:
    """`typed`, here and below: an ID, or its beginning."""
    spool = spool_of(config)
    id = _whole_id(config, spool, typed)
    entry = _entry(config, spool, id)
    message = queueview.described(spool, entry)
    if message is None:
        raise _changed(id)
    queueview.show_message(Terminal(sys.stdout, os.environ), spool, entry, message)
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
    try:
        for entry in list(spool.entries()) if status.has_queue(config) else ():
            held += entry.phase is Phase.HELD
            state = spool.state(entry.id) if entry.place is Place.NEW else None
            if entry.place is Place.FAILED or (state is not None and state.due > time.time()):
                with contextlib.suppress(UsageError, InUse):  # the program has taken it meanwhile
                    _take(config, spool, entry.id, spool.requeue)
                    tried.append(entry.id)
    finally:  # the disk may be full before the last one; those before it must not be forgotten
        _note(config, "retried", tried)
        for id in tried:
            _report_queued(config, id)
    if tried:
        print(f"{_messages(len(tried), 'waiting or failed')} will be tried again now.")
    else:
        print("No message waits for a later attempt.")
    if held:
        print(
            f"{_messages(held, 'held')} {'is left as it is' if held == 1 else 'are left as they are'}, because "
            f"{'it' if held == 1 else 'they'} may have been sent. See `m365proxy queue list`, then retry or drop each "
            "by its ID."
        )


def _messages(number: int, kind: str) -> str:
    """ "1 held message", "2 held messages"."""
    return f"{number} {kind} {'message' if number == 1 else 'messages'}"


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
    """Delete a message for good; with "failed", all that have failed."""
    spool = spool_of(config)
    if typed == "failed":
        _drop_failed(config, spool)
        return None
    id = _whole_id(config, spool, typed)
    entry, state = _take(config, spool, id, spool.drop)
    _note(config, "dropped", [id])
    print(f"{id} is deleted.")
    if entry.phase in _DOUBTFUL:
        print("It may have been sent nevertheless: look in Sent Items of its mailbox.")
    if state.draft is not None and state.draft.id:
        print(f"A draft of it may remain in Drafts of {log.clean(state.draft.mailbox)}.")
    return None


def _drop_failed(config: Config, spool: Spool) -> None:
    dropped = []
    try:
        for entry in list(spool.entries(Place.FAILED)) if status.has_queue(config) else ():
            if _drop_if_failed(spool, entry.id):
                dropped.append(entry.id)
    finally:  # the disk may fail before the last one
        _note(config, "dropped", dropped)
    if dropped:
        print(f"{_messages(len(dropped), 'failed')} {'is' if len(dropped) == 1 else 'are'} deleted.")
    else:
        print("No message has failed.")


def _drop_if_failed(spool: Spool, id: str) -> bool:
    """Whether it was there, and failed, and is deleted."""
    for _ in range(_LOOKS):
        entry = spool.find(id)
        if entry is None or entry.place is not Place.FAILED:
            break  # somebody else was first, perhaps with `retry`
        with contextlib.suppress(FileNotFoundError):  # the report on it was written in this moment
            spool.drop(entry)
            return True
    return False


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
