"""control/: requests of commands to the running program.  They are files, so that it works on Windows too."""

from __future__ import annotations

import os
from typing import List, Tuple

from . import files, log

logger = log.get("control")

# "queued" and "adopted" come with a message's id, "login" with the digest of a one-time password, "watch" with seconds.
WORDS = ("queued", "adopted", "reload", "flush", "status", "login", "watch", "drain")


class Control:
    """The running program's end.  A fault is logged once until all is well again."""

    def __init__(self, state_dir: str):
        self._directory = _directory(state_dir)
        self._fault = ""

    def make(self) -> None:
        """Make the directory, and remove what was asked of an earlier run."""
        files.make_private(self._directory)
        self.take()

    def take(self) -> List[Tuple[str, str]]:
        """What was asked since the last look: (word, what it is about).

        A file that cannot be removed is left for the next look: obeyed now,
        it would be obeyed again and again.
        """
        found, fault = [], ""
        try:
            names = os.listdir(self._directory)
        except OSError as error:
            names, fault = [], f"cannot be read, so commands do not arrive: {error.strerror or error}"
        for name in names:
            word, comma, id = name.partition(",")
            if comma and word in WORDS and "." not in id:
                try:
                    files.remove(os.path.join(self._directory, name))
                except OSError as error:
                    fault = f"{name} cannot be removed, so it is not carried out: {error.strerror or error}"
                    continue
                found.append((word, id))
        self._note(fault)
        return found

    def _note(self, fault: str) -> None:
        if fault and fault != self._fault:
            logger.warning("%s: %s", self._directory, fault)
        self._fault = fault


def request(state_dir: str, word: str, id: str = "") -> None:
    """Ask the running program for a word of WORDS; it looks within a second."""
    files.make_directory(_directory(state_dir))
    files.replace(_path(state_dir, word, id), b"", durable=False)


def is_waiting(state_dir: str, word: str, id: str = "") -> bool:
    """Whether the program has not seen yet what was asked."""
    return os.path.exists(_path(state_dir, word, id))


def withdraw(state_dir: str, word: str, id: str = "") -> None:
    """Ask for it no more, if the program has not seen it yet."""
    files.remove(_path(state_dir, word, id))


def _path(state_dir: str, word: str, id: str) -> str:
    return os.path.join(_directory(state_dir), f"{word},{id}")


def _directory(state_dir: str) -> str:
    return os.path.join(state_dir, "control")
