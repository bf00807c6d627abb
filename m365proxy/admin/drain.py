"""`drain`: the running program takes no new mail, and its queue runs out; for a stop that leaves nothing behind."""

from __future__ import annotations

import time
from typing import Callable, Optional, cast

from ..config.sections import Config
from ..errors import NotRunning
from ..monitoring.findings import still_to_do
from ..monitoring.snapshot import Snapshot
from ..system import control
from .running import is_running, latest_status
from .status import is_whole

# Between two looks (seconds).
_AGAIN = 1.0


def drain(config: Config, sleep: Callable[[float], None] = time.sleep) -> Optional[int]:
    """Have it drained, and wait for the end of that, however long it takes; NotRunning if the program ends before."""
    if not is_running(config):
        raise NotRunning("m365proxy is not running: it accepts no mail. It sends what is queued when it is started.")
    control.request(config.state_dir, "drain")
    print("No new mail is accepted from now on. Ctrl-C ends the waiting, not the draining.", flush=True)
    shown = ""
    while True:
        report = latest_status(config.state_dir)
        if is_whole(report) and report["draining"]:
            rest = still_to_do(cast(Snapshot, report))
            if not rest:
                break
            if rest != shown:
                print(f"{rest[0].upper()}{rest[1:]}.", flush=True)
                shown = rest
        if not is_running(config):
            raise NotRunning("m365proxy has ended before its queue was empty; it sends the rest after its next start.")
        sleep(_AGAIN)
    kept = report["queue"]["held"] + report["queue"]["failed"]
    if kept:
        print(f"Held and failed messages stay in the queue: {kept}. See `m365proxy queue list`.")
    print("All is sent, and no connection is open. Stop m365proxy now; a start accepts mail again.")
    return None
