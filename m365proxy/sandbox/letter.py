"""Internet messages as the stand-in tenant reads and writes them (RFC 5322, MIME).

Pure functions over bytes.  This is deliberately not the program's own message
module: what that module writes is checked here by independent code.
"""

from __future__ import annotations

import binascii
import email
import email.header
import email.policy
import email.utils
import functools
import os
import re
from email.message import EmailMessage
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

RECIPIENT_FIELDS = ("to", "cc", "bcc")

# Fields that a message may have only once (RFC 5322 3.6).
_ONCE = ("from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id", "in-reply-to", "references")

# In-Reply-To and References in a JSON message, by their MAPI tags.
_THREADING = (("In-Reply-To", "String 0x1042"), ("References", "String 0x1039"))

_PEOPLE = (("to", "toRecipients"), ("cc", "ccRecipients"), ("bcc", "bccRecipients"), ("reply-to", "replyTo"))

# Octets of a line without its CRLF (RFC 5322 2.1.1).
_LONGEST_LINE = 998

_ADDRESS = re.compile(r'(?:"(?:[^"\\\x00-\x1f]|\\[ -~])+"|[^\s@<>(),;:\\"\[\]]+)@(?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+')
_EMPTY_GROUP = re.compile(r"[^:;,<>@]*:\s*;")
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w-]+=[\w.-]+)*")
# The library parses a field again whenever it is looked at, a Content-Type several times for each part.
_READING = email.policy.default.clone(header_factory=functools.lru_cache(256)(email.policy.default.header_factory))
_BOUNDARY = re.compile(rb'(?i)(boundary=)(?:"([^"\r\n]+)"|([^\s;"]+))')


class BadAddress(ValueError):
    """A recipient field that Exchange would refuse (ErrorInvalidRecipients)."""


class Attachment(NamedTuple):
    """A file of a message."""

    id: str
    name: str
    content_type: str
    content: bytes
    inline: bool = False
    content_id: str = ""


def split(raw: bytes) -> Tuple[List[bytes], bytes]:
    """The header fields, each with its line ends and folding, and what follows the blank line."""
    end, blank = _header_end(raw)
    return _fields(raw[:end]), raw[end + blank :]


def _header_end(raw: bytes) -> Tuple[int, int]:
    """Where the header ends, and how many octets the line end and the blank line there have."""
    for blank in (b"\r\n\r\n", b"\n\n"):
        end = raw.find(blank)
        if end >= 0:
            return end, len(blank)
    return len(raw), 0


def _fields(head: bytes) -> List[bytes]:
    fields: List[bytes] = []
    for line in re.split(rb"\r?\n", head):
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line + b"\r\n"
        elif line:
            fields.append(line + b"\r\n")
    return fields


def join(fields: Sequence[bytes], body: bytes) -> bytes:
    """The message that `split` took apart."""
    return b"".join(fields) + b"\r\n" + body


def name_of(field: bytes) -> str:
    """A field's name in lower case."""
    return field.partition(b":")[0].strip().decode("latin-1").lower()


def values(raw: bytes, name: str) -> List[str]:
    """Every value of a field, unfolded and not decoded."""
    fields = _fields(raw[: _header_end(raw)[0]])
    return [_unfolded(field) for field in fields if name_of(field) == name.lower()]


def text(value: str) -> str:
    """A field's value with its encoded words decoded (RFC 2047)."""
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return value


def _unfolded(field: bytes) -> str:
    value = field.partition(b":")[2].decode("utf-8", "replace")
    return re.sub(r"\r?\n(?=[ \t])", "", value).strip()


