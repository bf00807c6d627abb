"""Mail too large for Graph's MIME form, as a JSON message and its attachments (message resource).

A JSON message has one body and a list of files.  Everything in the MIME tree
becomes one or the other, except texts that say the same as the one shown.  Only
the body's text is read into memory.
"""

from __future__ import annotations

import html
import re
import urllib.parse
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set

from ..errors import Permanent, ProxyError
from ..mime import addresses, charsets, header, words
from ..mime import parts as mime
from ..mime.addresses import Mailbox
from ..mime.limits import obstacle
from ..mime.parts import Part
from ..mime.prepare import Prepared
from ..mime.topheader import TopHeader

# What the message resource lacks, by MAPI tag.
IN_REPLY_TO, REFERENCES = "String 0x1042", "String 0x1039"
LIST_UNSUBSCRIBE, SENSITIVITY = "String 0x1045", "Integer 0x36"

# Octets of UTF-8 of a body; a longer text is attached.  JSON may double it, and the recipients of the
# largest message need 1.5 MB: together that stays below graph.REQUEST_LIMIT.
_LONGEST_BODY = 1_000_000

# Characters: of a file's name (what Windows takes), a subject (Exchange's limit), a list of ids, an X- field.
_LONGEST_NAME, _LONGEST_SUBJECT, _LONGEST_IDS, _LONGEST_VALUE = 255, 255, 8000, 900

# Characters of a Content-ID.
_LONGEST_ID = 400

# The most X- fields that Graph accepts (InvalidInternetMessageHeaderCollection).
_MOST_HEADERS = 5

# Only a part of at most this many octets is checked for being blank.
_BLANK = 256

_TOO_LONG = "The text of this message is very long and is attached as a file.\r\n"

# By content type, the ending of a file's name if the sender gave none.
_ENDINGS = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/xml": ".xml",
    "text/rtf": ".rtf",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "message/delivery-status": ".txt",
    "message/disposition-notification": ".txt",
    "text/rfc822-headers": ".txt",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/tiff": ".tif",
    "image/bmp": ".bmp",
    "image/svg+xml": ".svg",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
    "application/xml": ".xml",
    "application/json": ".json",
    "application/msword": ".doc",
    "application/ms-tnef": ".dat",
    "video/mp4": ".mp4",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
}

_HTML = ("text/html", "application/xhtml+xml")
_MESSAGES = ("message/rfc822", "message/global")

# Characters that XML, and so Exchange, cannot represent.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_CID = re.compile(r"""cid:([^"'\s<>)\\]{1,400})""", re.I)
_X_FIELD = re.compile(rb"[Xx]-[A-Za-z0-9_-]{1,74}\Z")
# These become properties of the message.
_MAPPED = frozenset((b"x-priority", b"x-msmail-priority", b"x-confirm-reading-to"))
# PidTagSensitivity.
_SENSITIVITIES = {"personal": "1", "private": "2", "company-confidential": "3"}
_IMPORTANCES = {
    "importance": {"high": "high", "low": "low"},
    "x-priority": {"1": "high", "2": "high", "4": "low", "5": "low"},
    "x-msmail-priority": {"high": "high", "low": "low"},
    "priority": {"urgent": "high", "non-urgent": "low"},
}


class Attachment:
    """One file of a message.  `content_id`: without angle brackets, or ""; `inline`: the HTML shows it."""

    def __init__(self, file: BinaryIO, part: Part, name: str, content_type: str, content_id: str, inline: bool):
        self.name = name
        self.content_type = content_type
        self.content_id = content_id
        self.inline = inline
        self._file = file
        self._part = part
        self._size: Optional[int] = None

    @property
    def size(self) -> int:
        """Octets of the content; the first call counts them by decoding it all."""
        if self._size is None:
            self._size = sum(map(len, self.chunks()))
        return self._size

    def chunks(self) -> Iterator[bytes]:
        """The decoded content in chunks of at most about 64 KiB; every call starts from the beginning."""
        return mime.decode(self._file, self._part)


class LargeMail(NamedTuple):
    """`message`: the JSON for POST /messages, without attachments; its file must stay open."""

    message: Dict[str, Any]
    attachments: List[Attachment]


