"""A message's header block: reading what devices send, writing what Exchange understands."""

from __future__ import annotations

import re
from typing import BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

from ..errors import Permanent
from . import addresses, encodings, words
from .addresses import Mailbox
from .encodings import CRLF

# Octets of a header block; the limits of Postfix and Exchange are far lower.
LIMIT = 1024 * 1024

# Fields of a header block, or of all header blocks of a message: in memory a short field is 50 times as large.
MOST_FIELDS = 4000

# RFC 5322 2.1.1: lines should have 78 octets and must not have more than 998.
_WANTED, _ALLOWED = 78, 998

# Octets of a field's name; no field of a mail header has a longer one.
_LONGEST_NAME = 76

_CHUNK = 16 * 1024

_FIELD = re.compile(rb"([!-9;-~]{1,%d})[ \t]*:" % _LONGEST_NAME)
_FIRST_LINE_ENDS_IN_CR = re.compile(rb"[^\r\n]*\r(?!" + encodings.LINE_END + rb")(?:[!-9;-~]+:|[ \t\r])")
_LINE_END = re.compile(encodings.LINE_END)
_LINE_END_OR_CR = re.compile(encodings.LINE_END_OR_CR)
_BLANK_LINE = re.compile(rb"\n" + encodings.LINE_END)
_SOUND = re.compile(rb"[\t -~]*(?:\r\n[ \t]+[!-~][\t -~]*)*\Z")
_SPACES = re.compile(rb"[ \t]{60,}")
_TOKEN = re.compile(rb"[ \t]*[^ \t]+")
_CONTROL = bytes(range(9)) + bytes(range(10, 32)) + b"\x7f"
_CONTROL_TO_BLANK = dict.fromkeys(_CONTROL, " ")
_CONTROL_TO_SPACE = bytes.maketrans(_CONTROL, b" " * len(_CONTROL))
_MESSAGE_ID = re.compile(rb"<[!-;=?A-~]{1,200}@[!-;=?A-~]{1,200}>\Z")
_REFERENCE = re.compile(r"<[!-;=?-~]{1,600}>")
ADDRESS_FIELDS = frozenset(
    b"reply-to disposition-notification-to return-receipt-to errors-to mail-followup-to mail-reply-to"
    b" x-confirm-reading-to".split()
)
# Address fields in the header of a message in the message.
_PEOPLE = frozenset(b"from to cc bcc sender resent-from resent-to resent-cc resent-bcc resent-sender".split())
_REFERENCE_FIELDS = frozenset((b"in-reply-to", b"references"))


class HeaderTooLarge(Permanent):
    """A header block over its limits: an SMTP client gets 554 5.6.0, as for any other that cannot be read."""


class Field(NamedTuple):
    """A field's name as written and its value: no white space around it, folds as CRLF and white space.

    `charset`: what its octets are in if they are not UTF-8; the message's first text says it, "" if none does.
    `doubted`: another field is not UTF-8.
    """

    name: bytes
    value: bytes
    charset: str = ""
    doubted: bool = False

    @property
    def unfolded(self) -> bytes:
        """The octets of the value in one line without control characters."""
        return self.value.replace(CRLF, b"").translate(_CONTROL_TO_SPACE).strip(b" \t")

    @property
    def text(self) -> str:
        """The value in one line without control characters, its encoded words (proper ones) not decoded."""
        octets = self.value.replace(CRLF, b"")
        text = words.text(octets, self.charset, self._has_phrases, self.doubted)
        return (text if text.isprintable() else text.translate(_CONTROL_TO_BLANK)).strip(" \t")

    @property
    def decoded(self) -> str:
        """The value in one line, decoded, without harmful characters."""
        return words.clean(words.decode(self.text))

    @property
    def mailboxes(self) -> List[Mailbox]:
        """The mailboxes of an address field."""
        return addresses.parse(self.text)

    @property
    def is_utf8(self) -> bool:
        """Whether its octets are valid UTF-8."""
        try:
            self.value.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    @property
    def is_sound(self) -> bool:
        """Whether the value may go on the wire as it is."""
        return (
            bool(_SOUND.match(self.value))
            and len(self.name) + 2 + max(map(len, self.value.split(CRLF))) <= _ALLOWED
            and words.is_proper(self.value.replace(CRLF, b""), self._has_phrases)
        )

    @property
    def _has_phrases(self) -> bool:
        kind = self.name.lower()
        return kind in _PEOPLE or kind in ADDRESS_FIELDS


