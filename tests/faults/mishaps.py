"""What else befalls a running program: one of its processes is killed, a disk is full for a moment, a clock is set, ...

The child looks into the directory that the environment names (`ENVIRON`); the parent puts files there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import random
import signal
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Callable, Dict

from processes import tree_of

from m365proxy.system import files  # which does not keep the clock that set_clock sets

if TYPE_CHECKING:
    from program import Program

ENVIRON = "M365PROXY_TEST_MISHAPS"

# Files in that directory: while it exists, nothing can be written; and seconds by which the clock is wrong.
_FULL, _CLOCK = "full", "clock"

# Seconds a clock is set forth or back at most: less than the day after which leftovers are removed.
_CLOCK_STEP = 12 * 3600

# "" is nothing.  On Windows the program is one process, which the torture itself kills.
_NAMES = ("full disk", "clock", "reload", "sign-in", "reload and sign-in", "")
if sys.platform != "win32":
    _NAMES = ("process killed", *_NAMES)


# The child's side.


def set_clock(directory: str) -> None:
    """Let time.time be wrong by what the parent says; before anything is imported that keeps it."""
    true_time, path = time.time, os.path.join(directory, _CLOCK)

    def wrong_time() -> float:
        try:
            with open(path, encoding="ascii") as file:
                return true_time() + float(file.read() or 0)
        except OSError:  # there is none; or, on Windows, the parent exchanges it
            return true_time()

    time.time = wrong_time


def limit_disk(directory: str) -> None:
    """Let nothing new be written while the parent says so; renaming and removing go on, as on a full disk."""
    from faults.disk import FaultyDisk

    path = os.path.join(directory, _FULL)

    class FullDisk(FaultyDisk):
        def step(self, name: str) -> None:
            if name in ("create", "write", "sync_file") and os.path.exists(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    FullDisk(SimpleNamespace(setattr=setattr))


# The parent's side.


class Mishaps:
    """One at a time, at random; `seen` counts them.

    `beside`: another installation that is signed in as the same user.
    `calm`: a context in which the tenant has no faults.
    """

    def __init__(self, program: "Program", beside: "Program", dice: random.Random, calm: Callable[[], Any]):
        self.seen: Dict[str, int] = {}
        self._program = program
        self._beside = beside
        self.dice = dice
        self._calm = calm
        self._directory = pathlib.Path(program.directory) / "mishaps"
        self._directory.mkdir()
        program.environ[ENVIRON] = str(self._directory)

    def one(self) -> None:
        """Let something happen to the running program, or nothing."""
        name = self.dice.choice(_NAMES)
        if not name:
            return
        self.seen[name] = self.seen.get(name, 0) + 1
        if name == "process killed":
            self._kill_one()
        if name == "full disk":
            self._fill_disk()
        if name == "clock":
            self._clock(self.dice.uniform(-_CLOCK_STEP, _CLOCK_STEP))
        if "reload" in name:
            self._program.reload()
        if "sign-in" in name:
            self._sign_in_again()

    def end(self) -> None:
        """There is room again, and the clock is right."""
        with contextlib.suppress(FileNotFoundError):
            (self._directory / _FULL).unlink()
        self._clock(0.0)

    def _kill_one(self) -> None:
        """SIGKILL for a receiver, or for the process that makes them."""
        others = tree_of(self._program.process.pid)[1:]
        if others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(others), signal.SIGKILL)

    def _fill_disk(self) -> None:
        (self._directory / _FULL).touch()
        time.sleep(self.dice.uniform(0.05, 0.5))
        (self._directory / _FULL).unlink()

    def _clock(self, seconds: float) -> None:
        new = self._directory / (_CLOCK + ".new")
        new.write_text(repr(seconds), encoding="ascii")
        files.move(str(new), str(self._directory / _CLOCK))

    def _sign_in_again(self) -> None:
        """Microsoft ends the sign-in, and after a while somebody signs in anew."""
        self._program.sandbox.entra.revoke()
        time.sleep(self.dice.uniform(0, 0.3))
        with self._calm():
            self._program.sign_in()
            self._beside.sign_in()