def compose(prepared: Prepared, file: BinaryIO) -> LargeMail:
    """The message as Graph accepts it above the MIME form's limit; `file` is the one it was prepared from.

    Raises Permanent if it cannot be sent in this form (`obstacle`).
    """
    reason = obstacle(prepared.root)
    if reason:
        raise Permanent(reason)
    content = _Content(file, prepared.root)
    return LargeMail({**_properties(prepared.top), "body": content.body}, content.attachments)


class _Content:
    """Which part is shown, and which parts are files."""

    def __init__(self, file: BinaryIO, root: Part):
        self._file = file
        self._root = root
        self._left_out: Set[Part] = set()
        self.body: Dict[str, str] = {"contentType": "text", "content": ""}
        shown = self._choose(root)
        if shown is not None:
            self._show(shown)
        referred = _content_ids(self.body["content"]) if self.body["contentType"] == "html" else set()
        files = [part for part in root.leaves() if part not in self._left_out]
        self.attachments = [self._attachment(part, number, referred) for number, part in enumerate(files, 1)]

    def _choose(self, part: Part) -> Optional[Part]:
        """The text to show of a part; texts that say the same in another form are left out altogether."""
        if not part.children:
            if not self._may_be_shown(part):
                return None
            if self._is_blank(part):
                self._left_out.add(part)
                return None
            return part
        found = [text for text in map(self._choose, part.children) if text is not None]
        if part.content_type != "multipart/alternative" or not found:
            return found[0] if found else None
        # RFC 2046 5.1.4: the last is the richest.
        best = ([text for text in found if text.content_type in _HTML] or found)[-1]
        self._left_out.update(text for text in found if text is not best)
        return best

    def _may_be_shown(self, part: Part) -> bool:
        if part.disposition == "attachment" or part.filename:
            return False
        # A multipart without any boundary in it is at least visible.
        shown = part.content_type in ("text/plain", *_HTML) or part.content_type.startswith("multipart/")
        return shown or (part is self._root and part.is_text)

    def _is_blank(self, part: Part) -> bool:
        short = part.body_end - part.body_start <= _BLANK
        return short and not b"".join(mime.decode(self._file, part)).strip()

    def _show(self, part: Part) -> None:
        """Use a text as the body, or say there that it is attached."""
        text = self._text(part)
        if text is None:
            self.body["content"] = _TOO_LONG
            return
        self._left_out.add(part)
        kind = "html" if part.content_type in _HTML else "text"
        self.body = {"contentType": kind, "content": text}

    def _text(self, part: Part) -> Optional[str]:
        octets = bytearray()
        for chunk in mime.decode(self._file, part):
            octets += chunk
            if len(octets) > _LONGEST_BODY:
                return None
        text = _UNWRITABLE.sub("", _decoded(bytes(octets), part.charset).lstrip("\ufeff"))
        return text if len(text.encode("utf-8")) <= _LONGEST_BODY else None

    def _attachment(self, part: Part, number: int, referred: Set[str]) -> Attachment:
        kind = part.content_type
        if _undeclared(part) or kind.startswith(("message/", "multipart/")):
            # Exchange would rewrite a message in a message; as a file it stays as it is.
            kind = "application/octet-stream"
        content_id = part.content_id if len(part.content_id) <= _LONGEST_ID else ""
        return Attachment(self._file, part, self._name(part, number), kind, content_id, content_id.lower() in referred)

    def _name(self, part: Part, number: int) -> str:
        name = part.filename
        ending = "" if _undeclared(part) else _ENDINGS.get(part.content_type, "")
        if part.content_type in _MESSAGES:
            name = name or self._inner_subject(part)
            name += "" if name.lower().endswith(ending) or not name else ending
        if part.encoding.startswith(("x-uu", "uu")):
            ending = ".uue"  # not decoded here: the receiver's decoder recognises it by this
            name += ending if name else ""
        return bounded(name) or f"attachment{number}{ending}"

    def _inner_subject(self, part: Part) -> str:
        try:
            return header.read(self._file, part.body_start, end=part.body_end).text("Subject")
        except ProxyError:
            return ""


def _decoded(octets: bytes, charset: str) -> str:
    text = charsets.decoded(octets, charset)
    # Declared as UTF-8, but none of its non-ASCII text is: some devices declare everything as UTF-8.
    if charsets.known(charset) == "utf_8" and "\ufffd" in text and text.replace("\ufffd", "").isascii():
        return charsets.text(octets)
    return text


