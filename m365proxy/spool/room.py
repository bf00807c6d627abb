"""Room for new mail: what the disk has free, and what may stay in memory of messages that are coming in."""

from __future__ import annotations

import threading
from typing import Callable, Optional

from ..errors import Temporary
from ..system import files

# The disk is asked once in so many seconds, however many messages come in.
_ASK_AGAIN = 1.0

# Octets of all messages together that a process has in memory.  What goes beyond it is written to tmp/ as it comes in.
MOST_HELD = 8 * 1024 * 1024


class Room:
    """Any thread may call."""

    def __init__(self, directory: str, min_free: int, monotonic: Callable[[], float]):
        """`min_free`: octets of the file system of `directory` that new mail must leave free (0: any number)."""
        self._directory = directory
        self._min_free = min_free
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._arrived = 0  # octets, ever
        self._held = 0  # ... of which so many are in memory
        # The disk's answer, when it was asked, and which octets were not on it then.
        self._free = -1
        self._files: Optional[int] = None
        self._asked = -_ASK_AGAIN
        self._arrived_before = 0

    def check(self) -> None:
        """Temporary if the disk has no room for new mail.  OSError if it does not say."""
        now = self._monotonic()
        with self._lock:
            # Nobody is refused by an old answer, or by what has come in since.
            if now - self._asked < _ASK_AGAIN and self._has_room():
                return
            self._asked = now
            arrived_before = self._arrived - self._held
        free, inodes = files.free_bytes(self._directory), files.free_inodes(self._directory)
        with self._lock:
            self._free, self._files, self._arrived_before = free, inodes, arrived_before
            if self._has_room():
                return
        if inodes == 0:
            raise Temporary(f"The file system of {self._directory} has no inodes left.")
        raise Temporary(
            f"Less than queue.min_free_mb is free on the disk of {self._directory}; "
            "new mail is refused until there is room."
        )

    def _has_room(self) -> bool:
        free = self._free - (self._arrived - self._arrived_before)
        return self._files != 0 and (not self._min_free or free >= self._min_free)

    def hold(self, octets: int) -> bool:
        """Count octets that have arrived.  Whether they may stay in memory; if not, they have to be written now."""
        with self._lock:
            self._arrived += octets
            if self._held + octets > MOST_HELD:
                return False
            self._held += octets
            return True

    def let_go(self, octets: int) -> None:
        """Octets that were held are written, or not wanted any more."""
        with self._lock:
            self._held -= octets
