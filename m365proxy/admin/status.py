"""What `status` shows: the queue, the sign-in and the mailboxes, as people read them."""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, List

from ..config.sections import Config
from ..system.clock import ago


def has_queue(config: Config) -> bool:
    """Whether there has been a queue already: there is none before the first start.

    PermissionError if this user may not know.
    """
    try:
        return stat.S_ISDIR(os.stat(os.path.join(config.state_dir, "queue", "new")).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


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
    age = f", oldest {ago(now - depth['oldest'])}" if depth["oldest"] else ""
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
