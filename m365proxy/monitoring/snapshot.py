"""The snapshot: all that `status`, the page, health, metrics and warnings show, taken at one moment.

The running program writes it to status.json and hands it to the status port.
If nothing runs, `status` takes one itself: then `program` is None.
"""

from __future__ import annotations

import datetime
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, TypedDict

from .. import __version__
from ..server import certificate
from ..spool.overview import QueueView
from ..spool.spool import mailbox_tag
from ..system import files
from .counters import Counters

_MB = 1024 * 1024


class Watched(NamedTuple):
    """What the config says of things to look at."""

    state_dir: str
    mailboxes: Tuple[str, ...]
    min_free_mb: int
    certificate: str  # a path; "" if there is none, or if the program makes its own
    secret_end: Optional[datetime.date]
    client_certificate: str = ""  # a path: the key of the app registration, and perhaps its certificate; "" if none


class SignInView(TypedDict):
    """As `entra.tokens.Tokens.state` gives it.  Times are seconds since 1970, 0: never."""

    user: str
    signed_in_at: float
    last_refresh: float
    error: str
    needs_sign_in: bool
    exit_status: int


class SentView(TypedDict):
    """How a message was sent: request-id of Graph's 202, and the mailbox its draft was in ("": there was none)."""

    request_id: str
    draft: str


class ProgramView(TypedDict):
    """What only the running program knows."""

    pid: int
    started: float  # seconds since 1970
    listeners: List[str]  # "smtps 192.0.2.1:465"
    deaf: List[str]  # those for mail that accept nobody, because their thread has ended
    draining: bool  # no new mail is accepted, because an administrator wants the queue to run out
    connections: int
    paused: str  # why nothing can be sent at all; "" when it can
    clock_skew: float  # Graph's clock minus this machine's, seconds; 0 if Graph was not asked yet
    sent: Dict[str, Dict[str, SentView]]  # by mailbox the latest, by the message's id


class MailboxView(TypedDict):
    """A mailbox.  Times are seconds since 1970, 0: never."""

    waiting: int
    sent_24h: int
    failed_24h: int
    last_delivery: float
    last_error: str
    last_error_time: float
    last_code: str  # Graph's code of the last error, "" if it gave none
    sent: Dict[str, SentView]


class CertificateView(TypedDict):
    path: str
    days: int  # until its end; below 0 once it has expired


class Snapshot(TypedDict):
    """Sizes are MB of 1,048,576 octets, times seconds since 1970."""

    version: str
    running: bool
    written: float
    state_dir: str
    pid: int
    started: float
    listeners: List[str]
    deaf: List[str]
    draining: bool
    stalled: int  # seconds since the daemon's loop last turned, which it does every 5; 0 if it does not run
    refusing: str  # why new mail is refused for now; "" if it is accepted
    unreadable: str  # why the queue cannot be listed, and is shown as it was seen last; "" if it can
    unwritable: str  # why status.json could not be written the last time; "" if it could
    connections: int
    paused: str
    clock_skew: float
    sign_in: SignInView
    queue: QueueView
    mailboxes: Dict[str, MailboxView]
    disk_free_mb: Optional[int]  # None if it cannot be known
    min_free_mb: int
    certificate: Optional[CertificateView]  # None if there is none, or it cannot be read
    secret_days: Optional[int]  # until the end of the app's secret or certificate; None if that is not known


def take(
    watched: Watched,
    queue: QueueView,
    sign_in: SignInView,
    counters: Counters,
    now: float,
    program: Optional[ProgramView] = None,
) -> Snapshot:
    """`now`: seconds since 1970.  `program`: None if it does not run."""
    sent: Mapping[str, Dict[str, SentView]] = program["sent"] if program else {}
    return Snapshot(
        version=__version__,
        running=program is not None,
        written=now,
        state_dir=watched.state_dir,
        pid=program["pid"] if program else 0,
        started=program["started"] if program else 0.0,
        listeners=program["listeners"] if program else [],
        deaf=program["deaf"] if program else [],
        draining=program["draining"] if program else False,
        stalled=0,
        refusing="",
        unreadable="",
        unwritable="",
        connections=program["connections"] if program else 0,
        paused=program["paused"] if program else "",
        clock_skew=program["clock_skew"] if program else 0.0,
        sign_in=sign_in,
        queue=queue,
        mailboxes={name: _mailbox(name, queue, counters, now, sent.get(name, {})) for name in watched.mailboxes},
        disk_free_mb=free_mb(watched.state_dir),
        min_free_mb=watched.min_free_mb,
        certificate=_certificate(watched.certificate, now),
        secret_days=_secret_days(watched, now),
    )


def names_by_tag(taken: Snapshot) -> Dict[str, str]:
    """The mailboxes of the config by the tags that messages have in the queue."""
    return {mailbox_tag(name): name for name in taken["mailboxes"]}


def _mailbox(name: str, queue: QueueView, counters: Counters, now: float, sent: Dict[str, SentView]) -> MailboxView:
    memory = counters.mailbox(name)
    sent_24h, failed_24h = memory.last_day(now)
    return MailboxView(
        waiting=queue["waiting_by_tag"].get(mailbox_tag(name), 0),
        sent_24h=sent_24h,
        failed_24h=failed_24h,
        last_delivery=memory.last_delivery,
        last_error=memory.last_error,
        last_error_time=memory.last_error_time,
        last_code=memory.last_code,
        sent=sent,
    )


def free_mb(directory: str) -> Optional[int]:
    """What is free on the disk of a directory; None if it cannot be known."""
    try:
        return files.free_bytes(directory) // _MB
    except OSError:
        return None


def _certificate(path: str, now: float) -> Optional[CertificateView]:
    days = _certificate_days(path, now)
    return CertificateView(path=path, days=days) if days is not None else None


def _certificate_days(path: str, now: float) -> Optional[int]:
    """None if there is no certificate, or none that can be read."""
    try:
        return int((certificate.seen(path).end - now) // 86400) if path else None
    except (OSError, ValueError):
        return None


def _secret_days(watched: Watched, now: float) -> Optional[int]:
    """What ends first: the day the config names, or the certificate beside the app's key."""
    day, today = watched.secret_end, datetime.date.fromtimestamp(now)
    known = ((day - today).days if day is not None else None, _certificate_days(watched.client_certificate, now))
    return min((days for days in known if days is not None), default=None)
