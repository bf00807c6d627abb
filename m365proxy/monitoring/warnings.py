"""Warnings: which findings last, and who has to be told of them, and when.

A finding counts as standing once it was in all reports of 10 minutes, and as over once it was in none of 10 minutes.
A notice goes out for each that stands, and once a day while it lasts; and one when it is over.  All spans are counted
by the monotonic clock while the program runs, so that a clock that is set changes nothing; only `since` is a time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence

from ..system import files, jsontext, log
from ..system.choices import Word
from .counters import DAMAGED
from .findings import DatedFinding, Finding
from .notice import Notice

logger = log.get("warnings")

_NAME = "warnings.json"


class _Phase(Word):
    """Of a warning; the words are in warnings.json."""

    NEW = "new"  # found, but not for long enough
    STANDING = "standing"  # it may be gone for a while
    OVER = "over"  # kept until that was said, and until a day has passed since the last notice


@dataclasses.dataclass
class _Warning:
    """A finding and its course.

    since: when it was found first, seconds since 1970.
    ended: when it was gone last, likewise; 0 if never.
    is_found: whether the latest report has it.
    seconds: for how long it has been found if it is new, or has been gone if it is not.
    told_ago: seconds since the last notice of it; None if there was none.
    is_told: whether those who get the notices know of it, and not yet of its end.
    """

    finding: Finding
    since: float
    ended: float = 0.0
    phase: _Phase = _Phase.NEW
    is_found: bool = True
    seconds: float = 0.0
    told_ago: Optional[float] = None
    is_told: bool = False


class Warnings:
    """Any thread may call."""

    # Seconds for which a finding has to stand, or to be gone, and at least between two notices.
    hold = 600.0

    # Seconds between two notices of the same finding.
    day = 24 * 3600.0

    # Seconds until a notice is sent again that reached nobody.
    again = 3600.0

    def __init__(self, monotonic: Callable[[], float] = time.monotonic):
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: Dict[str, _Warning] = {}
        self._looked = monotonic()
        self._not_before = -math.inf  # monotonic: no notice goes out before
        self._sending: Optional[Notice] = None
        self.is_changed = False  # since it was saved

    def date(self, finding: Finding, now: float) -> DatedFinding:
        """The finding with its begin; `now` (seconds since 1970) is that of one that is new."""
        with self._lock:
            known = self._known.get(finding["key"])
            since = now if known is None or _has_ended(known) else known.since
            return _dated(finding, since)

    def follow(self, found: Sequence[Finding], now: float) -> Optional[Notice]:
        """Take in the findings of a report, and log what stands or is over; the notice that is due, if one is.

        `now`: seconds since 1970.  `settle` has to be called with the notice.
        """
        with self._lock:
            self._age()
            for finding in found:
                self._see(finding, now)
            present = {finding["key"] for finding in found}
            for key in [key for key in self._known if key not in present]:
                self._miss(key, now)
            return self._due()

    def _age(self) -> None:
        passed = self._monotonic() - self._looked
        self._looked += passed
        for warning in self._known.values():
            if warning.told_ago is not None:
                warning.told_ago += passed
            if warning.is_found == (warning.phase is _Phase.NEW):
                warning.seconds += passed

    def _see(self, finding: Finding, now: float) -> None:
        warning = self._known.get(finding["key"])
        if warning is None or _has_ended(warning):
            told_ago = warning.told_ago if warning is not None else None
            warning = self._known[finding["key"]] = _Warning(finding, now, told_ago=told_ago)
            self.is_changed = True
        warning.finding, warning.is_found = finding, True
        if warning.phase is _Phase.NEW and warning.seconds >= self.hold:
            self._change(warning, _Phase.STANDING)
            logger.warning("%s", _line(finding))
        elif warning.phase is not _Phase.NEW:  # it was gone, but nobody was told so
            warning.phase, warning.seconds = _Phase.STANDING, 0.0

    def _miss(self, key: str, now: float) -> None:
        warning = self._known[key]
        if warning.is_found:
            warning.is_found, warning.ended = False, now
        if warning.phase is _Phase.NEW:
            self._change(warning, _Phase.OVER)
        elif warning.phase is _Phase.STANDING and warning.seconds >= self.hold:
            self._change(warning, _Phase.OVER)
            logger.info("over: %s", log.clean(warning.finding["sentence"], 1000))
        is_under_way = self._sending is not None and key in self._sending.keys
        if _has_ended(warning) and self._may_be_told(warning) and not is_under_way:
            del self._known[key]
            self.is_changed = True

    def _change(self, warning: _Warning, phase: _Phase) -> None:
        warning.phase, warning.seconds = phase, 0.0
        self.is_changed = True

    def _may_be_told(self, warning: _Warning) -> bool:
        return warning.told_ago is None or warning.told_ago >= self.day

    def _due(self) -> Optional[Notice]:
        standing = [w for w in self._known.values() if w.phase is _Phase.STANDING and w.is_found]
        due = [w for w in standing if self._may_be_told(w)]
        over = [w for w in self._known.values() if w.phase is _Phase.OVER and w.is_told]
        under_way = self._sending.keys if self._sending else ()
        if self._monotonic() < self._not_before or all(w.finding["key"] in under_way for w in due + over):
            return None
        for warning in due:
            if warning.told_ago is not None:
                logger.warning("still: %s", _line(warning.finding))
        self._not_before = self._monotonic() + self.hold
        self._sending = Notice(
            # What is back within the day is left out, or its end would have to be told again.
            standing=tuple(_dated(w.finding, w.since) for w in standing if w in due or w.is_told),
            over=tuple((_dated(w.finding, w.since), w.ended) for w in over),
        )
        return self._sending

    def settle(self, notice: Notice, has_arrived: bool) -> None:
        """What became of a notice: whether somebody got it."""
        with self._lock:
            if self._sending is notice:
                self._sending = None
            if not has_arrived:
                self._not_before = self._monotonic() + self.again
                return
            for finding in notice.standing:
                if finding["key"] in self._known:
                    warning = self._known[finding["key"]]
                    warning.told_ago, warning.is_told = 0.0, True
            for finding, _ in notice.over:
                if finding["key"] in self._known:
                    self._known[finding["key"]].is_told = False
            self.is_changed = True

    # Keeping.

    def save(self, state_dir: str) -> None:
        """Write warnings.json, unsynced.  OSError or CannotCreate if the disk does not take it."""
        with self._lock:
            content = json.dumps([dataclasses.asdict(warning) for warning in self._known.values()]).encode()
            self.is_changed = False
        try:
            files.replace(os.path.join(state_dir, _NAME), content, durable=False)
        except BaseException:
            self.is_changed = True
            raise

    def load(self, state_dir: str) -> None:
        """Go on from warnings.json; from nothing if there is none, or it is damaged or cannot be read.

        For a warning, no time has passed while the program did not run.
        """
        path = os.path.join(state_dir, _NAME)
        try:
            stored = jsontext.parse(files.read(path) or b"[]")
            known = {warning["finding"]["key"]: _restored(warning) for warning in stored}
        except OSError as error:
            logger.warning("%s cannot be read, so warnings may be repeated: %s", path, error.strerror or error)
            return
        except DAMAGED:
            logger.warning("%s is damaged, so warnings may be repeated.", path)
            return
        with self._lock:
            self._known, self._looked = known, self._monotonic()

    @property
    def is_empty(self) -> bool:
        return not self._known


def _has_ended(warning: _Warning) -> bool:
    """Whether it is over, and nobody has to be told so."""
    return warning.phase is _Phase.OVER and not warning.is_told


def _dated(finding: Finding, since: float) -> DatedFinding:
    return DatedFinding(key=finding["key"], sentence=finding["sentence"], commands=finding["commands"], since=since)


def _line(finding: Finding) -> str:
    """For the log."""
    commands = f" Run: {'; '.join(finding['commands'])}" if finding["commands"] else ""
    return log.clean(finding["sentence"] + commands, 1000)


def _restored(stored: Dict[str, Any]) -> _Warning:
    """From warnings.json; one of DAMAGED if it is damaged."""
    finding = stored["finding"]
    told_ago = stored["told_ago"]
    return _Warning(
        Finding(
            key=str(finding["key"]),
            sentence=str(finding["sentence"]),
            commands=[str(command) for command in finding["commands"]],
        ),
        since=jsontext.number(stored["since"]),
        ended=jsontext.number(stored["ended"]),
        phase=_Phase(stored["phase"]),
        is_found=bool(stored["is_found"]),
        seconds=jsontext.number(stored["seconds"]),
        told_ago=None if told_ago is None else jsontext.number(told_ago),
        is_told=bool(stored["is_told"]),
    )
