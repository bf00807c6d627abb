"""When a message whose file could not be read or moved is tried again, and what the log says about it."""

from __future__ import annotations

import errno
from typing import Dict

# Seconds to the next tries: a scanner or backup holds a file for a moment only.
_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)

# What Windows says when another program has the file, or a part of it, for itself (winerror.h: ERROR_SHARING_VIOLATION,
# ERROR_LOCK_VIOLATION).
_HELD = (32, 33)

# Another program may have the file open.
_IN_USE = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY)


class DiskRetries:
    """How often in a row the disk has failed a message.  Any thread may call, for each message one at a time."""

    def __init__(self, longest: float):
        """`longest`: seconds between later tries."""
        self._longest = longest
        self._failures: Dict[str, int] = {}

    def add_failure(self, id: str) -> float:
        """Count a failure; seconds until the next try."""
        failures = self._failures[id] = self._failures.get(id, 0) + 1
        return min(_WAITS[failures - 1], self._longest) if failures <= len(_WAITS) else self._longest

    def clear(self, id: str) -> None:
        self._failures.pop(id, None)


def explain(error: OSError) -> str:
    """The error as part of a sentence, with what to do."""
    if getattr(error, "winerror", None) in _HELD:
        return f"{error}; another program, such as a virus scanner, holds it. Exclude state_dir from scans and backups"
    if error.errno in _IN_USE:
        return (
            f"{error}; another program, such as a virus scanner or a backup, has it open, or this user may not use it. "
            "Exclude state_dir from scans"
        )
    return f"{error}. Check the disk of state_dir"
