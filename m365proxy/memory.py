"""Freed memory goes back to the system."""

from __future__ import annotations

import contextlib
import sys

# mallopt's number of M_MMAP_THRESHOLD (malloc.h of glibc).
_MMAP_THRESHOLD = -3

# Octets from which a block is taken from the system and given back to it.
_LARGE = 256 * 1024


def return_large_blocks() -> None:
    """Have the C library give every large block back when it is freed.

    glibc by itself learns to keep blocks of the size that was freed last, for
    each of many threads: thirty sign-ins at once, two of them computing at a
    time with 16 MiB each, would hold 250 MiB for ever.  Other C libraries do
    not, and know no such switch.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes  # small Pythons come without it

        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE)
