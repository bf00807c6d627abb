"""When a message whose file could not be read or moved is tried again, and what the log says of it."""

from __future__ import annotations

import errno
from typing import Dict

# Seconds to the next tries: a scanner or backup holds a file for a moment only.
_WAITS = (1.0, 2.0, 5.0, 10.0, 30.0)

# Somebody else has the file: a sharing violation on Windows is EACCES.
_HELD = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY)


class DiskRetries:
    """How often the disk has failed a message in a row.  Any thread may call, for one message one at a time."""

    def __init__(self, longest: float):
        """`longest`: seconds between later tries."""
        self._longest = longest
        self._failures: Dict[str, int] = {}

    def failed(self, id: str) -> float:
        """Count a failure; seconds until the next try."""
        failures = self._failures[id] = self._failures.get(id, 0) + 1
        return min(_WAITS[failures - 1], self._longest) if failures <= len(_WAITS) else self._longest

    def worked(self, id: str) -> None:
        self._failures.pop(id, None)


def explained(error: OSError) -> str:
    """The error as part of a sentence, with what to do."""
    if error.errno in _HELD:
        return (
            f"{error}; another program, such as a virus scanner or a backup, holds it, or this user lacks the right. "
            "Except state_dir from what scans files"
        )
    return f"{error}. Check the disk of state_dir"
