"""Line ends and content transfer encodings as streams (RFC 2045 section 6).

Every function takes and gives chunks of bounded size, whatever the length of the whole.
"""

from __future__ import annotations

import binascii
import re
from typing import BinaryIO, Iterable, Iterator, Optional

# Octets read at once.
CHUNK = 64 * 1024

# Octets of base64 text on a line (RFC 2045 6.8), and what they hold.
_COLUMNS, _OCTETS = 76, 57

# The line end of a message, which every line end that is read becomes.
CRLF = b"\r\n"

# UTF-8's byte order mark, which some programs put before everything they write.
BOM = b"\xef\xbb\xbf"

# CR before an LF that are read as one line end with it: CR CR LF comes from double conversion on Windows.
# The bound keeps searches linear.
_MOST_CR = 4

# A line end as it is read, for regular expressions, and its octets at most.
LINE_END = rb"\r{0,%d}\n" % _MOST_CR
LINE_END_OR_CR = LINE_END + rb"|\r"
LONGEST_LINE_END = _MOST_CR + 1

_LINE_END_OR_CR = re.compile(LINE_END_OR_CR)
_CRLF_LF_OR_CR = re.compile(rb"\r?\n|\r")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))
# White space at the end of a line was added in transport (RFC 2045 6.7 rule 3).
_TRAILING_SPACE = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n)")


def octets(file: BinaryIO, start: int, end: int, chunk: int = CHUNK) -> Iterator[bytes]:
    """The octets of a file from `start` to before `end`; others may move its position in between."""
    while start < end:
        file.seek(start)
        data = file.read(min(chunk, end - start))
        if not data:
            return
        start += len(data)
        yield data


def canonical(chunks: Iterable[bytes], doubled: bool = True) -> Iterator[bytes]:
    """Every CRLF, LF, CR CR LF and lone CR as one CRLF; no chunk ends between CR and LF.

    Without `doubled`, CR CR LF is two line ends.
    """
    most_cr, line_end = (_MOST_CR, _LINE_END_OR_CR) if doubled else (1, _CRLF_LF_OR_CR)
    held = b""  # CR that may be the beginning of a line end
    for data in chunks:
        data = held + data
        kept = max(len(data.rstrip(b"\r")), len(data) - most_cr)
        held = data[kept:]
        data = data[:kept]
        ends = data.count(CRLF)
        if b"\r" not in data:
            data = data.replace(b"\n", CRLF)
        elif ends != data.count(b"\n") or ends != data.count(b"\r"):
            data = line_end.sub(CRLF, data)
        if data:
            yield data
    if held:
        yield CRLF * len(held)


def without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets without a byte order mark before the first."""
    held: Optional[bytes] = b""
    for data in chunks:
        if held is not None:
            held += data
            if len(held) < len(BOM) and BOM.startswith(held):
                continue
            data, held = held[len(BOM) :] if held.startswith(BOM) else held, None
        if data:
            yield data
    if held:
        yield held


def ended(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Canonical text with a line end at its end, unless it is empty."""
    last = CRLF
    for data in chunks:
        last = data
        yield data
    if not last.endswith(CRLF):
        yield CRLF


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Content with its encoding undone; anything but base64 and quoted-printable comes as it is."""
    if encoding == "base64":
        return _from_base64(chunks)
    if encoding == "quoted-printable":
        return _from_quoted_printable(chunks)
    return iter(chunks)


def _from_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Tolerant: skips octets that are not base64, needs no padding, goes on after padding in the middle."""
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
    """Tolerant: takes literally what is not a valid encoding; hard line ends become CRLF."""
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
            between = CRLF
    if held:
        yield between + _lines(held)


def _lines(data: bytes) -> bytes:
    encoded = binascii.b2a_base64(data, newline=False)
    return CRLF.join([encoded[i : i + _COLUMNS] for i in range(0, len(encoded), _COLUMNS)])
