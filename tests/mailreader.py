"""Reads mail as a mail program would, with Python's email package: what was sent and what arrived are compared as text.

None of the program's own parsers is used here.
"""

from __future__ import annotations

import base64
import codecs
import difflib
import email
import email.policy
import email.utils
import re
from email.header import decode_header
from email.message import Message
from typing import Dict, Iterable, Iterator, List, NamedTuple, Tuple

# m365proxy writes these first, in this order, and so they are shown.
FIRST = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID")

# Fields that hold addresses, and fields of which several are read as one, or only the first.
PEOPLE = {"from", "to", "cc", "reply-to", "disposition-notification-to", "return-receipt-to", "errors-to"}
JOINED, ONCE = {"to", "cc"}, {"from", "subject", "date", "message-id"}

# Said of every part by its line, or of no interest to a reader.
_NOT_SHOWN = re.compile(r"(?i)mime-version$|content-(type|disposition|transfer-encoding|id|description|length)$")

# Parameters that say how a part is written, and those that its line shows otherwise.
_NOT_SAID = ("charset", "boundary", "name", "filename", "type", "start")


class Piece(NamedTuple):
    """A part without parts, or a message in the message: what a reader is shown of it.  `content`: lines."""

    kind: str
    disposition: str
    name: str
    content_id: str
    rest: str
    content: Tuple[str, ...]

    def lines(self) -> List[str]:
        words = [self.kind, self.disposition, self.name and f'"{self.name}"', self.content_id, self.rest]
        return [" ".join(filter(None, words)), *(f"| {line}" if line else "|" for line in self.content)]


def parsed(raw: bytes) -> Message:
    return email.message_from_bytes(raw, policy=email.policy.compat32)


def shown(raw: bytes, leave_out: Iterable[str] = ()) -> str:
    """The whole message as text: its fields, and of every part type, name and content.

    `leave_out`: patterns of names of fields that are not shown, in the top header only.
    """
    mail = parsed(raw)
    wanted = [f"{name}: {value}" for name, value in fields(mail) if not is_one_of(name, leave_out)]
    return "".join(line + "\n" for line in [*wanted, "", *_tree(mail, "")])


def is_one_of(name: str, patterns: Iterable[str]) -> bool:
    """Whether a field's name is one of these; "*" at the end of a pattern stands for anything."""
    return any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), name, re.I) for one in patterns)


def differences(was: str, now: str) -> List[str]:
    """The lines that are only in one of two texts, with "-" or "+" before them."""
    lines = difflib.unified_diff(was.splitlines(), now.splitlines(), n=0, lineterm="")
    return [line for line in lines if not re.match(r"---|\+\+\+|@@", line)]


def fields(mail: Message) -> Iterator[Tuple[str, str]]:
    """(name, text) of each field of a message's header that says something of the whole."""
    order = [name.lower() for name in FIRST]
    found: Dict[str, List[Tuple[str, str]]] = {}
    for name, value in mail.items():
        if not _NOT_SHOWN.match(name):
            text = people(value) if name.lower() in PEOPLE else decoded(value)
            found.setdefault(name.lower(), []).append((name, text))
    for key in order:
        values = found.get(key, [])
        if values and key in ONCE | JOINED:
            found[key] = [("", values[0][1] if key in ONCE else ", ".join(text for _, text in values))]
        yield from ((FIRST[order.index(key)], text) for _, text in found.get(key, []))
    others = sorted((key for key in found if key not in order), key=lambda key: key.startswith("content-"))
    yield from (item for key in others for item in found[key])


def decoded(value: object) -> str:
    """A header field's or parameter's text; runs of white space are one blank."""
    text = ""
    for piece, charset in decode_header(re.sub(r"\r?\n", "", value) if isinstance(value, str) else value):
        text += piece if isinstance(piece, str) else _text(piece, charset or "ascii")
    return " ".join(text.split())


def _text(octets: bytes, charset: str) -> str:
    charset = re.sub("(?i)^windows-(?=874)", "cp", charset)
    try:
        codecs.lookup(charset)
    except LookupError:
        charset = "utf-8"
    return octets.decode(charset, "replace")


def people(value: object) -> str:
    """An address field as "Name <address>, ..."."""
    pairs = email.utils.getaddresses([re.sub(r"\r?\n", "", str(value))])
    return ", ".join(person(decoded(name), address) for name, address in pairs)