class Block:
    """The fields of a header and where the body begins.

    `sound` says that nothing had to be left out or guessed while reading, so
    that the octets up to `body` may be passed on as they are.
    """

    def __init__(self, fields: Sequence[Field], body: int, sound: bool):
        self._set_fields(fields)
        self.body = body
        self.sound = sound

    def _set_fields(self, fields: Sequence[Field]) -> None:
        self.fields = list(fields)
        self._by_name: Dict[bytes, List[Field]] = {}
        for field in fields:
            self._by_name.setdefault(field.name.lower(), []).append(field)

    def all(self, name: str) -> Sequence[Field]:
        """Every field of that name, in order."""
        return self._by_name.get(name.lower().encode("ascii"), ())

    def raw(self, name: str) -> Optional[bytes]:
        """The first such field's unfolded octets, or None."""
        found = self.all(name)
        return found[0].unfolded if found else None

    def text(self, name: str) -> str:
        """The first such field as text with encoded words decoded; "" if there is none."""
        found = self.all(name)
        return found[0].decoded if found else ""

    def undecoded(self, name: str) -> str:
        """The first such field as text with its encoded words, which are proper ones; "" if there is none."""
        found = self.all(name)
        return found[0].text if found else ""

    @property
    def is_utf8(self) -> bool:
        """Whether all octets of it are."""
        return all(field.is_utf8 for field in self.fields)

    def set_charset(self, charset: str, doubted: bool) -> None:
        """Read octets that are not UTF-8 in this charset; `doubted`: not all octets of the message's header are."""
        self._set_fields([field._replace(charset=charset, doubted=doubted) for field in self.fields])

    def mailboxes(self, name: str) -> List[Mailbox]:
        """The mailboxes of all such fields together, no more than of one list."""
        found: List[Mailbox] = []
        for field in self.all(name):
            if len(found) < addresses.MOST:
                found += field.mailboxes
        return found


def from_addresses(block: Block) -> List[str]:
    """The addresses of From, all of them, as written."""
    return [mailbox.address for mailbox in block.mailboxes("From")]


def client_message_id(block: Block) -> Optional[str]:
    """The client's Message-ID if it is a good one, with its angle brackets."""
    raw = block.raw("Message-ID") or b""
    return raw.decode("ascii") if _MESSAGE_ID.match(raw) else None


def read(file: BinaryIO, offset: int = 0, limit: int = LIMIT, end: Optional[int] = None) -> Block:
    """The header block that begins at `offset` and goes no further than `end`.

    Accepts LF, CR LF, CR CR LF and, if the first line ends with it, a lone CR as
    line end; drops a byte order mark, an mbox "From " line, lines without a field name between
    fields, and continuation lines that continue nothing.  After the last field,
    a line without a colon begins the body.  Raises HeaderTooLarge.
    """
    data = _head(file, offset, limit, end)
    if data.startswith(encodings.BOM) and _begins_like_header(data[len(encodings.BOM) :]):
        block = read(file, offset + len(encodings.BOM), limit, end)
        block.sound = False
        return block
    return _Reader(data, offset).block()


def _head(file: BinaryIO, offset: int, limit: int, end: Optional[int]) -> bytes:
    """Octets from `offset` that hold the whole header block, and perhaps more."""
    file.seek(offset)
    room = limit if end is None else min(limit, end - offset)
    data = b""
    while True:
        chunk = file.read(min(_CHUNK, room - len(data)))
        searched = max(0, len(data) - 6)
        data += chunk
        if len(data) >= room or not chunk:
            break
        if not _begins_like_header(data) or _blank_line(data, searched):
            return data
    if len(data) >= limit and _begins_like_header(data) and not _blank_line(data, 0):
        raise HeaderTooLarge(f"The message header is larger than {limit} octets. Shorten it at the sender.")
    return data


def _begins_like_header(data: bytes) -> bool:
    return data[:1] in (b" ", b"\t") or data.startswith((b"From ", b">From ")) or bool(_FIELD.match(data))


def _blank_line(data: bytes, start: int) -> bool:
    return bool(_BLANK_LINE.search(data, start)) or (
        data.find(b"\r\r", start) >= 0 and bool(_FIRST_LINE_ENDS_IN_CR.match(data))
    )


