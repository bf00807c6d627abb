"""Where the top of a message ends that TOP asks for (RFC 1939 section 7)."""

from __future__ import annotations

from typing import Iterable, Iterator


class Top:
    """Finds the end of a top: after the header, the blank line, and `lines` of the body.

    Fed with a message of CRLF line ends in pieces of any size; a line of any length passes.
    """

    def __init__(self, lines: int):
        self._lines = lines
        self._in_header = True
        self._line = 0  # octets of the current header line, as far as they matter
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """The part of the chunk that belongs to the top."""
        position = 0
        while not self.done:
            end = chunk.find(b"\n", position)
            if end < 0:
                self._line += len(chunk) - position
                return chunk
            blank = self._line + end - position <= 1
            position = end + 1
            self._line = 0
            if self._in_header:
                self._in_header = not blank
            else:
                self._lines -= 1
            self.done = not self._in_header and self._lines <= 0
        return chunk[:position]


def top(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The top of a message; no more chunks are asked for than it takes."""
    wanted = Top(lines)
    for chunk in chunks:
        yield wanted.feed(chunk)
        if wanted.done:
            return
