"""Files in uuencode, as devices still send them (POSIX.1, utility uuencode), as streams of bounded size."""

from __future__ import annotations

import binascii
import re
from typing import Iterable, Iterator, NamedTuple

from .encodings import CRLF, canonical

# How the encoding is called in Content-Transfer-Encoding; no standard names it.
NAMES = frozenset(("x-uuencode", "x-uue", "x-uu", "uuencode", "uue"))

# Octets of a line: of a name, or of data with a checksum behind them.
_LONGEST_NAME, _LONGEST_DATA = 1000, 100

_BEGIN = re.compile(rb"begin [0-7]{3,4} (.*)\Z")
_NOT_IN_DATA = re.compile(rb"[^ -`]")


class Damaged(Exception):
    """The text is not exactly one file in uuencode; says why, and in which line."""


class File(NamedTuple):
    """A sound file: the name of its first line, in raw octets."""

    name: bytes


def examined(chunks: Iterable[bytes]) -> File:
    """Read a text to its end; raises Damaged unless it is one file in uuencode, and blank lines around it."""
    reader = _Reader()
    for _ in reader.decoded(chunks):
        pass
    return File(reader.name)


def decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of the file, in chunks about as large as those given.  Raises Damaged."""
    return _Reader().decoded(chunks)


class _Reader:
    def __init__(self) -> None:
        self.name = b""
        self._number = 0
        self._read = self._before
        self._has_grave = False  # a zero is written as "`"
        self._short = 0  # the first line in which characters are missing

    def decoded(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        held = b""
        for data in canonical(chunks):
            lines = (held + data).split(CRLF)
            held = lines.pop()
            content = b"".join(map(self._line, lines))
            if len(held) > _LONGEST_NAME:
                raise Damaged(f"line {self._number + 1} is too long")
            if content:
                yield content
        if held:
            content = self._line(held)
            if content:
                yield content
        if self._read == self._before:
            raise Damaged('the line "begin" is missing')
        if self._read != self._after:
            raise Damaged('the line "end" is missing')

    def _line(self, line: bytes) -> bytes:
        self._number += 1
        return self._read(line)

    def _before(self, line: bytes) -> bytes:
        match = _BEGIN.match(line)
        if match:
            self.name = match.group(1).strip()
            self._read = self._data
        elif line.strip():
            raise Damaged(f'line {self._number} is not "begin" with a mode and a name')
        return b""

    def _data(self, line: bytes) -> bytes:
        if line.rstrip() == b"end":
            # Mail systems take blanks from the ends of lines; without blanks there were other characters.
            if self._short and self._has_grave:
                raise Damaged(f"line {self._short} is cut off")
            self._read = self._after
            return b""
        if len(line) > _LONGEST_DATA:
            raise Damaged(f"line {self._number} is too long")
        if _NOT_IN_DATA.search(line):
            raise Damaged(f"line {self._number} has an octet that is not in the alphabet of uuencode")
        octets = (line[0] - 32) & 63 if line else 0
        needed, wanted = 1 + (octets * 4 + 2) // 3, 1 + (octets + 2) // 3 * 4
        self._has_grave = self._has_grave or b"`" in line[1:]
        if len(line) < needed:  # some encoders leave out what the last octets do not need
            self._short = self._short or self._number
        if len(line.rstrip(b" `")) > wanted + 1:  # one character may be a checksum
            raise Damaged(f"line {self._number} is longer than it says")
        # What fills the last group up may be anything: binascii would raise for it.
        return binascii.a2b_uu(line[:needed]) if octets else b""

    def _after(self, line: bytes) -> bytes:
        if line.strip():
            raise Damaged(f'line {self._number} stands after the line "end"')
        return b""
