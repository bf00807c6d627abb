"""One session's copies: what the client asks for, and what it will probably ask for next.

Each fetch has a thread of its own.  The client's order is followed as a disk's
read-ahead follows a reader: the longer the order lasts, the further ahead.  Of
a mailbox's slots at Graph, what is fetched ahead takes only those that nobody
else has or waits for.
"""

from __future__ import annotations

import collections
import os
import secrets
import threading
import time
from typing import Callable, Deque, Dict, Iterable, List, Optional, Sequence, Set

from ..errors import Permanent, SignInNeeded, Temporary
from ..graph.answer import NoAnswer, Throttled
from ..system import files
from . import copies
from .copies import Copy
from .item import Item
from .order import Order

# Fetches at a time that the client has not asked for; with the one it waits for that makes Graph's four.
_AHEAD = 3

# A message above this (octets) keeps its slot for long: it is fetched ahead only if another slot stays free.
_LARGE = 256 * 1024

# What a message is charged before its size is known, and by how much it may grow at once (octets).
_LEAST_CHARGE = 64 * 1024

# What a copy takes of the disk at least (octets), so that thousands of tiny ones are bounded too.
_BLOCK = 4096

# So many failures in a row while measuring are not the messages' fault.
_MISSES = 3

# Room on the disk that is left to the queue: below it nothing is fetched ahead (octets).
_DISK_RESERVE = 128 * 1024 * 1024

# A TOP of so many lines is a RETR in disguise (fetchmail asks for 99999999 to keep a message unread).
_ALL_LINES = 100_000


