"""The monitor of the running program: takes the snapshots, and keeps status.json, the counters and the devices."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

from ..errors import ProxyError
from ..spool.overview import Overview, QueueView
from ..system import events, log, statusfile
from ..system.events import EventLog, Position
from . import findings, snapshot
from .counterfile import CounterFile
from .counters import Counters
from .devices import Devices
from .findings import Finding
from .notices import Notices
from .snapshot import ProgramView, SignInView, Snapshot, Watched
from .warnings import Warnings

logger = log.get("status")

# Seconds between writes of counters.json; after a kill the event log says what was counted since.
_SAVE_SECONDS = 60.0


class Report(Snapshot):
    """What status.json holds: the snapshot, and what was found in it.

    The findings of a program that runs are DatedFindings.
    """

    verdict: str
    findings: List[Finding]


def report_on(taken: Snapshot, found: Sequence[Finding] = ()) -> Report:
    """What there is to do, and so how it all stands.  `found`: what is known already, and more urgent."""
    everything = [*found, *findings.find(taken)]
    report = {"verdict": "", **taken, "findings": everything}
    report["verdict"] = findings.verdict(taken["running"], everything)
    return cast(Report, report)


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
        *,
        counters: Optional[Counters] = None,
        event_log: Optional[EventLog] = None,
        notices: Optional[Notices] = None,
    ):
        """`watched`, `sign_in`, `program`: give what is true now.  `event_log`: what the log writes steps to.

        `notices`: sends what has to be known; without them, only the log says it.
        """
        self.counters = counters or Counters()
        self.devices = Devices()
        self._watched = watched
        self._overview = overview
        self._sign_in = sign_in
        self._program = program
        self._notices = notices
        self._warnings = Warnings(monotonic)
        self._clock = clock
        self._monotonic = monotonic
        self._saved = self._ticked = monotonic()
        self._unwritable = ""
        self._is_forgetful = False  # the disk does not take warnings.json
        self._is_uncounted = False  # ... nor counters.json
        self._followers = events.Followers([self.counters.note, self.devices.note], event_log)
        self._file: CounterFile  # made by start(): it needs the state directory

    def start(self) -> None:
        """Go on counting and warning where the last run ended.  The state directory is there."""
        watched = self._watched()
        self._file = CounterFile(watched.state_dir, self.counters)
        self._file.load(watched.mailboxes)
        self.devices.load(watched.state_dir)
        self._warnings.load(watched.state_dir)
        self._followers.start()
        self._save()

    def stop(self) -> None:
        if self._notices is not None:
            self._notices.stop()
        with self._followers.held() as end:
            content, devices = self.counters.content(), self.devices.content(end)
            self._followers.stop()
        self._write_status(self._look())
        self._write_counters(content, devices, end, stopped=True)
        self._write_warnings()

    def note_session(self, service: str, client: str) -> None:
        """A client was let in."""
        self.counters.note_session(service)
        self.devices.note_session(self._clock(), service, client)

    def tick(self) -> Optional[Report]:
        """Warn of what is due, write status.json, and the counters now and then; None if there is no report."""
        self._ticked = self._monotonic()
        report = self._look()
        if report is not None:
            self._warn(report)
        self._write_status(report)
        if self._ticked - self._saved >= _SAVE_SECONDS:
            self._save()
            self._write_warnings()
        return report

    def _warn(self, report: Report) -> None:
        notice = self._warnings.follow(report["findings"], report["written"])
        if notice is not None and self._notices is not None:
            self._notices.send(notice, self.report, self._warnings.settle)
        elif notice is not None:
            self._warnings.settle(notice, True)
        if self._warnings.is_changed:
            self._write_warnings()

    def report(self) -> Report:
        """The state of things now."""
        now = self._clock()
        queue, unreadable = self._queue()
        taken = snapshot.take(self._watched(), queue, self._sign_in(), self.counters, now, self._program())
        report = report_on(
            cast(
                Snapshot,
                {
                    **taken,
                    "stalled": self._stalled(),
                    "refusing": self._overview.refusal(),
                    "unreadable": unreadable,
                    "unwritable": self._unwritable,
                },
            )
        )
        report["findings"] = [self._warnings.date(finding, now) for finding in report["findings"]]
        return report

    def _queue(self) -> Tuple[QueueView, str]:
        """The queue, and why it cannot be listed; then it is as it was: of that, too, somebody has to be warned."""
        try:
            return self._overview.look(), ""
        except OSError as error:
            return self._overview.latest, error.strerror or str(error)

    def is_alive(self) -> bool:
        """Whether the listeners accept and the daemon's loop turns.  Asks no disk."""
        return not self._program()["deaf"] and self._stalled() < findings.STALLED

    def _stalled(self) -> int:
        return int(self._monotonic() - self._ticked)

    def _look(self) -> Optional[Report]:
        try:
            return self.report()
        except (OSError, ProxyError) as error:
            logger.warning("there is no status: %s", error)
            return None

    def _save(self) -> None:
        self._saved = self._monotonic()
        with self._followers.held() as end:
            content, devices = self.counters.content(), self.devices.content(end)
        self._write_counters(content, devices, end)

    def _write_counters(
        self, content: Dict[str, Any], devices: Dict[str, Any], end: Optional[Position], stopped: bool = False
    ) -> None:
        try:
            self._file.save(content, end, stopped)
            self.devices.save(self._watched().state_dir, devices)
        except (OSError, ProxyError) as error:
            if not self._is_uncounted:
                logger.warning("counters.json and devices.json cannot be written: %s", error)
            self._is_uncounted = True
            return
        self._is_uncounted = False

    def _write_warnings(self) -> None:
        try:
            self._warnings.save(self._watched().state_dir)
        except (OSError, ProxyError) as error:
            if not self._is_forgetful:
                logger.warning("warnings.json cannot be written, so a restart may repeat warnings: %s", error)
            self._is_forgetful = True
            return
        self._is_forgetful = False

    def _write_status(self, report: Optional[Report]) -> None:
        if report is None:
            return
        try:
            statusfile.write(self._watched().state_dir, report)
        except (OSError, ProxyError) as error:
            fault = getattr(error, "strerror", None) or str(error)
            if fault != self._unwritable:  # once until all is well again
                logger.warning("status.json cannot be written: %s", fault)
            self._unwritable = fault
            return
        self._unwritable = ""
