"""Freed memory goes back to the system."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import Callable

# mallopt's number of M_MMAP_THRESHOLD (malloc.h of glibc).
_MMAP_THRESHOLD = -3

# mallopt's number of M_ARENA_MAX, and how many heaps all threads share.  By default it is eight for each processor, and
# each keeps pages that a few blocks are left in.  Python's threads seldom allocate at the same moment.
_ARENA_MAX = -8
_ARENAS = 2

# Octets from which a block is taken from the system and given back to it.
_LARGE = 256 * 1024

# So many connections held enough memory to give it back (some MB), once no more than this share of them is left.
_MANY = 50
_LEFT = 0.25


def return_large_blocks() -> None:
    """Have the C library give every large block back when it is freed.

    glibc by itself learns to keep blocks of the size that was freed last, for
    each of many threads: thirty sign-ins at once, two of them computing at a
    time with 16 MiB each, would hold 250 MiB for ever.  Other C libraries do
    not, and know no such switch.
    """
    _call("mallopt", _MMAP_THRESHOLD, _LARGE)


def share_few_heaps() -> None:
    """Have all threads share few heaps, so that free pages can be given back.  Call it before there are threads."""
    _call("mallopt", _ARENA_MAX, _ARENAS)


def return_free_pages() -> None:
    """Have glibc give back all pages that are free; it keeps those of many small blocks by itself.

    What hangs together in circles, as ended TLS connections do, is freed first.
    """
    gc.collect()
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of the C library on Linux, unless it has none of this name (musl)."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # small Pythons come without it

        getattr(ctypes.CDLL(None), name)(*arguments)


class AfterRush:
    """Gives memory back when most of many connections have gone.  Belongs to one thread."""

    def __init__(self, give_back: Callable[[], None] = return_free_pages):
        self._give_back = give_back
        self._most = 0
        self._fallen = False

    def look(self, connections: int, most: int) -> None:
        """To be called every few seconds: how many connections are open, and were at most since the last look."""
        self._most = max(self._most, most)
        if self._most < _MANY or connections > self._most * _LEFT:
            self._fallen = False
        elif not self._fallen:
            self._fallen = True  # the next look: the threads of the last ones may still be ending
        else:
            self._most, self._fallen = connections, False
            self._give_back()
