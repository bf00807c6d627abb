"""control/: how commands tell the running program something.  Files, so that it works on Windows too."""

from __future__ import annotations

import os
from typing import List, Tuple

from . import files, log

logger = log.get("control")

WORDS = ("queued", "reload", "flush")


def make(state_dir: str) -> None:
    """Make the directory; what was asked of an earlier run is of no use any more."""
    files.make_directory(_directory(state_dir))
    take(state_dir)


def tell(state_dir: str, word: str, id: str = "") -> None:
    """Leave a word of WORDS, with a message's id for "queued"; it is read within a second."""
    files.make_directory(_directory(state_dir))
    files.replace(os.path.join(_directory(state_dir), f"{word},{id}"), b"", durable=False)


def take(state_dir: str) -> List[Tuple[str, str]]:
    """What was asked since the last look: (word, id)."""
    found = []
    try:
        names = os.listdir(_directory(state_dir))
    except OSError as error:
        logger.warning("control/ cannot be read: %s", error.strerror)
        return []
    for name in names:
        word, comma, id = name.partition(",")
        if comma and word in WORDS and "." not in id:
            files.remove(os.path.join(_directory(state_dir), name))
            found.append((word, id))
    return found


def _directory(state_dir: str) -> str:
    return os.path.join(state_dir, "control")
