"""What `status` shows: the queue, the sign-in and the mailboxes, as people read them."""

from __future__ import annotations

import calendar
import os
import stat
import time
from typing import Any, Dict, List, Optional

from ..config.sections import Config
from ..spool.spool import Spool
from ..spool.state import Phase, Place


def queue(spool: Spool, now: float) -> Dict[str, Any]:
    """Depth and age (seconds) of the queue, from its listing."""
    counts = {"waiting": 0, "sending": 0, "held": 0, "failed": 0}
    oldest: Optional[str] = None
    for entry in spool.entries():
        if entry.place is Place.NEW:
            counts["waiting"] += 1
        elif entry.place is Place.FAILED:
            counts["failed"] += 1
        else:
            counts["held" if entry.phase is Phase.HELD else "sending"] += 1
        if entry.place is not Place.FAILED and (oldest is None or entry.id < oldest):
            oldest = entry.id
    return dict(counts, oldest_seconds=max(0, int(now - accepted_time(oldest))) if oldest else 0)


def has_queue(config: Config) -> bool:
    """Whether there has been a queue already: there is none before the first start.

    PermissionError if this user may not know.
    """
    try:
        return stat.S_ISDIR(os.stat(os.path.join(config.state_dir, "queue", "new")).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def accepted_time(id: str) -> float:
    """When a message was accepted (seconds since 1970), from its id."""
    try:
        return float(calendar.timegm(time.strptime(id[:15], "%Y%m%dT%H%M%S")))
    except (ValueError, OverflowError):
        return 0.0


def render(status: Dict[str, Any], now: float) -> str:
    """The status for a terminal."""
    lines: List[str] = []
    running = status.get("running")
    lines.append(f"running        yes, pid {status.get('pid')}" if running else "running        no")
    sign_in = status.get("sign_in", {})
    lines.append(f"sign-in        {_sign_in(sign_in, now)}")
    if running and status.get("paused"):
        lines.append(f"sending        paused: {status['paused']}")
    for listener in status.get("listeners", []) if running else []:
        lines.append(f"listening      {listener}")
    depth = status["queue"]
    line = ", ".join(f"{depth[name]} {name}" for name in ("waiting", "sending", "held", "failed"))
    age = f", oldest {ago(depth['oldest_seconds'])}" if depth["oldest_seconds"] else ""
    lines.append(f"queue          {line}{age}")
    if depth["held"]:
        lines.append("               held messages may have been sent: see `m365proxy queue list`")
    for name, box in sorted(status.get("mailboxes", {}).items()):
        lines.append(f"mailbox        {name}: {_mailbox(box, now)}")
    return "\n".join(lines)


def _sign_in(sign_in: Dict[str, Any], now: float) -> str:
    if sign_in.get("error"):
        return f"problem: {sign_in['error']}"
    if not sign_in.get("user"):
        return "none; run `m365proxy login`"
    since = sign_in.get("signed_in_at") or 0
    return f"{sign_in['user']}" + (f", since {ago(now - since)} ago" if since else "")


def _mailbox(box: Dict[str, Any], now: float) -> str:
    last = f"last delivery {ago(now - box['last_delivery'])} ago" if box.get("last_delivery") else "no delivery yet"
    if box.get("last_error"):
        last += f"; last error {ago(now - box['last_error_time'])} ago: {box['last_error']}"
    return last


def ago(seconds: float) -> str:
    """A span of time in a fitting unit: "45 s", "12 min", "3 h", "2 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