def person(name: str, address: str) -> str:
    return f"{name} <{address}>" if name else f"<{address}>"


def leaves(mail: Message) -> Iterator[Tuple[Message, Piece]]:
    """The parts that a reader is shown, in order."""
    if mail.is_multipart() and mail.get_content_maintype() != "message":
        for inner in mail.get_payload():
            yield from leaves(inner)
    else:
        yield mail, _piece(mail)


def pieces(mail: Message) -> List[Piece]:
    """The same as Pieces only."""
    return [piece for _, piece in leaves(mail)]


def _tree(mail: Message, margin: str) -> Iterator[str]:
    yield from (margin + line for line in _piece(mail).lines())
    if mail.is_multipart() and mail.get_content_maintype() != "message":
        for inner in mail.get_payload():
            yield from _tree(inner, margin + "  ")


def _piece(part: Message) -> Piece:
    rest = [f"({decoded(part['Content-Description'])})"] if part["Content-Description"] else []
    said = [(key.lower(), value) for key, value in (part.get_params() or [])[1:]]
    for key, value in sorted(said, key=lambda item: item[0]):
        if key not in _NOT_SAID:
            rest.append(f"{key}={decoded(email.utils.collapse_rfc2231_value(value))}")
    return Piece(
        part.get_content_type(),
        part.get_content_disposition() or "",
        name_of(part),
        decoded(part["Content-ID"] or ""),
        " ".join(rest),
        tuple(_content(part)),
    )


def name_of(part: Message) -> str:
    """A file's name, or "".  Where it is given in RFC 2231 form and in ASCII as well, that in RFC 2231 form."""
    for field, wanted in (("Content-Disposition", "filename"), ("Content-Type", "name")):
        found = [value for key, value in part.get_params([], field) if key.lower() == wanted]
        if any(isinstance(value, tuple) for value in found):
            found = [value for value in found if isinstance(value, tuple)]
        if found:
            return decoded(email.utils.collapse_rfc2231_value(found[0]))
    return ""


def _content(part: Message) -> List[str]:
    """Text decoded by its charset, a message as it is shown, everything else escaped."""
    if part.get_content_type() == "message/delivery-status":
        return [f"{name}: {value}" for block in part.get_payload() for name, value in fields(block)]
    if part.is_multipart():
        message = part.get_content_maintype() == "message"
        return [line for inner in part.get_payload() for line in inner_lines(inner)] if message else []
    return content_lines(part, part.get_payload(decode=True) or b"")


def content_lines(part: Message, octets: bytes) -> List[str]:
    """Decoded octets as they are shown of a part without parts."""
    if part.get_content_maintype() in ("text", "multipart"):
        return lines_of(_text(octets, part.get_content_charset() or "ascii"))
    if str(part.get("Content-Transfer-Encoding", "7bit")).strip().lower() in ("7bit", "8bit"):
        octets = re.sub(rb"\r{0,4}\n|\r", b"\r\n", octets)  # lines, as everything that is not "binary"
    return [escaped(octets)]


def inner_lines(mail: Message) -> List[str]:
    """A message in a message as it is shown."""
    return [*(f"{name}: {value}" for name, value in fields(mail)), "", *_tree(mail, "")]


def escaped(octets: bytes) -> str:
    return repr(octets)[2:-1]


def lines_of(text: str) -> List[str]:
    """The lines of a text without its last line ends."""
    return re.sub(r"\r{0,4}\n|\r", "\n", text).rstrip("\n").split("\n")


def pdf_of(raw: bytes) -> Tuple[str, bytes]:
    """(name, content) of the one PDF of a large mail; the package would look at each of its lines."""
    before, kind, after = raw.partition(b"Content-Type: application/pdf")
    fields_of_it, _, rest = after.partition(b"\r\n\r\n")
    head = parsed(kind + fields_of_it)
    assert kind and kind not in rest and head["Content-Transfer-Encoding"] == "base64"
    assert b"\r\nContent-Disposition: attachment" not in rest, "another file"
    (boundary,) = re.findall(rb'boundary="?([^"\r\n]+)', before)
    return head.get_filename() or "", base64.b64decode(rest.partition(b"\r\n--" + boundary)[0])
