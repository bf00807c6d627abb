"""Mail too large for Graph's MIME form, as a JSON message and its attachments (message resource).

A JSON message has one body and a list of files.  Everything in the MIME tree
becomes one or the other, except texts that say the same as the one shown.  Only
the body's text is read into memory.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..errors import Permanent, ProxyError
from ..mime import charsets, encodings, labels, uuencode, words
from ..mime import parts as mime
from ..mime.limits import obstacle
from ..mime.parts import Part
from ..mime.prepare import Prepared
from .jsonheader import UNWRITABLE, as_properties

# Octets of UTF-8 of a body; a longer text is attached.  JSON may double it, and the recipients of the
# largest message need 1.5 MB: together that stays below graph.REQUEST_LIMIT.
_LONGEST_BODY = 1_000_000

# Characters: of a file's name (what Windows takes), and of a Content-ID.
_LONGEST_NAME, _LONGEST_ID = 255, 400

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

# Fields of a part that stay: as a file's type, name and Content-ID; the encoding and the length are Exchange's own.
_PART_FIELDS = frozenset(
    b"content-type content-disposition content-id content-transfer-encoding content-length mime-version".split()
)

# Parameters that stay in what is sent, or only say how a part is written.
_PARAMETERS = frozenset(("name", "charset", "boundary", "method", "type", "start", "filename"))

# How the log line names what is lost besides header fields.
ALTERNATIVE = "{} alternative"
ORDER = "order of text and files"
INVITATION = "calendar part (attached as a file)"
TEXT = "text (attached as a file)"
MESSAGE = "{} (attached as a file)"
PART_FIELD = "{} of a part"
PARAMETER = "parameter {} of a part"
_SPOKEN = {"text/plain": "plain text", "text/html": "HTML"}

# What a parameter of a type may be to be passed on with it.
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}\Z")

# A text that is shown has the line ends that it has in MIME.
_LINE_END = re.compile(encodings.LINE_END_OR_CR.decode("ascii"))
_CID = re.compile(r"""cid:([^"'\s<>)\\]{1,400})""", re.I)


class Attachment:
    """One file of a message: its `part`.  `content_id`: without angle brackets, or ""; `inline`: the HTML shows it."""

    def __init__(self, file: BinaryIO, part: Part, name: str, content_type: str, content_id: str, inline: bool):
        self.name = name
        self.content_type = content_type
        self.content_id = content_id
        self.inline = inline
        self._file = file
        self.part = part
        self._size: Optional[int] = None

    @property
    def size(self) -> int:
        """Octets of the content; the first call counts them by decoding it all."""
        if self._size is None:
            self._size = sum(map(len, self.chunks()))
        return self._size

    def chunks(self) -> Iterator[bytes]:
        """The decoded content in chunks of at most about 64 KiB; every call starts from the beginning."""
        return mime.decode(self._file, self.part)


class LargeMail(NamedTuple):
    """`message`: the JSON for POST /messages, without attachments; its file must stay open.

    `left_out`: what of the message this form does not have, for the log: names of fields, and phrases.
    """

    message: Dict[str, Any]
    attachments: List[Attachment]
    left_out: Tuple[str, ...] = ()


def compose(prepared: Prepared, file: BinaryIO) -> LargeMail:
    """The message as Graph accepts it above the MIME form's limit; `file` is the one it was prepared from.

    Raises Permanent if it cannot be sent in this form (`obstacle`).
    """
    reason = obstacle(prepared.root, file)
    if reason:
        raise Permanent(reason)
    content = _Content(file, prepared.root)
    top = as_properties(prepared.top)
    left_out = dict.fromkeys([*top.left_out, *content.left_out()])
    return LargeMail({**top.properties, "body": content.body}, content.attachments, tuple(left_out))


class _Content:
    """Which part is shown, and which parts are files."""

    def __init__(self, file: BinaryIO, root: Part):
        self._file = file
        self._root = root
        self._not_attached: Set[Part] = set()
        self._alternatives: List[Part] = []
        self.body: Dict[str, str] = {"contentType": "text", "content": ""}
        shown = self._choose(root)
        if shown is not None:
            self._show(shown)
        referred = _content_ids(self.body["content"]) if self.body["contentType"] == "html" else set()
        self._files = [part for part in root.leaves() if part not in self._not_attached]
        self.attachments = [self._attachment(part, number, referred) for number, part in enumerate(self._files, 1)]
        self._shown = shown if shown in self._not_attached else None

    def left_out(self) -> Iterator[str]:
        """What of the parts is neither in the body nor in a file."""
        for part in self._alternatives:
            yield ALTERNATIVE.format(_SPOKEN.get(part.content_type, part.content_type))
        if self._shown is not None and self._follows_files(self._shown):
            yield ORDER
        for part in self._files:
            if _is_invitation(part) and part.disposition != "attachment":
                yield INVITATION
            elif part.content_type.startswith("message/"):
                yield MESSAGE.format(part.content_type)
            elif self._may_be_shown(part):
                yield TEXT
        for part in self._root.walk():
            for field in part.header.fields:
                key = field.name.lower()
                name = field.name.decode("ascii")
                if part is not self._root and key not in _PART_FIELDS:
                    yield PART_FIELD.format(name)
                elif part is self._root and key.startswith(b"content-") and key not in _PART_FIELDS:
                    yield name
            for parameter in (*part.content.parameters, *part.placement.parameters):
                if parameter not in _PARAMETERS:
                    yield PARAMETER.format(parameter)

    def _follows_files(self, shown: Part) -> bool:
        """Whether files that the text does not show stand before it: here, text comes first."""
        files = zip(self._files, self.attachments)
        return any(not found.inline and part.header_start < shown.header_start for part, found in files)

    def _choose(self, part: Part) -> Optional[Part]:
        """The text to show of a part; texts that say the same in another form are left out altogether."""
        if not part.children:
            if not self._may_be_shown(part):
                return None
            if self._is_blank(part):
                self._not_attached.add(part)
                return None
            return part
        found = [text for text in map(self._choose, part.children) if text is not None]
        if part.content_type != "multipart/alternative" or not found:
            return found[0] if found else None
        # RFC 2046 5.1.4: the last is the richest.
        best = ([text for text in found if text.content_type in _HTML] or found)[-1]
        self._alternatives += [text for text in found if text is not best]
        self._not_attached.update(self._alternatives)
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
        self._not_attached.add(part)
        kind = "html" if part.content_type in _HTML else "text"
        self.body = {"contentType": kind, "content": text}

    def _text(self, part: Part) -> Optional[str]:
        octets = bytearray()
        for chunk in mime.decode(self._file, part):
            octets += chunk
            if len(octets) > _LONGEST_BODY:
                return None
        text = UNWRITABLE.sub("", _decoded(bytes(octets), part.charset).lstrip("\ufeff"))
        text = _LINE_END.sub("\r\n", text)
        return text if len(text.encode("utf-8")) <= _LONGEST_BODY else None

    def _attachment(self, part: Part, number: int, referred: Set[str]) -> Attachment:
        kind = part.content_type
        if _undeclared(part) or kind.startswith(("message/", "multipart/")):
            # Exchange would rewrite a message in a message; as a file it stays as it is.
            kind = "application/octet-stream"
        elif part.is_text:
            kind += self._type_parameters(part)
        content_id = part.content_id if len(part.content_id) <= _LONGEST_ID else ""
        return Attachment(self._file, part, self._name(part, number), kind, content_id, content_id.lower() in referred)

    def _type_parameters(self, part: Part) -> str:
        """Without its charset, text in a file is read wrongly; without its method, an invitation is a plain file.

        Programs in use send both in a fileAttachment's contentType; no document describes it.
        """
        charset = labels.real(lambda: mime.decode(self._file, part), part.charset)
        known = {"charset": charset, "method": part.content.get("method")}
        return "".join(f"; {name}={value}" for name, value in known.items() if _TOKEN.match(value))

    def _name(self, part: Part, number: int) -> str:
        name = part.filename
        ending = "" if _undeclared(part) else _ENDINGS.get(part.content_type, "")
        if part.content_type in _MESSAGES:
            name = name or self._inner_subject(part)
            name += "" if name.lower().endswith(ending) or not name else ending
        if part.encoding in uuencode.NAMES and part.uuencoded is None:
            ending = ".uue"  # not decoded here: the receiver's decoder recognises it by this
            name += ending if name else ""
        return bounded(name) or ("invite.ics" if _is_invitation(part) else f"attachment{number}{ending}")

    def _inner_subject(self, part: Part) -> str:
        try:
            return mime.read_header(self._file, part.body_start, part.body_end).text("Subject")
        except ProxyError:
            return ""


def _decoded(octets: bytes, charset: str) -> str:
    return charsets.decoded(octets, labels.real(lambda: [octets], charset))


def _is_invitation(part: Part) -> bool:
    """Whether it asks for an answer, or is one (RFC 6047 2.4): Outlook shows buttons for it."""
    return part.content_type == "text/calendar" and bool(part.content.get("method"))


def _undeclared(part: Part) -> bool:
    """Whether it is a file without a declared type, which RFC 2045 5.2 would treat as plain text."""
    return bool(part.disposition or part.uuencoded) and part.header.raw("Content-Type") is None


def bounded(name: str) -> str:
    """A file's name of at most 255 characters; its ending stays."""
    name = words.clean(UNWRITABLE.sub("", name))
    if len(name) <= _LONGEST_NAME:
        return name
    stem, dot, ending = name.rpartition(".")
    ending = dot + ending if stem and len(ending) <= 20 else ""
    return name[: _LONGEST_NAME - len(ending)] + ending


def _content_ids(text: str) -> Set[str]:
    """The Content-IDs an HTML text refers to (RFC 2392), in lower case."""
    import html  # half a megabyte, for large mail with pictures in its text

    return {urllib.parse.unquote(html.unescape(found)).lower() for found in _CID.findall(text)}
