"""What octets of a message may travel as: found in one pass over them."""

from __future__ import annotations

from typing import Iterable, NamedTuple

from .encodings import CRLF

# RFC 5322 2.1.1: octets of a line.  A CR before the LF is counted too, as it may be missing.
_LONGEST_LINE = 998


class Survey(NamedTuple):
    """What was found in a range of octets."""

    ascii: bool
    nul: bool
    long_line: bool
    stray_cr: bool
    escape: bool

    @property
    def clean(self) -> bool:
        """Whether it may travel as 7bit text."""
        return self.ascii and not self.nul and not self.long_line


def survey_of(chunks: Iterable[bytes]) -> Survey:
    """Of octets that come in chunks."""
    ascii_only, nul, long_line, stray_cr, escape = True, False, False, 0, False
    unfinished, before = 0, b""
    for data in chunks:
        ascii_only = ascii_only and data.isascii()
        nul = nul or b"\0" in data
        escape = escape or b"\x1b" in data
        stray_cr += data.count(b"\r") - data.count(CRLF) - (before == b"\r" and data[:1] == b"\n")
        before = data[-1:]
        position = 0
        # From the beginning of a line, jump to the last line end within the limit: few steps, all in C.
        while not long_line and unfinished + len(data) - position > _LONGEST_LINE:
            end = data.rfind(b"\n", position, max(position, position + _LONGEST_LINE + 1 - unfinished))
            long_line = end < 0
            position, unfinished = end + 1, 0
        last = data.rfind(b"\n", position)
        unfinished = unfinished + len(data) - position if last < 0 else len(data) - last - 1
    return Survey(ascii_only, nul, long_line, stray_cr > 0, escape)
