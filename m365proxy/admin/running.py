"""Whether the program runs: it holds a lock on the state directory."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, Iterator

from ..config.sections import Config
from ..errors import InUse, ProxyError
from ..system import control, files, statusfile

# Seconds within which the running program writes a status.json that is asked for, unless it hangs or the disk is full.
_ANSWERS = 3.0


def is_running(config: Config) -> bool:
    """Whether the program runs with this state directory."""
    with at_rest(config) as is_at_rest:
        return not is_at_rest


def latest_status(state_dir: str) -> Dict[str, Any]:
    """The running program's status.json, new if it writes one when it is asked; else what it wrote last."""
    before = statusfile.read(state_dir)
    try:
        control.request(state_dir, "status")
    except (OSError, ProxyError):  # a full disk: how old the file is says enough
        return before
    latest, end = before, time.monotonic() + _ANSWERS
    while latest.get("written") == before.get("written") and time.monotonic() < end:
        time.sleep(0.02)
        latest = statusfile.read(state_dir)
    return latest


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
