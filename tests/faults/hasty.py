"""The real program with its waits shortened, for tests that cannot wait for minutes: python hasty.py [arguments].

All true figures of looking and probing are divided by HASTE, so that they keep
their proportions; tests give the stand-in's delays in the same measure.
"""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import spawner  # noqa: E402
from faults import mishaps  # noqa: E402

MISHAPS = os.environ.get(mishaps.ENVIRON) if __name__ == "__main__" else None
if MISHAPS:
    mishaps.set_clock(MISHAPS)

from program import Program  # noqa: E402

from m365proxy import cli, daemon  # noqa: E402
from m365proxy.delivery import attempt, conclusions, drafts, outcome, reachability, sentcopies, sentids  # noqa: E402
from m365proxy.entra import http, tokens  # noqa: E402
from m365proxy.graph import answer, client  # noqa: E402
from m365proxy.maildrop import fetch  # noqa: E402
from m365proxy.system import ownprocess  # noqa: E402

HASTE = 20.0

# Retries and waits for the administrator are not looked at by the clock: no message waits longer (seconds) ...
_LONGEST_RETRY = 4.0
# ... and the longest waits still are longer than a draft is kept.
_DRAFT_KEPT = 3.0


def hurry(haste: float = HASTE) -> None:
    """Shorten the waits of this process."""
    daemon.Delivery = functools.partial(
        attempt.Delivery,
        looks=[wait / haste for wait in attempt.LOOKS],
        still_draft=(attempt.STILL_DRAFT_APART / haste, attempt.STILL_DRAFT_AFTER / haste),
    )
    attempt.ONE_STEP_WAIT /= haste
    answer._RETRY_AFTER_UNSAID /= haste
    reachability.FIRST, reachability.LONGEST = reachability.FIRST / haste, reachability.LONGEST / haste
    conclusions._DRAFT_KEPT = _DRAFT_KEPT
    sentcopies._WAITS = tuple(wait / haste for wait in sentcopies._WAITS)
    sentids._WAITS = tuple(wait / haste for wait in sentids._WAITS)
    sentids._UNANSWERED_WAIT /= haste
    outcome.ADMINISTRATOR_WAIT = _LONGEST_RETRY
    retry_delay = outcome.retry_delay

    def sooner(attempts: int, interval: float, jitter: float, wait: float = 0.0) -> float:
        return max(min(retry_delay(attempts, interval, jitter) / haste, _LONGEST_RETRY), wait or 0.0)

    outcome.retry_delay = sooner
    tokens._FORCE_SECONDS /= haste
    tokens._PASSING_WAITS = tuple(wait / haste for wait in tokens._PASSING_WAITS)
    tokens._PERSON_WAITS = tuple(wait / haste for wait in tokens._PERSON_WAITS)
    daemon._CONTROL_SECONDS, daemon._STATUS_SECONDS = 0.05, 0.2


def shorten_limits() -> None:
    """Shorten the time that a request of this process may take: only for who tests a Graph that is silent.

    A busy machine needs seconds for a request, and what it cannot do in time is left as it is: a draft stays.
    """
    drafts.SEND_SECONDS = attempt.SEND_SECONDS = drafts.SEND_SECONDS / HASTE
    total_seconds = client.total_seconds
    client.total_seconds = lambda silence, body: total_seconds(silence, body) / HASTE
    http._ANSWER_SECONDS /= HASTE
    fetch._VALUE_SECONDS, fetch._AHEAD_SECONDS = fetch._VALUE_SECONDS / HASTE, fetch._AHEAD_SECONDS / HASTE


class HastyProgram(Program):
    """Program, run by this file.  Where mishaps befall it, it is no fork, which would have kept the true clock."""

    def launch(self) -> "HastyProgram":
        """Start it, and wait for nothing."""
        popen = subprocess.Popen if mishaps.ENVIRON in self.environ else spawner.popen
        with open(self.log, "ab") as log:
            self.process = popen(
                [sys.executable, __file__, "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=self.directory,
            )
        return self

    def start(self, **environ: str) -> "HastyProgram":
        self.environ.update(environ)
        self.launch().await_status()
        return self


if __name__ == "__main__":
    # A new interpreter for each renewal of the sign-in would take longer than most of the program's lives here.
    ownprocess.is_possible = lambda: False
    hurry()
    shorten_limits()
    if MISHAPS:
        mishaps.limit_disk(MISHAPS)
    sys.exit(cli.main())
