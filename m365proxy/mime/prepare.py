"""Makes a spooled message ready for Graph.

The top header is rewritten for the envelope (TopHeader); the body is passed on
octet for octet, except for the repairs without which Exchange garbles or
refuses it (GF 1.7).  Signed and encrypted parts get CRLF line ends and
nothing else.
"""

from __future__ import annotations

import hashlib
import re
from typing import (
    AbstractSet,
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ..errors import Permanent
from ..system import log
from . import encodings, header, labels, parameters, parts, uuencode
from .encodings import CRLF
from .parts import Part
from .survey import Survey, survey_of
from .topheader import TopHeader

logger = log.get("message")

# Octets of raw MIME that certainly fit into Graph's 4 MB request once base64 has
# made them a third larger: 3.87 MB, below both readings of "4 MB" (GF 1.3).
LARGE_MIME_CEILING = 2_900_000

_IDENTITY = frozenset(("7bit", "8bit", "binary"))

# How deep messages in messages are repaired.
_DEEPEST_MESSAGE = 5

_BROKEN_MESSAGE = "An attached message is damaged (NUL octets or endless lines). Send it as a file."
_BROKEN_UUENCODE = "An attachment in uuencode is damaged: {}. Send it in base64."
_BROKEN_UNKNOWN = "An attachment in an encoding nobody knows has octets that cannot be sent so. Send it in base64."

# RFC 2046 5.1.1, bchars.
_SAFE_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")

# A piece of the output: octets, or a function that makes them from the file each time.
_Piece = Union[bytes, Callable[[], Iterator[bytes]]]


def _chunks(piece: _Piece) -> Iterable[bytes]:
    return (piece,) if isinstance(piece, bytes) else piece()


class Prepared:
    """A message as it goes to Graph: generated from the file each time it is needed.

    `top` is the TopHeader, `root` the mime.Part tree of the message as
    it was received.  The file must stay open, and belongs to one thread.
    """

    def __init__(self, top: TopHeader, root: Part, content: Sequence[bytes], body: Sequence[_Piece]):
        """`content`: the finished MIME fields of the top header."""
        self.top = top
        self.root = root
        self._content = content
        self._head = top.emit(content)
        self._body = body
        self._size: Optional[int] = None

    @property
    def size(self) -> int:
        """Octets of the whole message."""
        return self.measure()

    def measure(self) -> int:
        """Generate the whole message once, if that was not done yet; returns its octets."""
        if self._size is None:
            self._size = sum(map(len, self.chunks()))
        return self._size

    @property
    def is_large(self) -> bool:
        """Whether it is sent as large mail.

        The envelope does not count: an accepted message must not become too large because it has many recipients.
        A thousand recipients still fit into the request.
        """
        return self.exceeds(LARGE_MIME_CEILING)

    def exceeds(self, octets: int) -> bool:
        """Whether it is larger than that, without the envelope."""
        return self.size - self.top.envelope_size > octets

    def chunks(self) -> Iterator[bytes]:
        """The whole message in chunks of at most about 128 KiB; every call starts from the beginning."""
        yield self._head
        for piece in self._body:
            yield from _chunks(piece)

    def without_bcc(self) -> Prepared:
        """The same without a Bcc field, for a draft that gets it as a property."""
        made = Prepared(self.top, self.root, self._content, self._body)
        made._head = self.top.emit(self._content, with_bcc=False)
        made._size = self.size - len(self._head) + len(made._head)
        return made

    def write_to(self, out: BinaryIO) -> None:
        """Write the whole message."""
        for chunk in self.chunks():
            out.write(chunk)


def prepare(
    file: BinaryIO,
    start: int = 0,
    *,
    recipients: Sequence[str],
    sender: str,
    message_id: str,
    date: Optional[float] = None,
    may_send_as: Optional[Callable[[str], bool]] = None,
    replace_message_id: bool = False,
    end: Optional[int] = None,
) -> Prepared:
    """The message between two offsets of a seekable file, for one envelope; other arguments as for TopHeader.

    Raises Permanent if the message cannot be sent: a header too large, too
    many parts, an address that no header can hold.  Any other exception is a
    fault of this program; then `prepare_unrepaired` leaves out what failed.
    """
    return examine(file, start, end).prepared(
        recipients=recipients,
        sender=sender,
        message_id=message_id,
        date=date,
        may_send_as=may_send_as,
        replace_message_id=replace_message_id,
    )


class Examined(NamedTuple):
    """A message that can be sent, and how, whatever its envelope will be."""

    root: Part  # the tree of its parts
    edit: _Edit
    body: List[_Piece]

    def prepared(self, **envelope: Any) -> Prepared:
        """It is made ready for an envelope: arguments as for `prepare`."""
        has_tnef = any(part.is_tnef for part in self.root.leaves())
        return _written(TopHeader(self.root.header, has_tnef=has_tnef, **envelope), self)


def examine(file: BinaryIO, start: int = 0, end: Optional[int] = None) -> Examined:
    """Decide what becomes of each part of a message.  Permanent if it cannot be sent, to whomever."""
    bounds = parts.Bounds()
    root = _scanned(file, start, end, bounds)
    return Examined(root, *_Writer(file, root, bounds).body(root))


def without(prepared: Prepared, file: BinaryIO, left_out: AbstractSet[Part]) -> Prepared:
    """The same message without some of its leaves, and without the multiparts that have no other; nothing but these:
    a message without a text.  `file` is the one it was prepared from."""
    root = prepared.root
    writer = _Writer(file, root, parts.Bounds(), left_out=left_out)
    if writer.leaves_out(root):
        return Prepared(prepared.top, root, [b"MIME-Version: 1.0" + CRLF, b"Content-Type: text/plain" + CRLF], [])
    return _written(prepared.top, Examined(root, *writer.body(root)))


def _written(top: TopHeader, examined: Examined) -> Prepared:
    root, edit, body = examined
    content = _content_fields(root, edit)
    ours = edit.encoding == "base64" and root.body_start < root.body_end
    ends_open = ours or (root.children and isinstance(body[-1], bytes))
    return Prepared(top, root, content, [*body, *([CRLF] if ends_open else [])])


def prepare_unrepaired(file: BinaryIO, start: int = 0, **envelope: Any) -> Prepared:
    """The message if `prepare` failed unexpectedly: the body as it is, the header without the fields that cannot be
    written.  The recipients are still those of the envelope.  Raises Permanent."""
    end = file.seek(0, 2)
    block = header.read(file, start)
    fields = [field for field in block.fields if _can_be_written(field, envelope)]
    root, top = _unrepaired(header.Block(fields, block.body, False), start, end, envelope)
    content = _content_fields(root, _Edit())
    return Prepared(top, root, content, [lambda: encodings.canonical(encodings.octets(file, block.body, end))])


def _can_be_written(field: header.Field, envelope: Dict[str, Any]) -> bool:
    try:
        root, top = _unrepaired(header.Block([field], 0, False), 0, 0, envelope)
        Prepared(top, root, _content_fields(root, _Edit()), [])
    except Permanent:
        raise
    except Exception:
        logger.exception("the field %s of a message is left out", log.clean(field.name.decode("ascii")))
        return False
    return True


def _unrepaired(block: header.Block, start: int, end: int, envelope: Dict[str, Any]) -> Tuple[Part, TopHeader]:
    return Part(block, start, end, "text/plain"), TopHeader(block, **envelope)


def _content_fields(root: Part, edit: "_Edit") -> List[bytes]:
    """The finished MIME fields of the top header."""
    content = _fields(root, edit, lambda name: name.startswith(b"content-") and name != b"content-length")
    if content or root.header.all("MIME-Version"):
        content.insert(0, b"MIME-Version: 1.0" + CRLF)
    return content


def _scanned(file: BinaryIO, start: int, end: Optional[int], bounds: parts.Bounds) -> Part:
    root = parts.scan(file, start, end, bounds)
    if root.broken:
        raise Permanent(root.broken)
    return root


class _Edit(NamedTuple):
    """What changes in a part's header: a new Content-Type, a new encoding ("" takes the field away)."""

    content: Optional[parameters.Value] = None
    encoding: Optional[str] = None


class _Writer:
    """Decides what becomes of each part of a message's body."""

    def __init__(
        self,
        file: BinaryIO,
        root: Part,
        bounds: parts.Bounds,
        depth: int = 0,
        left_out: AbstractSet[Part] = frozenset(),
    ):
        """`depth`: how many messages this one is inside of; `left_out`: leaves that are not written."""
        self._file = file
        self._bounds = bounds
        self._depth = depth
        self._left_out = left_out
        self._boundaries = [part.boundary for part in root.walk() if part.children]

    def leaves_out(self, part: Part) -> bool:
        """Whether nothing of a part is written."""
        return bool(self._left_out) and all(leaf in self._left_out for leaf in part.leaves())

    def body(self, part: Part) -> Tuple[_Edit, List[_Piece]]:
        """The pieces of a part's body, and what they change in its header."""
        if part.content_type in ("multipart/signed", "multipart/encrypted"):
            return _named(part, _Edit()), [self._copy(part.body_start, part.body_end)]
        if part.children:
            return self._multipart(part)
        message = part.content_type.startswith("message/") and part.encoding not in ("base64", "quoted-printable")
        edit, pieces = self._message(part) if message else self._leaf(part)
        return _named(part, edit), pieces

    def _message(self, part: Part) -> Tuple[_Edit, List[_Piece]]:
        """A message in the message.  It is not sent to its own recipients, so only what is broken in it is changed."""
        survey = survey_of(self._octets(part.body_start, part.body_end))
        if survey.clean:
            return _Edit(), [self._copy(part.body_start, part.body_end)]
        if part.content_type in parts.MESSAGES and self._depth < _DEEPEST_MESSAGE:
            root = _scanned(self._file, part.body_start, part.body_end, self._bounds)
            pieces = _Writer(self._file, root, self._bounds, self._depth + 1).entity(root, True)
            survey = survey_of(chunk for piece in pieces for chunk in _chunks(piece))
        else:
            pieces = [self._copy(part.body_start, part.body_end)]
        if survey.nul or survey.long_line:
            raise Permanent(_BROKEN_MESSAGE)
        encoding = "7bit" if survey.ascii else "8bit"
        return _Edit(None, None if part.encoding == encoding else encoding), pieces

    def _multipart(self, part: Part) -> Tuple[_Edit, List[_Piece]]:
        boundary, edit = self._boundary(part)
        pieces: List[_Piece] = [*self._aside(part.body_start, part.preamble_end)]
        for child in part.children:
            if self.leaves_out(child):
                continue
            pieces += [b"--" + boundary + CRLF, *self.entity(child), CRLF]
        pieces.append(b"--" + boundary + b"--")
        if part.epilogue_start is not None:
            pieces += self._aside(part.epilogue_start, part.body_end)
        return edit, pieces

    def _boundary(self, part: Part) -> Tuple[bytes, _Edit]:
        """The part's boundary, or another one if some readers may not understand it."""
        boundary = part.boundary
        encoding = None if part.encoding in _IDENTITY else ""
        begins_another = any(other != boundary and other.startswith(boundary) for other in self._boundaries)
        if _SAFE_BOUNDARY.match(boundary) and not begins_another:
            return boundary, _Edit(None, encoding)
        boundary = b"=_" + hashlib.sha256(boundary + b"%d" % part.header_start).hexdigest()[:40].encode("ascii")
        content = _content(part)
        content.set("boundary", boundary.decode("ascii"))
        return boundary, _Edit(content, encoding)

    def entity(self, part: Part, versioned: bool = False) -> List[_Piece]:
        """A part or a message in the message with its whole header; `versioned`: any change adds MIME-Version."""
        edit, body = self.body(part)
        if edit == _Edit() and _is_sound(part):
            return [self._copy(part.header_start, part.body_start), *body]
        fields = _fields(part, edit, lambda name: True)
        if versioned and edit != _Edit() and not part.header.all("MIME-Version"):
            fields.insert(0, b"MIME-Version: 1.0" + CRLF)
        return [b"".join(fields) + CRLF, *body]

    def _aside(self, start: int, end: int) -> List[_Piece]:
        """Preamble or epilogue, which no reader shows: left out unless it is clean."""
        if start < end and survey_of(self._octets(start, end)).clean:
            return [self._copy(start, end)]
        if start < end:
            logger.info("%d octets outside the parts of a message are left out: they are not 7-bit text", end - start)
        return []

    def _leaf(self, part: Part) -> Tuple[_Edit, List[_Piece]]:
        start, end, text = part.body_start, part.body_end, _is_text(part)
        edit = _Edit()
        if part.content_type.startswith("multipart/"):
            # No boundary was found in it: as text it is at least visible.
            edit = _Edit(_content(part, "text/plain"), None)
        if part.encoding == "quoted-printable":
            return self._recoded(part, edit, text, lambda: parts.decode(self._file, part))
        survey = survey_of(self._octets(start, end))
        if part.encoding == "base64":
            if not survey.clean or (text and part.disposition != "attachment"):
                edit = self._labelled(part, edit, text, lambda: parts.decode(self._file, part))
            if survey.clean:
                return edit, [self._copy(start, end)]
            return edit, [lambda: encodings.to_base64(parts.decode(self._file, part))]
        if part.encoding in uuencode.NAMES:
            return self._uuencoded(part, edit, survey)
        if part.encoding.startswith("x-"):
            if not survey.clean:
                raise Permanent(_BROKEN_UNKNOWN)
            return edit, [self._copy(start, end)]
        if survey.clean and (text or not survey.stray_cr):
            encoding = None if part.encoding == "7bit" else "7bit"
            edit = edit._replace(encoding=encoding)
            if survey.escape or labels.is_wide(part.charset):
                edit = self._labelled(part, edit, text, lambda: self._octets(start, end))
            return edit, [self._copy(start, end)]
        edit = self._labelled(part, edit, text, lambda: self._octets(start, end))
        if text and not labels.is_wide((edit.content or part.content).get("charset")):
            return self._recoded(part, edit, False, lambda: _plain(self._octets(start, end)))
        return self._recoded(part, edit, False, lambda: self._octets(start, end))

    def _uuencoded(self, part: Part, edit: _Edit, survey: Survey) -> Tuple[_Edit, List[_Piece]]:
        """A sound file in base64; what is not exactly that goes on as it is, if it may: nothing of it is lost."""
        try:
            part.uuencoded = uuencode.examined(self._octets(part.body_start, part.body_end))
        except uuencode.Damaged as error:
            if not survey.clean:
                raise Permanent(_BROKEN_UUENCODE.format(error)) from None
            return edit, [self._copy(part.body_start, part.body_end)]
        if part.header.raw("Content-Type") is None:
            edit = edit._replace(content=_content(part, "application/octet-stream"))
        return edit._replace(encoding="base64"), [lambda: encodings.to_base64(parts.decode(self._file, part))]

    def _recoded(
        self, part: Part, edit: _Edit, text: bool, source: Callable[[], Iterator[bytes]]
    ) -> Tuple[_Edit, List[_Piece]]:
        """The content in base64."""
        edit = self._labelled(part, edit, text, source)
        return edit._replace(encoding="base64"), [lambda: encodings.to_base64(source())]

    def _labelled(self, part: Part, edit: _Edit, text: bool, source: Callable[[], Iterator[bytes]]) -> _Edit:
        """A text's charset is what it is really in."""
        label = labels.real(source, part.charset) if text else part.charset
        if label == part.charset:
            return edit
        content = edit.content or _content(part)
        content.set("charset", label)
        return edit._replace(content=content)

    def _octets(self, start: int, end: int) -> Iterator[bytes]:
        return encodings.octets(self._file, start, end)

    def _copy(self, start: int, end: int) -> _Piece:
        return lambda: encodings.canonical(self._octets(start, end))


def _is_text(part: Part) -> bool:
    if part.disposition == "attachment" and part.header.raw("Content-Type") is None:
        return False
    return part.is_text or part.content_type.startswith("multipart/")


def _plain(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Text lines ended by CRLF, without NUL."""
    return (chunk.replace(b"\0", b"") for chunk in encodings.canonical(chunks))


def _content(part: Part, kind: str = "") -> parameters.Value:
    """A copy of the part's Content-Type that may be changed."""
    known = {name: value for name, value in part.content.parameters.items() if not kind or name != "boundary"}
    return parameters.Value(kind or part.content_type, known)


def _named(part: Part, edit: _Edit) -> _Edit:
    """If a file name is, or will be, in RFC 2231 form only, give it as Content-Type's name too:
    otherwise Outlook would show ATT00001 (GF 1.7)."""
    stays = all(_stays(part, field) for field in part.header.all("Content-Disposition"))
    shown = part.placement.has_plain("filename") and (stays or parameters.is_plain(part.filename))
    if shown or not part.filename or part.content.has_plain("name"):
        return edit
    content = edit.content or _content(part)
    if part.header.raw("Content-Type") is None and not _is_text(part):
        content.main = "application/octet-stream"
    content.set("name", part.filename)
    return edit._replace(content=content)


def _is_sound(part: Part) -> bool:
    """Whether the part's header may be copied."""
    names = [field.name.lower() for field in part.header.fields]
    return (
        part.header.sound
        and all(_stays(part, field) for field in part.header.fields)
        and all(names.count(name) == 1 for name in (b"content-type", b"content-transfer-encoding") if name in names)
    )


def _fields(part: Part, edit: _Edit, wanted: Callable[[bytes], bool]) -> List[bytes]:
    """The wanted fields of a part's header, finished; each Content-* field only once."""
    written = {}
    if edit.content:
        written[b"content-type"] = b"Content-Type: " + edit.content.lines() + CRLF
    if edit.encoding is not None:
        line = b"Content-Transfer-Encoding: " + edit.encoding.encode("ascii") + CRLF
        written[b"content-transfer-encoding"] = line if edit.encoding else b""
    result, seen = [], set()
    for field in part.header.fields:
        name = field.name.lower()
        if not wanted(name) or name in seen:
            continue
        if name.startswith(b"content-"):
            seen.add(name)
        result.append(written.pop(name) if name in written else _field(part, field))
    return result + list(written.values())


def _stays(part: Part, field: header.Field) -> bool:
    """Whether the field may be copied: every reader understands it as it was read here."""
    name = field.name.lower()
    if name == b"content-type" and not part.content.strict:
        return False
    if name == b"content-disposition" and not part.placement.strict:
        return False
    if name == b"content-transfer-encoding" and field.unfolded.lower() != part.encoding.encode("ascii", "replace"):
        return False
    return field.is_sound


def _field(part: Part, field: header.Field) -> bytes:
    name = field.name.lower()
    value = field.value
    if not _stays(part, field):
        if name == b"content-type":
            return b"Content-Type: " + _content(part).lines() + CRLF
        if name == b"content-disposition" and part.placement.main:
            return b"Content-Disposition: " + part.placement.lines() + CRLF
        if name == b"content-transfer-encoding":
            value = part.encoding.encode("ascii", "replace")
    return header.emit(field._replace(value=value))
