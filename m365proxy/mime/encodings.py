"""Content transfer encodings as streams (RFC 2045 section 6): every function takes and gives
chunks of bounded size, whatever the length of the whole."""

from __future__ import annotations

import binascii
import re
from typing import BinaryIO, Iterable, Iterator

# Octets read at once.
CHUNK = 64 * 1024

# Octets of base64 text on a line (RFC 2045 6.8), and what they hold.
_COLUMNS, _OCTETS = 76, 57

# CR CR LF comes from double conversion on Windows; the bound keeps the search linear.
_MOST_CR = 4
LONGEST_LINE_END = _MOST_CR + 1
_LINE_END = re.compile(rb"\r{0,%d}\n|\r" % _MOST_CR)
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
# White space at a line's end was added on the way (RFC 2045 6.7 rule 3).
_TRAILING_SPACE = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")


def octets(file: BinaryIO, start: int, end: int, chunk: int = CHUNK) -> Iterator[bytes]:
    """What stands in a file from `start` to before `end`; others may move the file in between."""
    while start < end:
        file.seek(start)
        data = file.read(min(chunk, end - start))
        if not data:
            return
        start += len(data)
        yield data


def canonical(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Every CRLF, LF, CR CR LF and lone CR as one CRLF."""
    held = b""
    for data in chunks:
        data = held + data
        kept = max(len(data.rstrip(b"\r")), len(data) - _MOST_CR)
        held = data[kept:]
        data = data[:kept]
        ends = data.count(b"\r\n")
        if b"\r" not in data:
            data = data.replace(b"\n", b"\r\n")
        elif ends != data.count(b"\n") or ends != data.count(b"\r"):
            data = _LINE_END.sub(b"\r\n", data)
        yield data
    if held:
        yield b"\r\n" * len(held)


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The content behind an encoding; what is neither base64 nor quoted-printable comes as it is."""
    if encoding == "base64":
        return _from_base64(chunks)
    if encoding == "quoted-printable":
        return _from_quoted_printable(chunks)
    return iter(chunks)


def _from_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Tolerant: skips foreign octets, needs no padding, goes on after padding in the middle."""
    held = b""
    for data in chunks:
        pieces = (held + data.translate(None, _NOT_BASE64)).split(b"=")
        last = pieces.pop()
        whole = len(last) // 4 * 4
        held = last[whole:]
        yield b"".join(map(_quanta, pieces)) + binascii.a2b_base64(last[:whole])
    yield _quanta(held)


def _quanta(piece: bytes) -> bytes:
    if len(piece) % 4 == 1:
        piece = piece[:-1]  # six bits make no octet
    return binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))


def _from_quoted_printable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Tolerant: takes what is no encoding literally; hard line ends come out as CRLF."""
    held = b""
    for data in canonical(chunks):
        data = held + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) >= CHUNK:
            # One endless line: cut it before spaces that may stand at its end, and not inside "=XX".
            cut = len(data[:-2].rstrip(b" \t"))
            escape = data.find(b"=", max(0, cut - 2), cut)
            cut = (cut if escape < 0 else escape) or len(data)
        held = data[cut:]
        yield binascii.a2b_qp(_TRAILING_SPACE.sub(b"", data[:cut]))
    yield binascii.a2b_qp(held.rstrip(b" \t"))


def to_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 in lines of 76 columns; no line end after the last."""
    held, between = b"", b""
    for data in chunks:
        data = held + data
        whole = len(data) // _OCTETS * _OCTETS
        held = data[whole:]
        if whole:
            yield between + _lines(data[:whole])
            between = b"\r\n"
    if held:
        yield between + _lines(held)


def _lines(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    return b"\r\n".join([encoded[i : i + _COLUMNS] for i in range(0, len(encoded), _COLUMNS)])
