"""Answers of several lines as POP3 sends them (RFC 1939 section 3)."""

from __future__ import annotations

from typing import Iterable, Iterator

from ..server.connection import CRLF

_END = b".\r\n"


def stuffed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Octets with their leading dots doubled, a CRLF at their end, and the closing dot.

    They have CRLF line ends already; a chunk may end anywhere, between CR and LF too.
    """
    before = CRLF  # the last two octets
    for chunk in chunks:
        data = before + chunk
        before = data[-2:]
        yield data.replace(b"\r\n.", b"\r\n..")[2:]
    yield _END if before == CRLF else CRLF + _END
