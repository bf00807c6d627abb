"""What is removed once a day: failed messages past their time, states without a message, unfinished files."""

from __future__ import annotations

import os
from typing import Optional

from ..system import events, files, log
from ..system.clock import clock_is_plausible
from .envelope import DamagedMessage
from .spool import Spool
from .state import Entry, Place

logger = log.get("housekeeping")

_DAY = 24 * 3600.0

# How many recipients the log line of a removal names.
_NAMED = 20


def sweep(spool: Spool, keep_failed_days: float, now: Optional[float]) -> int:
    """Remove all that; returns how many failed messages were removed.

    `now` is the time by Graph's clock, None if it cannot be had: ours may be
    years ahead, so nothing is removed by its age then.
    """
    spool.sweep()
    if now is None:
        logger.info("Graph cannot be asked for the time; nothing old is removed today.")
        return 0
    removed = 0
    for entry in spool.entries(Place.FAILED):
        try:
            if now - _given_up(spool, entry, now) > keep_failed_days * _DAY:
                _remove(spool, entry, keep_failed_days)
                removed += 1
        except FileNotFoundError:
            continue  # an administrator was quicker
        except OSError as error:
            logger.error("failed message %s cannot be removed: %s", entry.id, error.strerror or error)
    _sweep_states(spool, now)
    return removed


def _given_up(spool: Spool, entry: Entry, now: float) -> float:
    """When a message was given up; if the clock was wrong then, when its file was written."""
    state = spool.state(entry.id)
    if state is not None and clock_is_plausible(state.last_attempt) and state.last_attempt <= now + _DAY:
        return state.last_attempt
    written = os.stat(spool.path(entry)).st_mtime
    # Written before the clock was set: nobody knows when, so it stays.
    return written if clock_is_plausible(written) else now


def _remove(spool: Spool, entry: Entry, keep_failed_days: float) -> None:
    try:
        envelope, file = spool.open(entry)
        file.close()
        mailbox, sender, recipients = envelope.mailbox, envelope.sender, envelope.recipients
    except DamagedMessage:
        mailbox, sender, recipients = "unknown", "unknown", ()
    spool.drop(entry)
    named = ", ".join(recipients[:_NAMED]) + (" ..." if recipients[_NAMED:] else "")
    logger.warning(
        "failed message %s removed after %g days (queue.keep_failed_days): mailbox=%s sender=%s recipients=%s",
        entry.id,
        keep_failed_days,
        log.clean(mailbox),
        log.clean(sender),
        log.clean(named, 1000),
        extra=events.step("removed", id=entry.id, mailbox=mailbox),
    )


def _sweep_states(spool: Spool, now: float) -> None:
    """Remove state files whose message is gone, as after a power cut."""
    directory = os.path.join(spool.directory, "state")
    known = {entry.id for entry in spool.entries()}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        id = name.partition(".")[0]
        try:
            old = now - os.stat(path).st_mtime > _DAY
        except FileNotFoundError:
            continue
        # A message between two directories was in none of the listings: ask for it by name.
        if old and (name.endswith(".tmp") or (id not in known and spool.find(id) is None)):
            files.remove(path)
            logger.info("swept state/%s, whose message is gone", name)
