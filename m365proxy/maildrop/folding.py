"""Lines that are too long for some clients, cut into shorter ones."""

from __future__ import annotations

from typing import Iterable, Iterator, List, Tuple

from ..mime.encodings import CRLF

# Python's poplib takes lines of 2,048 octets, with CRLF and a stuffed dot; RFC 5322 allows 998 without CRLF.
_LONGEST = 2045
_FOLDED = 998


def folded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A message of CRLF line ends, its lines of more than 2,045 octets cut into pieces of at most 998.

    No line end may be split between chunks.  Each cut is before white space, so that a field folds as RFC 5322
    section 2.2.3 has it.  Where there is none, a header line gets a space; a line of the body is cut as it is,
    though not within a character of UTF-8.
    """
    in_header = True
    long = False  # the current line was cut already
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(CRLF)
        done = []
        for line in lines:
            long = long or len(line) > _LONGEST
            pieces, rest = _cut(line, in_header) if long else ([], line)
            done += pieces + [rest, CRLF]
            in_header = in_header and (long or line != b"")
            long = False
        if len(held) > _LONGEST:
            long = True
            pieces, held = _cut(held, in_header)
            done += pieces
        if done:
            yield b"".join(done)
    if held:
        yield held


def _cut(line: bytes, in_header: bool) -> Tuple[List[bytes], bytes]:
    """(the pieces that were cut off, line ends included; the rest, which is short)."""
    pieces = []
    while len(line) > _FOLDED:
        # A line of white space alone would look like the end of the header.
        start = len(line) - len(line.lstrip(b" \t"))
        end = max(line.rfind(b" ", start, _FOLDED + 1), line.rfind(b"\t", start, _FOLDED + 1))
        fill = b""
        if end < 1:
            end = _FOLDED
            while end > _FOLDED - 3 and line[end] & 0xC0 == 0x80:
                end -= 1
            fill = b" " if in_header else b""
        pieces += [line[:end], CRLF]
        line = fill + line[end:]
    return pieces, line