def without(raw: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """The message without the fields whose lower-case name is unwanted."""
    fields, body = split(raw)
    return join([field for field in fields if not unwanted(name_of(field))], body)


def with_field(raw: bytes, name: str, value: str) -> bytes:
    """The message with exactly one such field (none if `value` is empty), the rest untouched."""
    fields, body = split(without(raw, lambda other: other == name.lower()))
    if value:
        message = EmailMessage(policy=email.policy.SMTP)
        message[name] = value
        fields.append(bytes(message).rpartition(b"\r\n")[0])
    return join(fields, body)


def problem(raw: bytes) -> str:
    """What a strict reader finds wrong with the message's form, or "".

    Exchange repairs or garbles most of these silently; the stand-in refuses
    them so that they are never sent.
    """
    if b"\x00" in raw:
        return "NUL octet"
    if raw.count(b"\n") != raw.count(b"\r\n") or raw.count(b"\r") != raw.count(b"\r\n"):
        return "bare CR or LF"
    if max(map(len, raw.split(b"\r\n"))) > _LONGEST_LINE:
        return "line of more than 998 octets"
    head, blank, _ = raw.partition(b"\r\n\r\n")
    if not blank:
        return "no blank line after the header"
    if not head.isascii():
        return "raw 8-bit octets in the header"
    return _header_problem(split(raw)[0])


def _header_problem(fields: Sequence[bytes]) -> str:
    names = [name_of(field) for field in fields]
    for field, name in zip(fields, names):
        if not re.match(rb"[!-9;-~]+:", field):
            return "header line that is no field"
        if name in _ONCE and names.count(name) > 1:
            return f"more than one {name} field"
    return ""


def addresses(raw: bytes, name: str) -> List[Tuple[str, str]]:
    """(display name, address) of an address field, in order; raises BadAddress if one is not valid."""
    found = []
    for value in values(raw, name):
        value = _EMPTY_GROUP.sub("", value).strip(" \t,")
        if not value:
            continue
        for display, address in email.utils.getaddresses([value]):
            if not _ADDRESS.fullmatch(address):
                raise BadAddress(f"{name}: not an address: {address or value}")
            found.append((text(display), address))
    return found


def is_address(address: str) -> bool:
    return _ADDRESS.fullmatch(address) is not None


def recipients(raw: bytes) -> List[str]:
    """To + Cc + Bcc, lower case, each once: Graph has no envelope (user-sendmail)."""
    found: Dict[str, None] = {}
    for name in RECIPIENT_FIELDS:
        for _, address in addresses(raw, name):
            found[address.lower()] = None
    return list(found)


@functools.lru_cache(1)  # a resource has eight of them
def properties(raw: bytes) -> Mapping[str, Any]:
    """A MIME message's header as the properties of Graph's message resource; as lenient as a mail reader.

    They are not to be changed.
    """
    found: Dict[str, Any] = {"subject": text("".join(values(raw, "subject")[:1]))}
    for name, key in (("from", "from"), ("sender", "sender")):
        people = _people(raw, name)
        if people:
            found[key] = people[0]
    for name, key in _PEOPLE:
        found[key] = _people(raw, name)
    importance = "".join(values(raw, "importance")[:1]).lower()
    found["importance"] = importance if importance in ("low", "high") else "normal"
    return found


def _people(raw: bytes, name: str) -> List[Dict[str, Any]]:
    pairs = email.utils.getaddresses([value for value in values(raw, name) if value])
    return [{"emailAddress": {"name": text(n) or a, "address": a}} for n, a in pairs if a]


@functools.lru_cache(1)  # a resource has it whole and its beginning
def body_of(raw: bytes) -> Tuple[str, str]:
    """("text" or "html", content) of what a mail reader would show."""
    message = email.message_from_bytes(raw, policy=_READING)
    try:
        part = message.get_body(("html", "plain"))
        if part is None:
            return "text", ""
        return ("html" if part.get_content_subtype() == "html" else "text"), part.get_content()
    except (LookupError, ValueError, AttributeError, TypeError):
        return "text", ""  # a body in an unknown charset, or none that can be read


def has_files(raw: bytes) -> bool:
    """Whether a part is an attachment."""
    return re.search(rb"(?im)^content-disposition:\s*attachment", raw) is not None


def regenerated(raw: bytes) -> bytes:
    """The same content with another outermost boundary: $value differs from call to call
    (outlook-get-mime-message).  Signed and unusual messages stay as they are."""
    fields, body = split(raw)
    for index, field in enumerate(fields):
        if name_of(field) != "content-type" or b"multipart/" not in field.lower() or b"signed" in field.lower():
            continue
        match = _BOUNDARY.search(field)
        old = (match.group(2) or match.group(3)) if match else b""
        if not match or len(old) < 6 or body.count(old) != len(re.findall(rb"(?m)^--" + re.escape(old), body)):
            break
        new = _new_boundary()
        fields[index] = field[: match.start()] + b'boundary="' + new + b'"' + field[match.end() :]
        return join(fields, body.replace(b"--" + old, b"--" + new))
    return raw


def _new_boundary() -> bytes:
    # The length varies, so that nobody can rely on two fetches having the same size.
    return b"_%03d_" % (os.urandom(1)[0]) + os.urandom(12 + os.urandom(1)[0] % 8).hex().encode() + b"_"


def build(properties: Dict[str, Any], attachments: Sequence[Attachment], extended: Dict[str, str]) -> bytes:
    """MIME from a message's JSON properties, as Exchange makes it for a message that did not come as MIME.

    It has only one body, only the structures related and mixed, and only those
    header fields that are properties (message resource); In-Reply-To and
    References come from the properties 0x1042 and 0x1039.
    """
    head = EmailMessage(policy=email.policy.SMTP)
    for field, key in (("From", "from"), ("Sender", "sender")):
        if properties.get(key):
            head[field] = formatted([properties[key]])
    for name, key in _PEOPLE:
        if properties.get(key):
            head[name.title()] = formatted(properties[key])
    head["Subject"] = " ".join(str(properties.get("subject") or "").split())
    head["Date"] = properties["date"]
    if properties.get("importance", "normal") != "normal":
        head["Importance"] = properties["importance"]
    # MS-OXCMAIL 2.1.3.1.5 and 2.1.3.1.6
    for field, key in (
        ("Disposition-Notification-To", "isReadReceiptRequested"),
        ("Return-Receipt-To", "isDeliveryReceiptRequested"),
    ):
        if properties.get(key):
            head[field] = formatted([properties["from"]])
    for header in properties.get("internetMessageHeaders") or []:
        head[header["name"]] = header["value"]
    head["MIME-Version"] = "1.0"
    ids = [("Message-ID", properties["internetMessageId"])]
    ids += [(field, extended[tag]) for field, tag in _THREADING if extended.get(tag)]
    # By hand: EmailMessage would turn long ids into encoded words.
    lines = [f"{field}: " + "\r\n ".join(value.split()) + "\r\n" for field, value in ids]
    return bytes(head).rpartition(b"\r\n")[0] + "".join(lines).encode() + _content(properties, attachments)


def formatted(people: Sequence[Dict[str, Any]]) -> str:
    """Recipients of a message resource as an address field's value."""
    pairs = [(p["emailAddress"].get("name") or "", p["emailAddress"]["address"]) for p in people]
    # Without a name, Graph shows the address as one.
    return ", ".join(email.utils.formataddr(("" if name == address else name, address)) for name, address in pairs)


def _content(properties: Dict[str, Any], attachments: Sequence[Attachment]) -> bytes:
    body = properties.get("body") or {}
    subtype = "html" if str(body.get("contentType", "")).lower() == "html" else "plain"
    content = re.sub(r"\r\n?|\n", "\r\n", body.get("content") or "")
    entity = f"Content-Type: text/{subtype}; charset=utf-8\r\n".encode() + _base64(content.encode("utf-8", "replace"))
    inline = [_part(a) for a in attachments if a.inline]
    if inline:
        entity = _multipart(b"related", [entity, *inline])
    files = [_part(a) for a in attachments if not a.inline]
    return _multipart(b"mixed", [entity, *files]) if files else entity


def files(raw: bytes) -> List[Attachment]:
    """The attachments of a MIME message: every leaf that is not one of its texts, in order."""
    message = email.message_from_bytes(raw, policy=_READING)
    found = []
    for number, part in enumerate(_leaves(message)):
        name = part.get_filename() or ""
        named = bool(name) or part.get_content_disposition() == "attachment"
        if part.get_content_maintype() == "text" and not named:
            continue
        whole = part.get_content_maintype() == "message"
        content = bytes(part.get_payload(0)) if whole else part.get_payload(decode=True) or b""
        content_id = str(part.get("Content-ID", "")).strip("<> ")
        inline = bool(content_id) and part.get_content_disposition() != "attachment"
        name = name or f"ATT{number:05d}"
        found.append(Attachment(f"mime{number}", name, part.get_content_type(), content, inline, content_id))
    return found


def _leaves(part: Any) -> Iterator[Any]:
    if not part.is_multipart() or part.get_content_maintype() == "message":
        yield part
        return
    for child in part.iter_parts():
        yield from _leaves(child)


def with_files(raw: bytes, attachments: Sequence[Attachment]) -> bytes:
    """A MIME message with attachments added as its last parts; where it is no multipart/mixed, its content is made
    the first part of one."""
    fields, body = split(raw)
    for field in fields:
        match = _BOUNDARY.search(field) if b"multipart/mixed" in field.lower() else None
        closing = b"\r\n--" + (match.group(2) or match.group(3)) + b"--" if match else b""
        if match and body.count(closing) == 1:
            before, after = body.split(closing)
            parts = [closing[:-2] + b"\r\n" + _part(attachment).rstrip(b"\r\n") for attachment in attachments]
            return join(fields, b"".join([before, *parts, closing, after]))
    head = [field for field in fields if not name_of(field).startswith("content-")]
    first = b"".join(field for field in fields if name_of(field).startswith("content-")) + b"\r\n" + body
    return b"".join(head) + _multipart(b"mixed", [first, *map(_part, attachments)])


def _part(attachment: Attachment) -> bytes:
    head = EmailMessage(policy=email.policy.SMTP)
    kind = attachment.content_type if _TYPE.fullmatch(attachment.content_type) else "application/octet-stream"
    head.add_header("Content-Type", kind, name=attachment.name)
    head.add_header("Content-Disposition", "inline" if attachment.inline else "attachment", filename=attachment.name)
    if attachment.content_id:
        head["Content-ID"] = f"<{attachment.content_id}>"
    return bytes(head).rpartition(b"\r\n")[0] + _base64(attachment.content)


def _base64(content: bytes) -> bytes:
    encoded = binascii.b2a_base64(content, newline=False)
    lines = [encoded[i : i + 76] for i in range(0, len(encoded), 76)]
    return b"Content-Transfer-Encoding: base64\r\n\r\n" + b"\r\n".join(lines) + b"\r\n"


def _multipart(subtype: bytes, parts: Sequence[bytes]) -> bytes:
    boundary = _new_boundary()
    pieces = [b'Content-Type: multipart/%s;\r\n\tboundary="%s"\r\n\r\n' % (subtype, boundary)]
    for part in parts:
        pieces += [b"--", boundary, b"\r\n", part, b"" if part.endswith(b"\r\n") else b"\r\n"]
    pieces += [b"--", boundary, b"--\r\n"]
    return b"".join(pieces)
