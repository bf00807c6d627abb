"""Each mailbox: whether it may send, and whether it can be read; they need different rights."""

from __future__ import annotations

import time
from typing import Iterator, NamedTuple, Tuple

from ...account import Account, spool_of
from ...config import load as configuration
from ...config.sections import Config, MailboxConfig
from ...delivery.routes import Routes
from ...errors import ProxyError, Temporary
from ...graph import refusals
from ...graph.answer import GraphRefused, GraphTrouble
from ...mime import prepare
from ...spool.spool import mailbox_tag, tag_of
from ...spool.state import Place
from ...system import clock, statusfile
from ...system.choices import Permissions, Service
from ..terminal import Mark
from . import network
from .result import Result, of_error, of_text
from .subject import Subject

# A mailbox or a right at Exchange is missing.
_NOT_IN_EXCHANGE = 67

# How many waiting messages of a mailbox are read to see why they wait.
_SAMPLE = 50


class Sending(NamedTuple):
    """When mail of a mailbox was last sent, and when and why an attempt last failed; 0 is never."""

    worked: float
    failed: float = 0.0
    error: str = ""
    code: str = ""


def mailboxes(subject: Subject) -> Iterator[Result]:
    """Two lines each; only that of sending if permissions is "send"."""
    config, account = subject.config, subject.account
    for mailbox in config.mailboxes:
        reading, missing = [], ""
        if config.permissions == Permissions.FULL:
            line, missing = _reading(config, account, mailbox)
            reading.append(line)
        yield _send(f"{mailbox.username} send", _sending(config, account, mailbox.username), missing)
        yield from reading


def _reading(config: Config, account: Account, mailbox: MailboxConfig) -> Tuple[Result, str]:
    """The line, and a sentence if there is no such mailbox."""
    name = f"{mailbox.username} read"
    try:
        account.graph.read("GET", mailbox.username, "/mailFolders/inbox", params={"$select": "id"}).close()
    except GraphRefused as error:
        answer = error.answer
        sentence = refusals.sentence(
            refusals.READ,
            http=answer.status,
            code=answer.code,
            mailbox=mailbox.username,
            user=account.graph.user,
            app=account.graph.app,
        )
        missing = sentence if answer.code.lower() in refusals.NO_MAILBOX else ""
        if answer.status not in (403, 404):
            return of_text(Mark.WRONG, name, sentence, Temporary.exit_status), missing
        if _is_read(config, account, mailbox):
            return of_text(Mark.WRONG, name, sentence, _NOT_IN_EXCHANGE), missing
        return Result(Mark.INFO, name, "cannot be read, which is not needed to send", sentence), missing
    except GraphTrouble as error:
        return of_error(name, error, "" if error.answer.from_graph else network.let_out(account)), ""
    except ProxyError as error:
        return of_error(name, error), ""
    return Result(Mark.OK, name, "its inbox can be opened"), ""


def _is_read(config: Config, account: Account, mailbox: MailboxConfig) -> bool:
    """Whether anything but sending is done in a mailbox: POP3, the removal of old copies, the drafts of large mail.

    An account may make those in its own mailbox; the app has none.
    """
    has_pop3 = Service.POP3 in mailbox.services and any(wanted.protocol == Service.POP3 for wanted in config.sockets)
    is_large = configuration.size_limit(config.attachment_limit_mb) > prepare.LARGE_MIME_CEILING
    sends_large = not account.graph.user and Service.SMTP in mailbox.services and is_large
    return has_pop3 or mailbox.sent_items is not None or sends_large


def _sending(config: Config, account: Account, address: str) -> Sending:
    """What the last deliveries showed.  Graph has no harmless way to ask."""
    known = statusfile.read(config.state_dir).get("mailboxes", {}).get(address, {})
    routes = Routes(config.state_dir, account.graph.user, config.permissions == Permissions.FULL)
    worked = max(routes.sent(address), known.get("last_delivery") or 0.0)
    spool, tag = spool_of(config), mailbox_tag(address)
    try:
        waiting = sorted(entry.id for entry in spool.entries(Place.NEW) if tag_of(entry.id) == tag)[:_SAMPLE]
        states = [state for state in map(spool.state, waiting) if state is not None and state.error]
    except OSError:  # no queue yet, or none that may be read: the line of state says so
        states = []
    if states:
        last = max(states, key=lambda state: state.last_attempt)
        return Sending(worked, last.last_attempt, last.error, last.code)
    return Sending(worked, known.get("last_error_time") or 0.0, known.get("last_error") or "")


def _send(name: str, known: Sending, missing: str) -> Result:
    """`missing`: a sentence if it is known that there is no such mailbox, else ""."""
    now = time.time()
    if known.failed > known.worked:
        sentence = f"the last attempt failed {clock.ago(now - known.failed)} ago: {known.error}"
        if known.code.lower() in refusals.NO_RIGHT | refusals.NO_MAILBOX:
            return of_text(Mark.WRONG, name, sentence, _NOT_IN_EXCHANGE)
        return of_text(Mark.ATTENTION, name, sentence)
    if known.worked:
        return Result(Mark.OK, name, f"a delivery succeeded {clock.ago(now - known.worked)} ago")
    if missing:
        return of_text(Mark.WRONG, name, missing, _NOT_IN_EXCHANGE)
    return Result(Mark.INFO, name, "unknown until the first delivery")