def _undeclared(part: Part) -> bool:
    """Whether it is a file without a declared type, which RFC 2045 5.2 would treat as plain text."""
    return bool(part.disposition) and part.header.raw("Content-Type") is None


def bounded(name: str) -> str:
    """A file's name of at most 255 characters; its ending stays."""
    name = words.clean(_UNWRITABLE.sub("", name))
    if len(name) <= _LONGEST_NAME:
        return name
    stem, dot, ending = name.rpartition(".")
    ending = dot + ending if stem and len(ending) <= 20 else ""
    return name[: _LONGEST_NAME - len(ending)] + ending


def _content_ids(text: str) -> Set[str]:
    """The Content-IDs an HTML text refers to (RFC 2392), in lower case."""
    return {urllib.parse.unquote(html.unescape(found)).lower() for found in _CID.findall(text)}


def _properties(top: TopHeader) -> Dict[str, Any]:
    """The top header as properties of the message resource.  The date is Exchange's own."""
    block = header.Block(top.kept, 0, sound=False)
    people = {
        "toRecipients": top.to,
        "ccRecipients": top.cc,
        "bccRecipients": top.bcc,
        "replyTo": [*_valid(block.mailboxes("Reply-To")), *top.reply_to],
    }
    receipt = block.all("Disposition-Notification-To") or block.all("X-Confirm-Reading-To")
    tagged = [
        (IN_REPLY_TO, _ids(block, "In-Reply-To")),
        (REFERENCES, _ids(block, "References")),
        (LIST_UNSUBSCRIBE, _UNWRITABLE.sub("", block.text("List-Unsubscribe"))[:_LONGEST_IDS]),
        (SENSITIVITY, _SENSITIVITIES.get(block.text("Sensitivity").lower(), "")),
    ]
    found: Dict[str, Any] = {
        "subject": _UNWRITABLE.sub("", top.subject)[:_LONGEST_SUBJECT],
        "from": _person(top.author),
        **{key: [_person(mailbox) for mailbox in mailboxes] for key, mailboxes in people.items()},
        "importance": _importance(block),
        "isReadReceiptRequested": bool(receipt),
        "internetMessageId": top.message_id,
        "internetMessageHeaders": _x_fields(top.kept),
        "singleValueExtendedProperties": [{"id": tag, "value": value} for tag, value in tagged if value],
    }
    return {key: value for key, value in found.items() if value != []}


def _valid(mailboxes: Iterable[Mailbox]) -> Iterator[Mailbox]:
    for mailbox in mailboxes:
        if addresses.valid_address(mailbox.address, smtputf8=True):
            yield Mailbox(mailbox.name, addresses.on_the_wire(mailbox.address))


def _person(mailbox: Mailbox) -> Dict[str, Any]:
    name = _UNWRITABLE.sub("", addresses.display_name(mailbox.name))
    return {"emailAddress": {"address": mailbox.address, **({"name": name} if name else {})}}


def _importance(block: header.Block) -> str:
    for field, meanings in _IMPORTANCES.items():
        said = block.text(field).lower().split(" ")[0]
        if said in meanings:
            return meanings[said]
    return "normal"


def _ids(block: header.Block, name: str) -> str:
    """The message ids of a threading field; of a long list the first and the last ones."""
    fields = block.all(name)
    if not fields:
        return ""
    written = header.emit(fields[0].name, fields[0].value).partition(b":")[2]
    ids = [word for word in written.decode("ascii").split() if word.startswith("<") and word.endswith(">")]
    while len(ids) > 2 and sum(map(len, ids)) + len(ids) > _LONGEST_IDS:
        del ids[1]
    return " ".join(ids)


def _x_fields(kept: Iterable[header.Field]) -> List[Dict[str, str]]:
    """The first few X- fields; Graph accepts no other fields, and only a few of these."""
    found: Dict[bytes, Dict[str, str]] = {}
    for field in kept:
        key = field.name.lower()
        if not _X_FIELD.match(field.name) or key in _MAPPED or key in found or len(found) == _MOST_HEADERS:
            continue
        value = words.clean(_UNWRITABLE.sub("", words.decode(charsets.text(field.unfolded))).replace("\t", " "))
        if 0 < len(value) <= _LONGEST_VALUE:
            found[key] = {"name": field.name.decode("ascii"), "value": value}
    return list(found.values())
