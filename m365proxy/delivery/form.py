"""What Exchange makes of a message's form: the header fields and the kinds of parts, as its own MIME shows them.

Graph does not say what becomes of a draft that was made of MIME when files are added to it (GF 2.4), and shows no
header fields of mail that was never received (docs#3066, msgraph-sdk-dotnet#3025).  So the MIME that Exchange itself
writes of the draft is looked at before and after.
"""

from __future__ import annotations

import collections
import io
from typing import Counter, FrozenSet, List, NamedTuple

from ..mime import header
from ..mime.parts import MOST_PARTS, Part

# Octets of one header that are read; a longer one is cut off.
_LONGEST_HEADER = 256 * 1024

# Octets of a line that may be a boundary.
_LONGEST_LINE = 1024

# Fields that Exchange writes for any message, whatever it remembers of the one it was given.
_ALWAYS = frozenset(
    b"from sender to cc bcc reply-to subject date message-id mime-version importance priority x-priority"
    b" x-msmail-priority sensitivity thread-topic thread-index accept-language content-language return-path received"
    b" x-originating-ip".split()
)
_ALWAYS_PREFIXES = (b"content-", b"x-ms-")

# Kinds of parts that a message assembled from one body and files does not have.
_OWN_KINDS = ("multipart/alternative", "text/calendar")


class Form(NamedTuple):
    """`fields`: the names of the header's fields, in lower case; `kinds`: how often each type of part occurs;
    `leaves`: how many parts have no parts."""

    fields: FrozenSet[bytes]
    kinds: Counter[str]
    leaves: int

    @property
    def is_telling(self) -> bool:
        """Whether it has anything that a message assembled anew would not have."""
        others = any(name not in _ALWAYS and not name.startswith(_ALWAYS_PREFIXES) for name in self.fields)
        return others or any(kind in self.kinds for kind in _OWN_KINDS)

    def missing_in(self, other: Form) -> List[str]:
        """What of this form another does not have: names of fields and types of parts."""
        fields = sorted(name for name in self.fields - other.fields if not name.startswith(_ALWAYS_PREFIXES))
        return [name.decode("ascii") for name in fields] + sorted(self.kinds - other.kinds)


class Reader:
    """Reads the form of a MIME message from its octets as they come, in bounded memory."""

    def __init__(self) -> None:
        self.octets = 0
        self._fields: FrozenSet[bytes] = frozenset()
        self._kinds: Counter[str] = collections.Counter()
        self._leaves = 0
        self._boundaries: FrozenSet[bytes] = frozenset()
        self._in_header = True
        self._header = bytearray()
        self._line = bytearray()  # the beginning of the unfinished line

    @property
    def form(self) -> Form:
        """What was read so far."""
        return Form(self._fields, self._kinds, self._leaves)

    def feed(self, chunk: bytes) -> None:
        """Read on."""
        self.octets += len(chunk)
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        room = (_LONGEST_HEADER if self._in_header else _LONGEST_LINE) - len(self._line)
        self._line += piece[: max(0, room)]

    def _end_line(self) -> None:
        line = bytes(self._line).rstrip(b"\r")
        self._line.clear()
        if self._in_header:
            if line:
                self._header += (line + b"\r\n")[: max(0, _LONGEST_HEADER - len(self._header))]
            else:
                self._end_header()
        elif line.startswith(b"--") and line.rstrip()[2:] in self._boundaries:
            self._in_header = True

    def _end_header(self) -> None:
        octets = bytes(self._header) + b"\r\n"
        self._header.clear()
        self._in_header = False
        try:
            block = header.read(io.BytesIO(octets), 0, 2 * _LONGEST_HEADER)
        except header.HeaderTooLarge:
            return
        part = Part(block, 0, 0, "text/plain")
        if not self._kinds:
            self._fields = frozenset(field.name.lower() for field in block.fields)
        if sum(self._kinds.values()) > 2 * MOST_PARTS:
            return
        self._kinds[part.content_type] += 1
        if part.boundary:
            self._boundaries |= {part.boundary}
        else:
            self._leaves += 1
