"""`devices --learn`: somebody presses "scan" on the device, sees what comes in, and what to change.

Nothing is accepted meanwhile that would not be without it: the event log is read, and nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Iterator, Optional

from ...config.sections import Config
from ...errors import NotRunning, UsageError
from ...system import control, events, log, statusfile
from .. import spans
from ..init import configfile
from ..init.nextsteps import Call
from ..running import is_running
from ..terminal import Mark, Terminal
from .conclusion import Conclusion
from .observation import Observation

# The shortest and longest time to learn (seconds).
_SHORTEST, _LONGEST = 1.0, 24 * 3600.0

# Seconds between looks at the event log, and at whether the program lives.
_LOOK = 0.2
_LIVES = 5.0

# Seconds within which the program obeys, and writes its status.json again.
_OBEYS = 5.0
_HANGS = 60.0


def learn(config: Config, span: str, apply: bool) -> Optional[int]:
    """Show what comes in for a time, or until Ctrl-C, then what to change; with `apply`, write it.

    UsageError; NotRunning if the program does not run, or stops meanwhile.
    """
    seconds = spans.seconds_of(span, "--learn")
    if not _SHORTEST <= seconds <= _LONGEST:
        raise UsageError("--learn takes up to 24h.")
    if not config.logging.events_mb:
        raise UsageError(
            "--learn reads the event log, which is switched off. Set logging.events_mb (16 is usual), restart the "
            "program, and learn again."
        )
    call = Call(config.path, os.environ)
    command = f"devices --learn {span}{' --apply' if apply else ''}"
    if apply:
        configfile.check_writable(config.path, call.plain(command))
    if not is_running(config):
        raise NotRunning("m365proxy is not running. Start it (the service, or `m365proxy run`), and learn again.")
    terminal = Terminal(sys.stdout, os.environ)
    return Lesson(config, seconds, terminal, Conclusion(config, command, apply, terminal, call)).hold()


class Lesson:
    """One run of the command."""

    def __init__(self, config: Config, seconds: float, terminal: Terminal, conclusion: Conclusion):
        self._config = config
        self._seconds = seconds
        self._terminal = terminal
        self._conclusion = conclusion
        self._observation = Observation()
        self._has_ended = False  # the program, and not the time

    def hold(self) -> Optional[int]:
        """All of it; the exit status."""
        tail = events.Tail(os.path.join(self._config.state_dir, "events"))
        control.request(self._config.state_dir, "watch", str(int(self._seconds)))
        self._introduce()
        try:
            self._watch(tail)
        except KeyboardInterrupt:
            self._terminal.line()
        control.request(self._config.state_dir, "watch", "0")
        self._terminal.line()
        self._conclusion.draw(self._observation.clients)
        return NotRunning.exit_status if self._has_ended else None

    def _introduce(self) -> None:
        end = time.strftime("%H:%M", time.localtime(time.time() + self._seconds))
        self._say(
            f"Press the button on the device now: scan, send, or test. What comes in is shown here until {end}; "
            "Ctrl-C ends it. Nothing is let in that would not be otherwise."
        )
        listeners = statusfile.read(self._config.state_dir).get("listeners") or []
        self._say(f"The program listens on {', '.join(map(log.clean, listeners))}.")
        self._terminal.line()

    def _watch(self, tail: events.Tail) -> None:
        end = time.monotonic() + self._seconds
        signs = self._signs_of_life()
        while True:
            last_look = time.monotonic() >= end
            for line in tail.read():
                for mark, text in self._observation.take(events.parse(line)):
                    self._mark(mark, text)
            if last_look or self._has_ended:
                return
            next(signs)
            time.sleep(max(0.0, min(_LOOK, end - time.monotonic())))

    def _signs_of_life(self) -> Iterator[None]:
        """Each step may look whether the program lives, and says once what is wrong."""
        begun = looked = time.monotonic()
        written, since = None, begun
        while control.is_waiting(self._config.state_dir, "watch", str(int(self._seconds))):
            if time.monotonic() - begun > _OBEYS:
                self._mark(Mark.ATTENTION, "The program does not obey: it hangs, or was stopped in its tracks.")
                break
            yield
        while True:
            now = time.monotonic()
            if now - looked >= _LIVES:
                looked = now
                latest = statusfile.read(self._config.state_dir).get("written")
                if latest != written:
                    written, since = latest, now
                elif now - since >= _HANGS:
                    since = float("inf")
                    self._mark(
                        Mark.ATTENTION, "status.json is not written any more: the program hangs, or the disk is full."
                    )
                if not is_running(self._config):
                    self._has_ended = True
                    self._mark(Mark.WRONG, "The program has stopped, so nothing can come in. Its log says why.")
            yield

    def _mark(self, mark: Mark, text: str) -> None:
        self._terminal.line(self._terminal.wrap(f"{self._terminal.mark(mark)} {text}"))

    def _say(self, text: str) -> None:
        self._terminal.line(self._terminal.wrap(text))