class _Reader:
    """One pass over the lines of a header block."""

    def __init__(self, data: bytes, offset: int):
        self._data = data
        self._offset = offset
        self._names: List[bytes] = []
        self._values: List[List[bytes]] = []
        self._junk: Optional[int] = None
        self._in_field = False
        self._sound = True

    def block(self) -> Block:
        position = 0
        if self._data and not _begins_like_header(self._data):
            blank = _LINE_END_OR_CR.match(self._data)
            return Block([], self._offset + (blank.end() if blank else 0), sound=bool(blank))
        line_end = _LINE_END_OR_CR if _FIRST_LINE_ENDS_IN_CR.match(self._data) else _LINE_END
        for match in line_end.finditer(self._data):
            if match.start() == position:
                return self._done(match.end(), terminated=True)
            self._line(self._data[position : match.start()], position)
            position = match.end()
        if position < len(self._data):
            self._line(self._data[position:], position)
        return self._done(len(self._data), terminated=False)

    def _line(self, line: bytes, position: int) -> None:
        if line[0] in b" \t":
            if self._in_field and line.strip(b" \t\r"):
                # Few readers understand a field whose first line is empty.
                self._sound = self._sound and bool(self._values[-1][0].strip(b" \t\r"))
                self._values[-1].append(line.rstrip(b" \t\r"))
            else:
                self._sound = False
            return
        match = _FIELD.match(line)
        self._in_field = match is not None
        if match:
            if len(self._names) == MOST_FIELDS:
                raise HeaderTooLarge(
                    f"The message header has more than {MOST_FIELDS} fields. Remove some at the sender."
                )
            self._sound = self._sound and self._junk is None and match.end() == len(match.group(1)) + 1
            self._junk = None
            self._names.append(match.group(1))
            self._values.append([line[match.end() :]])
            return
        self._sound = False
        if position and self._junk is None:
            self._junk = position

    def _done(self, end: int, terminated: bool) -> Block:
        if not self._names:
            return Block([], self._offset, sound=False)
        if self._junk is not None:
            end = self._junk
        fields = [Field(name, CRLF.join(lines).strip(b" \t\r\n")) for name, lines in zip(self._names, self._values)]
        return Block(fields, self._offset + end, self._sound and terminated)


def emit(field: Field) -> bytes:
    """One field to be sent: ASCII, folded, no line over 998 octets, ended by CRLF.

    A well-formed value stays octet for octet, except addresses that a reply goes to.
    """
    name, kind = field.name, field.name.lower()
    field = field._replace(value=field.value.strip(b" \t\r\n"))
    if kind in _REFERENCE_FIELDS:
        # Exchange loses the thread when these are folded oddly or encoded.
        found = _REFERENCE.findall(words.decode(field.text))
        if found:
            return fold(name, " ".join(found).encode("ascii"))
    sound = field.is_sound
    # Graph refuses a whole message for one address it cannot read: these are never copied.
    if kind in ADDRESS_FIELDS or (kind in _PEOPLE and not sound):
        mailboxes = [with_ascii_address(mailbox) for mailbox in valid_mailboxes(field.mailboxes)]
        if mailboxes:
            return fold(name, addresses.listed(mailboxes))
    if sound:
        return name + b": " + field.value + CRLF
    text = field.text
    if text.isascii() and max(map(len, text.split()), default=0) <= words.LONGEST_TOKEN:
        return fold(name, text.encode("ascii"))
    return fold(name, words.encoded(words.decode(text)))


def fold(name: bytes, value: bytes) -> bytes:
    """An unfolded ASCII value as lines of at most 78 octets where its white space allows it.

    The first token is on the first line: some readers lose a field whose
    first line is empty.  No token may be longer than words.LONGEST_TOKEN.
    """
    lines: List[bytes] = []
    line = name + b":"
    for number, token in enumerate(_TOKEN.findall(_SPACES.sub(b" ", value.strip(b" \t")))):
        if number == 0:
            token = b" " + token
        elif len(line) + len(token) > _WANTED:
            lines.append(line)
            line = b""
        line += token
    return CRLF.join(lines + [line]) + CRLF


def valid_mailboxes(mailboxes: Iterable[Mailbox]) -> Iterator[Mailbox]:
    """Those that may be in a header, one by one, while what was computed for each is still cached."""
    return (mailbox for mailbox in mailboxes if addresses.valid_address(mailbox.address, smtputf8=True))


def with_ascii_address(mailbox: Mailbox) -> Mailbox:
    """The mailbox with its address as it is sent; Permanent if it cannot be in a header."""
    return Mailbox(mailbox.name, addresses.on_the_wire(mailbox.address))
