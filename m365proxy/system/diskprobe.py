"""Whether the disk of a directory still takes a file: one that hangs, as a volume of the network may, says nothing."""

from __future__ import annotations

import os
import threading
import time
from typing import Callable

from . import files, log
from .threads import try_start

logger = log.get("disk")

# So many seconds after the file was begun, whoever asks is told that it is not on the disk yet.  With HAProxy's two
# checks, devices on a disk that hangs are sent to another gateway before they have waited for 10 s.
PATIENCE = 3.0

# From so many seconds on the disk hangs; an SD card that is busy takes a few.
DEADLINE = 10.0

# An answer of the disk is good for so many seconds: each of HAProxy's checks asks anew, but not for each port.
_AGE = 1.5

_NAME = "probe"


class DiskProbe:
    """Any thread may ask.  Nothing is written unless somebody does: an idle machine's disk is left alone."""

    def __init__(
        self,
        directory: str,
        note_hanging: Callable[[bool], object] = lambda is_hanging: None,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`note_hanging` is told when the disk begins to hang, and when it answers again."""
        self._directory = directory
        self._path = os.path.join(directory, _NAME)
        self._note_hanging = note_hanging
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._begun = 0.0  # monotonic, of the file that is being written
        self._is_running = False
        self._is_hanging = False
        self._is_well = False
        self._fresh_until = -1.0  # monotonic

    def is_well(self) -> bool:
        """Whether the disk has taken a small file within the last seconds.  Waits until that takes PATIENCE."""
        with self._changed:
            if not self._is_running and self._monotonic() >= self._fresh_until:
                self._begin()
            while self._is_running and self._monotonic() < self._begun + PATIENCE:
                self._changed.wait(self._begun + PATIENCE - self._monotonic())
            self._set_hanging(self._is_running and self._monotonic() >= self._begun + DEADLINE)
            return self._is_well and not self._is_running

    def _begin(self) -> None:
        self._begun, self._is_running = self._monotonic(), True
        if not try_start(threading.Thread(target=self._run, name="disk-probe", daemon=True)):
            self._is_running = False

    def _run(self) -> None:
        is_well = False
        try:
            files.replace(self._path, b"")
            is_well = True
        except OSError as error:
            logger.warning("the disk of %s does not take a file: %s", self._directory, error.strerror or error)
        finally:
            with self._changed:
                self._is_running, self._is_well = False, is_well
                self._fresh_until = self._monotonic() + _AGE
                self._set_hanging(False)
                self._changed.notify_all()

    def _set_hanging(self, is_hanging: bool) -> None:
        if is_hanging == self._is_hanging:
            return
        self._is_hanging = is_hanging
        if is_hanging:
            logger.error(
                "the disk of %s has not taken a small file for %d s: devices are turned away until it does. Look after "
                "the volume; if another machine has taken it over, stop this m365proxy.",
                self._directory,
                DEADLINE,
            )
        else:
            logger.warning("the disk of %s answers again: devices are served", self._directory)
        self._note_hanging(is_hanging)
