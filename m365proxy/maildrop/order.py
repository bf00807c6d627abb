"""The order in which a client takes messages, and which ones it will therefore ask for next."""

from __future__ import annotations

from typing import Iterator, Optional

# Messages looked ahead: at first, and when the order has lasted.
_WINDOW_FIRST, _WINDOW_MOST = 4, 64


class Order:
    """One client's way through `count` messages: up or down, whole messages or tops.  Not for several threads.

    `lines` is what the next ones are wanted of their bodies; None is all.
    """

    def __init__(self, count: int):
        self.lines: Optional[int] = None
        self._count = count
        self._last = -1
        self._direction = 0  # 1: up, -1: down, 0: not known yet
        self._window = 0  # messages looked ahead; 0 before the first message
        self._tops = 0  # in a row

    def note(self, index: int, lines: Optional[int]) -> None:
        """The client asks for a message, or for `lines` of its body."""
        self._note_lines(lines)
        if not self._window:
            self._note_first(index)
        elif index != self._last:
            self._note_step(index - self._last)
        self._last = index

    def _note_lines(self, lines: Optional[int]) -> None:
        if lines is None:
            self._tops = 0
            self.lines = None
            return
        self._tops += 1
        # Two TOPs in a row are a pass over the tops, and so is one that comes first of all.  Any other
        # may be followed by the RETR of its message.
        is_pass = self._tops >= 2 or not self._window or self.lines is not None
        self.lines = lines if is_pass else None

    def _note_first(self, index: int) -> None:
        """The oldest is the beginning of a way up, the newest of one down."""
        self._window = _WINDOW_FIRST
        self._direction = 1 if index == 0 else -1 if index == self._count - 1 else 0

    def _note_step(self, step: int) -> None:
        followed = step == self._direction
        self._window = min(self._window * 2, _WINDOW_MOST) if followed else _WINDOW_FIRST
        self._direction = 1 if step > 0 else -1

    def is_ahead(self, index: int) -> bool:
        """Whether a message is among those that will probably be asked for next."""
        return 0 < (index - self._last) * self._direction <= self._window

    def ahead(self) -> Iterator[int]:
        """Those messages, the next one first."""
        for distance in range(1, self._window + 1):
            index = self._last + distance * self._direction
            if not self._direction or not 0 <= index < self._count:
                return
            yield index
