"""Whether the program runs: it holds a lock on the state directory."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from ..config.sections import Config
from ..errors import InUse
from ..system import files


def is_running(config: Config) -> bool:
    """Whether the program runs with this state directory."""
    with at_rest(config) as is_at_rest:
        return not is_at_rest


@contextlib.contextmanager
def at_rest(config: Config) -> Iterator[bool]:
    """Whether no program runs; if so, none can start before the end of the block.

    PermissionError if this user may not know.
    """
    path = os.path.join(config.state_dir, "lock")
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        yield True
        return
    lock = files.Lock(path)
    try:
        lock.acquire()
    except InUse:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
