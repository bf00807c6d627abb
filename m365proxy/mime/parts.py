"""The parts of a MIME message as ranges of a file (RFC 2046), found in bounded memory.

Nothing is ever read whole: a part is a few numbers and its header.
"""

from __future__ import annotations

import re
from typing import BinaryIO, Iterator, List, NamedTuple, Optional

from . import charsets, encodings, header, parameters, uuencode, words

# The most parts and the deepest nesting that Exchange Online accepts (GF 1.3).
MOST_PARTS, DEEPEST = 250, 30

# Octets of a part's header.  All headers of a message together stay within header.LIMIT and header.MOST_FIELDS,
# because they are kept in memory.
LONGEST_HEADER = 64 * 1024

# Octets of a boundary; RFC 2046 allows 70.
_LONGEST_BOUNDARY = 200

# White space after a boundary that was added in transport.
_PADDING = 200

# White space at the end of a message that is ignored.
_LONGEST_END = 64

_WINDOW = 256 * 1024
_OVERLAP = _LONGEST_BOUNDARY + _PADDING + 16

_LAST_LINE_END = re.compile(rb"(?:" + encodings.LINE_END_OR_CR + rb")\Z")
_TYPE = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+/[a-z0-9!#$%&'*+.^_`|~-]+\Z")
_TNEF = ("application/ms-tnef", "application/vnd.ms-tnef")
# The types of messages in messages.
MESSAGES = frozenset(("message/rfc822", "message/global"))

_SIGNATURES = ("application/pkcs7-mime", "application/x-pkcs7-mime")


class Part:
    """One entity: the message itself or a part of it.

    `header_start`, `body_start`, `body_end` are offsets in the file; the line
    end before a boundary belongs to the boundary.  For a multipart in which
    boundaries were found, the preamble ends at `preamble_end` and the epilogue
    begins at `epilogue_start` (its line end included; None if the closing
    boundary is missing).  `broken` says why a message cannot be taken apart
    fully, "" if it can; only the root has it.  `uuencoded` is the file of a
    part in uuencode whose data are sound: prepare finds that out.
    """

    def __init__(self, block: header.Block, header_start: int, end: int, default_type: str):
        self.header = block
        self.header_start = header_start
        self.body_start = block.body
        self.body_end = end
        self.children: List[Part] = []
        self.preamble_end = block.body
        self.epilogue_start: Optional[int] = None
        self.broken = ""
        self.uuencoded: Optional[uuencode.File] = None
        self._raw_charset = ""
        self._read_fields()
        self.encoding = parameters.parse(block.undecoded("Content-Transfer-Encoding")).main or "7bit"
        self.content_type = self.content.main if _TYPE.match(self.content.main) else default_type
        self.boundary = self._boundary()

    def _read_fields(self) -> None:
        self.placement = parameters.parse(self.header.undecoded("Content-Disposition"))
        text = self.header.undecoded("Content-Type")
        self.content = parameters.parse(text)
        # A boundary is the octets of the file, whatever they may mean, even if they look like an encoded word.
        raw = (self.header.raw("Content-Type") or b"").decode("latin-1")
        self._raw_boundary = (self.content if raw == text else parameters.parse(raw)).get("boundary")
        if self._raw_boundary and self._raw_boundary.isascii():
            self.content.set("boundary", self._raw_boundary)

    def _boundary(self) -> bytes:
        if not self.content_type.startswith("multipart/"):
            return b""
        boundary = self._raw_boundary.rstrip(" \t").encode("latin-1", "replace")
        return boundary if len(boundary) <= _LONGEST_BOUNDARY else b""

    def set_charset(self, charset: str, doubted: bool) -> None:
        """Read the octets of the header as Block.set_charset does."""
        self._raw_charset = charset
        self.header.set_charset(charset, doubted)
        self._read_fields()

    @property
    def charset(self) -> str:
        """The declared charset in lower case, or ""."""
        return self.content.get("charset").lower()

    @property
    def disposition(self) -> str:
        """ "attachment", "inline" and so on, or ""."""
        return self.placement.main

    @property
    def filename(self) -> str:
        """The decoded file name, from whichever field gives one, or ""."""
        name = self.placement.get("filename") or self.content.get("name")
        if not name and self.uuencoded is not None:
            name = words.decode(words.text(self.uuencoded.name, self._raw_charset))
        return words.clean(name)

    @property
    def content_id(self) -> str:
        """Content-ID without angle brackets, or ""."""
        return self.header.text("Content-ID").strip("<>")

    @property
    def is_text(self) -> bool:
        return self.content_type.startswith("text/")

    @property
    def is_signed(self) -> bool:
        """Whether a signature covers this part's octets (RFC 1847, RFC 8551)."""
        return self.content_type == "multipart/signed" or (
            self.content_type in _SIGNATURES and "sign" in self.content.get("smime-type").lower()
        )

    @property
    def is_encrypted(self) -> bool:
        return self.content_type == "multipart/encrypted" or (self.content_type in _SIGNATURES and not self.is_signed)

    @property
    def is_tnef(self) -> bool:
        """Whether it is Outlook's winmail.dat."""
        return self.content_type in _TNEF

    def walk(self) -> Iterator["Part"]:
        """This part and all below it, in the file's order."""
        waiting = [self]
        while waiting:
            part = waiting.pop()
            yield part
            waiting += reversed(part.children)

    def leaves(self) -> Iterator["Part"]:
        """The parts without parts; message/rfc822 is one of them."""
        return (part for part in self.walk() if not part.children)


def decode(file: BinaryIO, part: Part, chunk: int = encodings.CHUNK) -> Iterator[bytes]:
    """A part's content with its encoding undone, a chunk at a time; of a message, from its header on."""
    octets = encodings.octets(file, part.body_start, part.body_end, chunk)
    if part.uuencoded is not None:
        return uuencode.decoded(octets)
    content = encodings.decoded(octets, part.encoding)
    return encodings.without_bom(content) if part.content_type in MESSAGES else content


class Bounds:
    """Limits for all parts of a message and of the messages in it together, because they are kept in memory."""

    def __init__(self) -> None:
        self._parts = self._octets = self._fields = 0

    def excess(self, part: Part) -> str:
        """Count one more part; why the limits are exceeded, or ""."""
        self._parts += 1
        self._octets += part.body_start - part.header_start
        self._fields += len(part.header.fields)
        if self._parts > MOST_PARTS:
            return f"The message has more than {MOST_PARTS} parts. Send it in several messages."
        if self._octets > header.LIMIT or self._fields > header.MOST_FIELDS:
            return (
                f"The headers of the message's parts have more than {header.LIMIT} octets"
                f" or {header.MOST_FIELDS} fields. Shorten them at the sender."
            )
        return ""


def scan(file: BinaryIO, start: int = 0, end: Optional[int] = None, bounds: Optional[Bounds] = None) -> Part:
    """The tree of the message between two offsets of a seekable file.

    Accepts a missing closing boundary, parts without a header, and boundaries
    that begin like others; an outer boundary ends whatever is open inside.
    `bounds` are passed on when a message in a message is scanned.
    Raises header.HeaderTooLarge for the message's own header.
    """
    if end is None:
        end = file.seek(0, 2)
    root = _Scan(file, start, end, bounds or Bounds()).root
    charset = _declared_charset(root)
    if charset:
        parts = list(root.walk())
        doubted = not all(part.header.is_utf8 for part in parts)
        for part in parts:
            part.set_charset(charset, doubted)
    return root


def _declared_charset(root: Part) -> str:
    """What octets of the headers are in if they are not UTF-8: as the first text that says something else; or ""."""
    declared = (part.charset for part in root.leaves() if part.is_text)
    return next((charset for charset in declared if charsets.known(charset) not in (None, "ascii", "utf_8")), "")


def read_header(file: BinaryIO, start: int = 0, end: Optional[int] = None) -> header.Block:
    """Only the message's own header, read like `scan` does it.  Raises header.HeaderTooLarge."""
    block = header.read(file, start, end=end)
    return block if block.is_utf8 else scan(file, start, end).header


class _Hit(NamedTuple):
    """A boundary line: where it begins, its text ends, and the next line begins; its level, and whether it closes."""

    start: int
    stop: int
    after: int
    level: int
    closing: bool


class _Scan:
    """One pass over the file, with the multiparts that are open."""

    def __init__(self, file: BinaryIO, start: int, end: int, bounds: Bounds):
        self._file = file
        self._end = end
        self._bounds = bounds
        self._window, self._window_start = b"", 0
        self._open: List[Part] = []
        self._pattern: Optional["re.Pattern[bytes]"] = None
        self.root = Part(header.read(file, start, end=end), start, end, "text/plain")
        self.root.broken = bounds.excess(self.root)
        self._enter(self.root)
        self._run()

    def _enter(self, part: Part) -> None:
        if not part.boundary:
            return
        if len(self._open) >= DEEPEST:
            self.root.broken = f"The message has parts nested more than {DEEPEST} deep. Send its content as a file."
            return
        self._open.append(part)
        self._compile()

    def _leave(self, level: int, content_end: int) -> None:
        """End what is open at this level and inside it, because its own closing boundary is missing."""
        for part in self._open[level:]:
            self._end_child(part, content_end)
        del self._open[level:]
        self._compile()

    def _compile(self) -> None:
        # Outermost first: an outer boundary ends everything inside it.
        names = b"|".join(b"(" + re.escape(part.boundary) + b")" for part in self._open)
        tail = rb"(--)?[ \t]{0,%d}(?:" % _PADDING + encodings.LINE_END_OR_CR + rb"|\Z)"
        self._pattern = re.compile(rb"[\r\n]--(?:" + names + rb")" + tail)

    @staticmethod
    def _end_child(part: Part, content_end: int) -> None:
        if part.children and part.epilogue_start is None:
            child = part.children[-1]
            child.body_end = max(child.body_start, content_end)

    def _run(self) -> None:
        position = least = self.root.body_start
        while self._open and not self.root.broken:
            hit = self._next(position, self._end)
            if hit is None:
                break
            content_end = self._before_line_end(hit.start, least)
            self._leave(hit.level + 1, content_end)
            owner = self._open[hit.level]
            self._end_child(owner, content_end)
            if not owner.children:
                owner.preamble_end = hit.start
            more = self._more(owner, hit) if hit.closing else hit
            if more is None or self._nothing_follows(more.after):
                owner.epilogue_start = hit.stop
                self._leave(hit.level, content_end)
                position, least = hit.after, hit.stop
            else:
                position = least = self._begin(owner, more.after)
        if self._open:
            self._leave(0, self._before_line_end(self._end, least))

    def _more(self, owner: Part, closing: _Hit) -> Optional[_Hit]:
        """The boundary of the next part, if parts follow the closing boundary: some devices write it too early."""
        again = self._next(closing.after, self._end)
        if again is None or again.closing or self._open[again.level] is not owner or self._nothing_follows(again.after):
            return None
        return again if self._is_blank(closing.after, again.start) else closing

    def _is_blank(self, start: int, end: int) -> bool:
        if end - start > _LONGEST_END:
            return False
        self._file.seek(start)
        return not self._file.read(end - start).strip()

    def _nothing_follows(self, position: int) -> bool:
        """Whether the message ends here: the "--" of its last boundary was forgotten."""
        return self._is_blank(position, self._end)

    def _begin(self, owner: Part, start: int) -> int:
        """Begin a part: read its header, which ends at the next boundary at the latest."""
        hit = self._next(start, min(self._end, start + LONGEST_HEADER))
        for _ in range(MOST_PARTS):
            if not hit or hit.start > start or hit.closing or self._open[hit.level] is not owner:
                break
            start = hit.after  # two boundaries in a row count as one
            hit = self._next(start, min(self._end, start + LONGEST_HEADER))
        end = hit.start if hit else self._end
        try:
            block = header.read(self._file, start, LONGEST_HEADER, end)
        except header.HeaderTooLarge:
            self.root.broken = "A part of the message has a header that is too large. Shorten it at the sender."
            return start
        default = "message/rfc822" if owner.content_type == "multipart/digest" else "text/plain"
        part = Part(block, start, end, default)
        owner.children.append(part)
        self.root.broken = self._bounds.excess(part)
        self._enter(part)
        return part.body_start

    def _next(self, position: int, end: int) -> Optional[_Hit]:
        """The next boundary line that begins at or after `position`, which itself begins a line."""
        assert self._pattern is not None  # at least one multipart is open
        position -= 1
        while True:
            window, start = self._read(position, end)
            last = start + len(window) >= end
            match = self._pattern.search(window, position - start)
            if match and (last or match.end() < len(window) - 4):
                level = next(i for i, group in enumerate(match.groups()) if group is not None)
                line_start = start + match.start() + 1
                text = match.group().rstrip(b"\r\n")
                stop = line_start + len(text.lstrip(b"\r\n"))
                closing = match.group(len(self._open) + 1) is not None
                return _Hit(line_start, stop, start + match.end(), level, closing)
            if last:
                return None
            position = start + match.start() if match else start + len(window) - _OVERLAP

    def _read(self, position: int, end: int) -> "tuple[bytes, int]":
        """Octets from the file around `position`, more than a boundary line has, and where they begin."""
        window, start = self._window, self._window_start
        if not (start <= position and position + 2 * _OVERLAP <= start + len(window)):
            self._file.seek(position)
            window = self._file.read(min(_WINDOW, self._end - position))
            start = self._window_start = position
            self._window = window
        return (window, start) if start + len(window) <= end else (window[: end - start], start)

    def _before_line_end(self, position: int, least: int) -> int:
        """`position` without the line end before it, but not below `least`."""
        start = max(least, position - encodings.LONGEST_LINE_END)
        self._file.seek(start)
        match = _LAST_LINE_END.search(self._file.read(position - start))
        return start + match.start() if match else position
