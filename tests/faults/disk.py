"""A disk that fails where it is told to: stands before the functions of m365proxy.system.files."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any, List, Optional, Tuple

from m365proxy.system import files

STEPS = ("create", "sync_file", "move", "remove", "sync_directory")


class FaultyDisk:
    """Counts the calls of the file layer, and raises at one of them, or from one on ("sticky").

    `directory`: only what is below it counts ("": all).  `short`: every write(2) takes only so many octets.
    """

    def __init__(self, monkeypatch: Any, directory: str = ""):
        self._directory = directory
        self.steps: List[str] = []
        self.fail_at: Optional[int] = None
        self.fail_on: Optional[Tuple[str, int]] = None  # a step's name, and which one of that name
        self.code = errno.EIO
        self.sticky = False
        self.short = 0
        self.failed = 0
        self._lock = threading.Lock()
        for name in STEPS:
            monkeypatch.setattr(files, name, self._wrapped(name, getattr(files, name)))

    def _wrapped(self, name: str, real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            if not self._is_here(args[0]):
                return real(*args, **more)
            self.step(name)
            if name != "create":
                return real(*args, **more)
            file = real(*args, **more)
            counted = _NewFile(self, os.dup(file.fileno()))
            file.close()
            return counted

        return call

    def _is_here(self, what: Any) -> bool:
        """Whether a path or an open file is in the directory: threads of earlier tests may still write elsewhere."""
        return isinstance(what, _NewFile) or str(what).startswith(self._directory)

    def step(self, name: str) -> None:
        with self._lock:
            number = len(self.steps)
            self.steps.append(name)
            if (name, self.steps.count(name)) == self.fail_on:
                self.fail_at = number
            if self.fail_at is None or not (number == self.fail_at or (self.sticky and number > self.fail_at)):
                return
            self.failed += 1
        raise OSError(self.code, os.strerror(self.code))

    def heal(self) -> None:
        with self._lock:
            self.fail_at = self.fail_on = None


class _NewFile(files.NewFile):
    def __init__(self, disk: FaultyDisk, handle: int):
        super().__init__(handle)
        self._disk = disk

    def _put(self, data: memoryview) -> int:
        self._disk.step("write")
        return super()._put(data[: self._disk.short] if self._disk.short else data)
