"""The monitor of the running program: takes the snapshots, and keeps status.json, the counters and the devices."""

from __future__ import annotations

import logging
import time
from typing import Callable, List, Optional, cast

from ..errors import ProxyError
from ..spool.overview import Overview
from ..system import events, log, statusfile
from . import findings, snapshot
from .counters import Counters
from .devices import Devices
from .findings import Finding
from .snapshot import ProgramView, SignInView, Snapshot, Watched

logger = log.get("status")

# Seconds between writes of counters.json; what was counted since is lost by a kill, unless the event log has it.
_SAVE_SECONDS = 60.0


class Report(Snapshot):
    """What status.json holds: the snapshot, and what was found in it."""

    verdict: str
    findings: List[Finding]


def report_on(taken: Snapshot) -> Report:
    """What there is to do, and so how it all stands."""
    found = findings.find(taken)
    return cast(Report, {"verdict": findings.verdict(taken["running"], found), **taken, "findings": found})


class Monitor:
    """Any thread may ask for a report; the daemon's loop calls `tick`."""

    def __init__(
        self,
        watched: Callable[[], Watched],
        overview: Overview,
        sign_in: Callable[[], SignInView],
        program: Callable[[], ProgramView],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`watched`, `sign_in`, `program`: give what is true now."""
        self.counters = Counters()
        self.devices = Devices()
        self._watched = watched
        self._overview = overview
        self._sign_in = sign_in
        self._program = program
        self._clock = clock
        self._monotonic = monotonic
        self._saved = monotonic()
        self._followers = events.Followers([self.counters.note, self.devices.note])

    def start(self) -> None:
        """Go on counting where the last run ended.  The state directory is there."""
        self.counters.load(self._watched().state_dir)
        self.devices.load(self._watched().state_dir)
        logging.getLogger().addHandler(self._followers)

    def stop(self) -> None:
        logging.getLogger().removeHandler(self._followers)
        self._write(save=True)

    def tick(self) -> Optional[Report]:
        """Write status.json, and the counters now and then; what was written, None if the disk does not take it."""
        return self._write(save=self._monotonic() - self._saved >= _SAVE_SECONDS)

    def report(self) -> Report:
        """The state of things now.  OSError if the queue cannot be listed."""
        taken = snapshot.take(
            self._watched(),
            self._overview.look(),
            self._sign_in(),
            self.counters,
            self._clock(),
            self._program(),
        )
        return report_on(taken)

    def _write(self, save: bool) -> Optional[Report]:
        state_dir = self._watched().state_dir
        try:
            report = self.report()
            statusfile.write(state_dir, report)
            if save:
                self.counters.save(state_dir)
                self.devices.save(state_dir)
                self._saved = self._monotonic()
        except (OSError, ProxyError) as error:
            logger.warning("status.json cannot be written: %s", error)
            return None
        return report
