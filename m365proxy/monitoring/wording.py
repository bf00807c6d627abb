"""How things stand, in the words that `status` and the page share.  Texts may hold what comes from outside."""

from __future__ import annotations

from typing import List, Tuple

from ..spool.overview import QueueView
from ..system.clock import ago
from .monitor import Report
from .snapshot import MailboxView, SignInView
from .stories import local_time

# An error is news for so long (seconds).
_NEWS = 86400


def running(report: Report) -> str:
    """Since when the program runs, and with how many clients."""
    if not report["running"]:
        return "no"
    if not report["written"]:
        return "yes, but it has written nothing about itself"
    since = f"since {local_time(report['started'])}, " if report["started"] else ""
    count = report["connections"]
    clients = f"{count} {'connection' if count == 1 else 'connections'}"
    text = f"{since}pid {report['pid']}, version {report['version']}, {clients}"
    if any(finding["key"] == "stale" for finding in report["findings"]):
        text += f" (this and the ports as of {local_time(report['written'])})"
    return text


def sign_in(view: SignInView, now: float) -> str:
    """Who is signed in; what is wrong with it is among the findings.  `now`: seconds since 1970."""
    if not view["user"]:
        return "none"
    text = view["user"]
    if view["signed_in_at"]:
        text += f", since {ago(now - view['signed_in_at'])}"
    if view["last_refresh"]:
        text += f", renewed {ago(now - view['last_refresh'])} ago"
    return text + (" (see above)" if view["error"] else "")


def disk(free: int, least: int) -> str:
    """Both in MB."""
    return f"{free} MB free" + (f" (below {least} MB new mail is refused)" if least else "")


def ends(report: Report) -> List[Tuple[str, str]]:
    """What ends one day, and when."""
    certificate, days = report["certificate"], report["secret_days"]
    rows = []
    if certificate is not None:
        rows.append(("certificate", f"{certificate['path']}, {_left(certificate['days'])}"))
    if days is not None:
        rows.append(("app secret", _left(days)))
    return rows


def _left(days: int) -> str:
    return "expired" if days < 0 else f"valid for {days} {'day' if days == 1 else 'days'}"


def queue(view: QueueView, now: float) -> str:
    """How much of it is in which state.  `now`: seconds since 1970."""
    counts = {
        "waiting": view["waiting"],
        "being sent": view["sending"],
        "held": view["held"],
        "failed": view["failed"],
    }
    some = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return (some or "empty") + (f"; the oldest waits for {ago(now - view['oldest'])}" if view["oldest"] else "")


def is_news(box: MailboxView, now: float) -> bool:
    """Whether a mailbox wants an administrator's eye."""
    has_failed = box["last_error_time"] > max(box["last_delivery"], now - _NEWS)
    return bool(box["waiting"] or box["failed_24h"] or has_failed)
