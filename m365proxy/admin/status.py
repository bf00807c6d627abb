"""`status`: how all stands, as the running program reports it; else as far as it can be seen from outside."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, cast

from ..account import Account, spool_of, watched
from ..config.sections import Config
from ..errors import NotRunning
from ..monitoring import findings, snapshot
from ..monitoring.counterfile import CounterFile
from ..monitoring.counters import Counters
from ..monitoring.findings import DatedFinding, Finding
from ..monitoring.monitor import Report, report_on
from ..monitoring.snapshot import ProgramView, SignInView
from ..spool.overview import Overview
from .init.nextsteps import Call
from .running import is_running, latest_status
from .statusview import StatusView
from .terminal import Terminal

# There is something to do.
_ATTENTION = 1

# Of a program that has written nothing about itself.
_UNKNOWN = ProgramView(
    pid=0, started=0.0, listeners=[], deaf=[], draining=False, connections=0, paused="", clock_skew=0.0, sent={}
)


def has_queue(config: Config) -> bool:
    """Whether there has been a queue already: there is none before the first start.

    PermissionError if this user may not know.
    """
    try:
        return stat.S_ISDIR(os.stat(os.path.join(config.state_dir, "queue", "new")).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def show(config: Config, unit: str, as_json: bool, environ: Mapping[str, str] = os.environ) -> Optional[int]:
    """Print how all stands.  1 if there is something to do, 3 if nothing runs.

    `unit`: of the service manager, "" if there is none.
    """
    report = look(config)
    if as_json:
        print(json.dumps(report, indent=1))
    else:
        call = Call(config.path, environ)
        view = StatusView(Terminal(sys.stdout, environ), call("").rstrip(), unit, call.as_root(""))
        view.show(report, time.time())
    if not report["running"]:
        return NotRunning.exit_status
    return _ATTENTION if report["findings"] else None


def look(config: Config) -> Report:
    """How all stands.  `written` is when the running program wrote what only it can know, 0 if it never did."""
    account = Account(config)
    if not is_running(config):
        return _own(config, account)
    told = latest_status(config.state_dir)
    trouble = findings.stale(told.get("written") or 0.0, time.time())
    if trouble or not is_whole(told):
        trouble = trouble or findings.other_version(str(told.get("version") or "unknown"))
        return _own(config, account, _program(told), trouble, told.get("written") or 0.0)
    return _hastened(_with_the_disk_of_now(cast(Report, told)), account)


def is_whole(told: Dict[str, Any]) -> bool:
    """Whether it is a Report: another version of the program may have written something else."""
    return Report.__annotations__.keys() <= told.keys()


def _own(
    config: Config,
    account: Account,
    program: Optional[ProgramView] = None,
    trouble: Sequence[Finding] = (),
    written: float = 0.0,
) -> Report:
    """What can be seen from outside, and what the running program told of itself when it last wrote."""
    watching = watched(config, config.state_dir)
    counters = Counters()
    CounterFile(config.state_dir, counters).load(watching.mailboxes)
    taken = snapshot.take(
        watching, Overview(spool_of(config)).look(), account.tokens.state(), counters, time.time(), program
    )
    report = report_on(taken, trouble)
    if program is not None:
        report["written"] = written
    return report


def _program(told: Dict[str, Any]) -> ProgramView:
    """What it told of itself, another version perhaps."""
    return cast(ProgramView, {**_UNKNOWN, **{key: told[key] for key in _UNKNOWN if key in told}})


def _with_the_disk_of_now(told: Report) -> Report:
    """A disk that is full keeps the running program from writing that it is full."""
    free = snapshot.free_mb(told["state_dir"])
    if free is None:
        return told
    now = report_on(cast(Report, {**told, "disk_free_mb": free}))
    is_news = [finding["key"] for finding in now["findings"]] != [finding["key"] for finding in told["findings"]]
    return now if is_news else told


def _hastened(told: Report, account: Account) -> Report:
    """Show at once what the running program will have noticed within seconds: that somebody signed in or out."""
    if account.app_only:
        return told
    known = told["sign_in"]
    if account.token_file.identity() is None:
        return _changed(told, account.tokens.state(), told["paused"]) if known["user"] else told
    # For a moment after its start, the program does not know since when somebody is signed in.
    if account.token_file.is_newer(told["written"]) or not (known["signed_in_at"] or known["error"]):
        stored = account.tokens.state()
        if not stored["error"]:  # this process may lack the key that the service has
            return _changed(told, stored, "" if known["error"] else told["paused"])
    return told


def _changed(told: Report, sign_in: SignInView, paused: str) -> Report:
    """With another sign-in, and what follows from that."""
    changed = told.copy()
    changed["sign_in"], changed["paused"] = sign_in, paused
    report = report_on(changed)
    begun = {finding["key"]: finding.get("since") for finding in cast(List[DatedFinding], told["findings"])}
    report["findings"] = [
        DatedFinding(**finding, since=begun.get(finding["key"]) or time.time()) for finding in report["findings"]
    ]
    return report