class ReadAhead:
    """The copies of one session.  `want`, `measure` and `close` are for the session's thread.

    `limit` bounds what is on disk (octets); the copy the client has now is
    not counted against it, and 0 fetches nothing ahead.
    """

    def __init__(
        self,
        items: Sequence[Item],
        fetch: Callable[[Item, Copy], None],
        directory: str,
        limit: int,
        room: Callable[[], int],
        settle: float = 0.05,
        reserve: int = 0,
    ):
        """`fetch(item, copy)` fills a copy and closes it, whatever happens; `room()` is how many slots are free.

        A large message is refused if it would leave less than `reserve` octets of disk.
        """
        self._items = items
        self._fetch = fetch
        self._directory = directory
        self._stem = os.path.join(directory, secrets.token_hex(8))
        self._limit = limit
        self._room = room
        self._settle = settle
        self._reserve = reserve
        self._changed = threading.Condition()
        self._copies: "collections.OrderedDict[int, Copy]" = collections.OrderedDict()  # by last use
        self._running: Dict[Copy, int] = {}
        self._dropped: List[str] = []  # files to be removed when the lock is not held
        self._made = 0
        self._total = 0  # octets charged
        self._current: Optional[Copy] = None
        self._order = Order(len(items))
        self._failed: Set[int] = set()
        self._unmeasured: Deque[int] = collections.deque()
        self._measuring: Set[Copy] = set()
        self._misses = 0  # in a row, of those measured
        self._closed = False

    def want(self, index: int, lines: Optional[int] = None) -> Copy:
        """The copy of a message, which may still be coming; `lines` of its body are enough (None: all)."""
        if lines is not None and lines >= _ALL_LINES:
            lines = None
        begun = False
        with self._changed:
            self._order.note(index, lines)
            self._failed.discard(index)
            self._stop_unwanted(index)
            copy = self._copies.get(index)
            if copy is None or not copy.claim(lines):
                self._drop(index)
                copy = self._add(index, lines)
                copy.claimed = begun = True
            self._copies.move_to_end(index)
            self._current = copy
            self._make_room(0)
            dropped = self._take_dropped()
        _remove(dropped)
        if begun and lines is None and not self._fits_on_disk(index):
            self._give_up(index, copy, "This machine's disk has no room for the message.")
        elif begun:
            self._start(index, copy)
        self._look_ahead()
        return copy

    def measure(self, indices: Iterable[int]) -> None:
        """Begin to fetch these for their exact sizes, if the disk has room; what goes over the limit is not kept."""
        with self._changed:
            self._unmeasured.extend(indices)
        self._look_ahead()

    def wait_measured(self, seconds: float) -> bool:
        """Whether that is done, after waiting up to `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            self._look_ahead()
            with self._changed:
                if not self._unmeasured and not self._measuring:
                    return True
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                # Nothing wakes us when others give back a slot.
                self._changed.wait(min(remaining, 1.0))

    def close(self) -> None:
        """Remove everything; what is still coming is stopped and removes itself."""
        with self._changed:
            self._closed = True
            self._unmeasured.clear()
            for index in list(self._copies):
                self._drop(index)
            dropped = self._take_dropped()
        _remove(dropped)

    # -- what to fetch (all with the lock held) ---------------------------

    def _stop_unwanted(self, index: int) -> None:
        """Stop fetches ahead that the client's order does not lead to any more, now that it asks for `index`."""
        for copy, other in list(self._running.items()):
            wanted = copy.claimed or other == index or self._order.is_ahead(other)
            if not wanted and self._copies.get(other) is copy:
                self._drop(other)

    def _next(self, room: int) -> Optional[int]:
        """The message to fetch ahead now, if any; `room` slots are free."""
        running = sum(1 for copy in self._running if not copy.claimed)
        if self._closed or not self._limit or room < 1 or running >= _AHEAD:
            return None
        for index in self._order.ahead():
            if index in self._copies or index in self._failed:
                continue
            size = self._charge_of(index, self._order.lines)
            if size > _LARGE and (room < 2 or len(self._running) > 1):
                return None
            return index if self._total + size <= self._limit or self._could_free(size) else None
        return None

    def _charge_of(self, index: int, lines: Optional[int]) -> int:
        size = max(self._items[index].size, _LEAST_CHARGE)
        return size if lines is None else min(size, 2 * _LEAST_CHARGE)

    # -- the store (all with the lock held) -------------------------------

    def _add(self, index: int, lines: Optional[int]) -> Copy:
        self._made += 1
        copy = Copy(f"{self._stem}-{self._made}{copies.SUFFIX}", lines, self._may_grow, self._settle)
        copy.charge = self._charge_of(index, lines)
        self._total += copy.charge
        self._copies[index] = copy
        self._running[copy] = index
        return copy

    def _drop(self, index: int) -> None:
        copy = self._copies.pop(index, None)
        if copy is not None:
            copy.stop()
            self._total -= copy.charge
            copy.charge = 0
            self._dropped.append(copy.path)

    def _take_dropped(self) -> List[str]:
        """The files that the caller is to remove when it has released the lock."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def _may_go(self, index: int, copy: Copy) -> bool:
        return copy.over and copy is not self._current and not self._order.is_ahead(index)

    def _could_free(self, size: int) -> bool:
        total = self._total + size
        for index, copy in self._copies.items():
            if self._may_go(index, copy):
                total -= copy.charge
            if total <= self._limit:
                return True
        return False

    def _make_room(self, size: int) -> None:
        """Drop what was used longest ago, until `size` more octets fit or nothing may go."""
        missing = self._total + size - self._limit
        if missing <= 0:
            return
        freed = []
        for index, copy in self._copies.items():
            if missing <= 0:
                break
            if self._may_go(index, copy):
                missing -= copy.charge
                freed.append(index)
        for index in freed:
            self._drop(index)

    # -- the fetches ------------------------------------------------------

    def _may_grow(self, copy: Copy, octets: int) -> bool:
        """Whether a copy fetched ahead may go on for so many octets beyond what it was charged; if so, charge them."""
        with self._changed:
            if self._closed or not copy.charge:
                return False
            self._make_room(max(octets, _LEAST_CHARGE))
            left = self._limit - self._total
            fits = octets <= left
            if fits:
                more = max(octets, min(_LEAST_CHARGE, left))
                self._total += more
                copy.charge += more
            dropped = self._take_dropped()
        _remove(dropped)
        return fits

    def _look_ahead(self) -> None:
        """Begin whatever is due."""
        while True:
            room = self._room()
            room_ahead = room if self._disk_has_room() else 0
            with self._changed:
                index = self._next_to_measure(room)
                if index is not None:
                    copy = self._add(index, None)
                    copy.claimed = True
                    self._measuring.add(copy)
                else:
                    index = self._next(room_ahead)
                    if index is None:
                        return
                    self._make_room(self._charge_of(index, self._order.lines))
                    copy = self._add(index, self._order.lines)
                dropped = self._take_dropped()
            _remove(dropped)
            if not self._start(index, copy):
                return

    def _next_to_measure(self, room: int) -> Optional[int]:
        """The message to measure now, if any; one at a time is measured though no slot is free."""
        while self._unmeasured and not self._closed:
            if self._measuring and (room < 1 or len(self._running) > _AHEAD):
                return None
            index = self._unmeasured.popleft()
            if index not in self._copies and self._fits_on_disk(index):
                return index
        return None

    def _disk_has_room(self) -> bool:
        try:
            return files.free_bytes(self._directory) > _DISK_RESERVE + self._limit
        except OSError:
            return False

    def _fits_on_disk(self, index: int) -> bool:
        size = self._items[index].size
        if size <= _LARGE:
            return True  # too small to matter to the queue
        try:
            return files.free_bytes(self._directory) - size >= self._reserve
        except OSError:
            return True  # writing will show

    def _start(self, index: int, copy: Copy) -> bool:
        thread = threading.Thread(target=self._work, args=(index, copy), name="pop3 fetch", daemon=True)
        try:
            thread.start()
            return True
        except RuntimeError:
            self._give_up(index, copy, "This machine has no thread left to fetch the message.")
            return False

    def _give_up(self, index: int, copy: Copy, sentence: str) -> None:
        copy.fail(Temporary(sentence))
        copy.close()
        self._settle_up(index, copy)

    def _work(self, index: int, copy: Copy) -> None:
        try:
            self._fetch(self._items[index], copy)
        finally:
            self._settle_up(index, copy)  # without it a login would wait for exact sizes for ever
        self._look_ahead()

    def _settle_up(self, index: int, copy: Copy) -> None:
        """A fetch has ended."""
        with self._changed:
            self._running.pop(copy, None)
            measured = copy in self._measuring
            self._measuring.discard(copy)
            if measured and self._is_away(copy):
                self._unmeasured.clear()  # estimates must do
            if self._copies.get(index) is not copy:
                self._dropped.append(copy.path)  # it was dropped while its writer had the file open
            elif copy.useful:
                self._keep(index, copy, measured)
            else:
                self._failed.add(index)
                self._drop(index)
            self._changed.notify_all()
            dropped = self._take_dropped()
        _remove(dropped)

    def _keep(self, index: int, copy: Copy, measured: bool) -> None:
        """Charge a copy for what it takes; `measured`: it was fetched for its size, and only kept within the limit."""
        size = max(copy.size, _BLOCK)
        self._total += size - copy.charge
        copy.charge = size
        if copy.whole:
            self._items[index].set_size(copy)
        if measured and self._total > self._limit and copy is not self._current:
            self._drop(index)
        self._make_room(0)

    def _is_away(self, measured: Copy) -> bool:
        """Whether a fetch for a size shows that Graph itself, and not only this message, cannot be had."""
        if measured.useful or isinstance(measured.error, Permanent):
            self._misses = 0
            return False
        self._misses += 1
        silent = isinstance(measured.error, (NoAnswer, Throttled)) and not measured.size
        return silent or isinstance(measured.error, SignInNeeded) or self._misses >= _MISSES


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        copies.remove(path)
