"""`test --notify`: sends a test by each way that is configured for warnings, and says what came of it."""

from __future__ import annotations

from typing import Any, Optional

from ..account import Account, notice_ways, spool_of
from ..config.sections import Config
from ..delivery.warningmail import WarningMail
from ..errors import NotRunning, ProxyError, Temporary, UsageError
from ..monitoring.notices import Notices
from ..system import control
from . import invocation
from .running import is_running, latest_status
from .steps import Steps
from .terminal import Mark, Terminal

# Seconds for the mail to be sent.
_PATIENCE = 60.0


def run(config: Config, terminal: Terminal) -> Optional[int]:
    """Try each way once; the exit status of the first that fails.  UsageError if there is none."""
    ways = notice_ways(config)
    if not any(ways):
        raise UsageError("No way for warnings is configured: set notify, notify_url or notify_command in the config.")
    is_up = is_running(config)
    mail = WarningMail(spool_of(config), lambda id: control.request(config.state_dir, "queued", id), _PATIENCE)

    def latest() -> Any:
        if not is_up:
            raise NotRunning("m365proxy is not running, so no mail is sent. Start it, and test again.")
        status = latest_status(config.state_dir)
        if "mailboxes" not in status:
            raise NotRunning("m365proxy runs, but has written no status. `m365proxy status` shows why.")
        return status

    account = Account(config)
    notices = Notices(lambda: ways, mail.send, account.outbound)
    steps = Steps(terminal, invocation.program(config.path))
    terminal.line("m365proxy test: a test by each way that warnings take")
    status = None
    for way, attempt in notices.test(latest):
        try:
            steps.done(f"{way}: {attempt()}")
        except (ProxyError, OSError) as error:
            steps.done(f"{way}: {getattr(error, 'strerror', None) or error}", Mark.WRONG)
            status = status or (error.exit_status if isinstance(error, ProxyError) else Temporary.exit_status)
    return status
