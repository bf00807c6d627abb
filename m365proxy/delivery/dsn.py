"""The text of a delivery report (RFC 3464).  Who gets it, and when, is the business of `reporter`."""

from __future__ import annotations

import email
import email.base64mime
import email.utils
import re
import secrets
import textwrap
from datetime import datetime, timezone
from typing import BinaryIO, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import Permanent
from ..mime import header, parts
from ..spool.envelope import Envelope
from ..spool.state import State
from ..system import log
from ..system.clock import clock_is_plausible

# Failures that a report describes in full; each further one gets a line.
IN_FULL = 20

# Octets of an original's header block that a report shows.
_HEADER_SHOWN = 16 * 1024

# RET=FULL (RFC 3461 4.3) is obeyed up to this many octets; of larger mail only the header comes back.
_FULL_SHOWN = 256 * 1024

# Recipients of one failure that the text names.
_NAMED = 10

_WIDTH = 76
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 section 4
_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")


class Failure(NamedTuple):
    """One message that was given up.  `envelope` is None if its file cannot be read."""

    id: str
    envelope: Optional[Envelope]
    state: State
    header: Sequence[header.Field] = ()
    full: bytes = b""  # the whole message, if the sender asked for it and it can be shown

    @property
    def recipients(self) -> Tuple[str, ...]:
        """The recipients to report on: all but those with NOTIFY=NEVER."""
        if self.envelope is None:
            return ()
        silent = {address.lower() for address in self.envelope.silent}
        return tuple(address for address in self.envelope.recipients if address.lower() not in silent)

    @property
    def status(self) -> str:
        """RFC 3463."""
        return self.state.status if _CODE.match(self.state.status) else "5.0.0"

    @property
    def reason(self) -> str:
        return self.state.error or "The reason is no longer known; see the log of that day."


def read_original(failure: Failure, file: BinaryIO) -> Failure:
    """The failure with what a report shows of its message, which begins where the file stands."""
    assert failure.envelope is not None
    start = file.tell()
    try:
        fields: Sequence[header.Field] = parts.read_header(file, start).fields
    except Permanent:  # no header that could be shown
        fields = ()
    # A message that Exchange could not read (5.6) would spoil the report as well.
    full_wanted = failure.envelope.ret.upper() == "FULL" and not failure.state.status.startswith("5.6")
    return failure._replace(header=fields, full=_whole_message(file, start) if full_wanted else b"")


def _whole_message(file: BinaryIO, start: int) -> bytes:
    """The message itself if it is small and nothing on the way could change it, else b""."""
    file.seek(start)
    content = file.read(_FULL_SHOWN + 1)
    lines = content.split(b"\r\n")
    plain = content.isascii() and not any(b"\r" in line or b"\n" in line or len(line) > 997 for line in lines)
    return content if plain and b"\0" not in content and len(content) <= _FULL_SHOWN else b""


def build(failures: Sequence[Failure], *, mailbox: str, author: str, to: Sequence[str], host: str, now: float) -> bytes:
    """A report on the failures of one mailbox: a text for people, message/delivery-status, the originals' headers.

    `author` is the address it is sent from, `host` this machine's name.
    Date and Message-ID are added like to any other message.
    """
    count = "1 message" if len(failures) == 1 else f"{len(failures)} messages"
    boundary = b"=_" + secrets.token_hex(16).encode()
    top = _top(author, to, f"Not delivered: {count} from {mailbox}", ("X-Auto-Response-Suppress", "All"))
    kind = b'multipart/report; report-type=delivery-status;\r\n boundary="' + boundary + b'"'
    parts = [_text_part(_text(failures, mailbox, host)), _status_part(failures, host, now), *_originals(failures)]
    return top + _multipart(kind, boundary, parts)


def build_plain(text: str, *, mailbox: str, author: str, to: Sequence[str]) -> bytes:
    """The text of a report on the mail of `mailbox` as an ordinary mail."""
    return _top(author, to, f"Not delivered: mail from {mailbox}") + _text_part(text)


def build_notice(subject: str, text: str, *, author: str, to: str) -> bytes:
    """A notice that is no report on mail; its lines end with LF."""
    lines = [piece for line in text.split("\n") for piece in _wrapped(line)]
    return _top(author, [to], subject, replied=False) + _text_part("\r\n".join(lines))


def text_of(report: BinaryIO) -> str:
    """The text for people in a report of ours; "" if it cannot be found."""
    from email.policy import default  # half a megabyte, for what is seldom asked

    part = email.message_from_binary_file(report, policy=default).get_body(("plain",))
    return part.get_content() if part is not None else ""


def _top(author: str, to: Sequence[str], subject: str, *more: Tuple[str, str], replied: bool = True) -> bytes:
    fields = [
        ("From", f"Mail gateway <{author}>"),
        ("To", ", ".join(to)),
        ("Subject", subject),
        ("Auto-Submitted", "auto-replied" if replied else "auto-generated"),  # RFC 3834 section 5
        *more,
        ("MIME-Version", "1.0"),
    ]
    return b"".join(header.emit(header.Field(name.encode(), value.encode())) for name, value in fields)


def _multipart(kind: bytes, boundary: bytes, parts: Sequence[bytes]) -> bytes:
    inside = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return b"Content-Type: " + kind + b"\r\n\r\n" + inside + b"--" + boundary + b"--\r\n"


# The text for people.


def _text(failures: Sequence[Failure], mailbox: str, host: str) -> str:
    one = len(failures) == 1
    blocks = [
        f"This is m365proxy on {host}. {'A message' if one else f'{len(failures)} messages'} from {mailbox} could "
        f"not be delivered. {'It' if one else 'They'} will not be tried again."
    ]
    blocks += [_paragraph(failure) for failure in failures[:IN_FULL]]
    if failures[IN_FULL:]:
        blocks.append("The others:")
        blocks += [_line(failure) for failure in failures[IN_FULL:]]
    blocks.append(
        f"{'It is' if one else 'They are'} kept in the queue of {host}. Once the cause is removed, the administrator "
        "can send a message again there with `m365proxy queue retry ID`, or remove it with `m365proxy queue drop ID`."
    )
    lines = [line for block in blocks for line in [*block.split("\n"), ""]]
    return "\r\n".join(piece for line in lines for piece in _wrapped(line))


def _wrapped(line: str) -> List[str]:
    indent = "    " if line.startswith("  ") else ""
    # Commands and ids stay in one piece, so that they can be copied.
    return textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def _paragraph(failure: Failure) -> str:
    rows = [("Queue ID", failure.id)]
    if failure.envelope is not None:
        subject = next((field for field in failure.header if field.name.lower() == b"subject"), None)
        if subject is not None:
            rows.append(("Subject", subject.decoded))
        if clock_is_plausible(failure.envelope.accepted):
            rows.append(("Accepted", f"{_moment(failure.envelope.accepted):%Y-%m-%d %H:%M:%S} UTC"))
        rows.append(("Came from", " ".join(filter(None, (failure.envelope.client, failure.envelope.login)))))
        more = len(failure.recipients) - _NAMED
        named = ", ".join(failure.recipients[:_NAMED])
        rows.append(("For", named + (f" and {more} more" if more > 0 else "")))
    rows.append(("Reason", failure.reason))
    if failure.state.code:
        rows.append(("Graph said", failure.state.code))
    if failure.state.request_id:
        rows.append(("request-id", failure.state.request_id))
    return "\n".join(f"  {name}: {log.clean(value, 1500)}" for name, value in rows if value)


def _line(failure: Failure) -> str:
    return f"  {failure.id}: {log.clean(', '.join(failure.recipients[:1]) or '?')}: {log.clean(failure.reason, 300)}"


def _text_part(text: str) -> bytes:
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.encode("ascii") + b"\r\n"
    # base64, because Exchange garbles quoted-printable
    octets = email.base64mime.body_encode(text.encode("utf-8", "replace"), eol="\r\n").encode("ascii")
    return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + octets


# The part for programs (RFC 3464 section 2).


def _status_part(failures: Sequence[Failure], host: str, now: float) -> bytes:
    """One group for the report and one for each recipient.

    RFC 3464 knows a single message only.  In a report on more, what belongs
    to one message is in the groups of its recipients.
    """
    fields = [("Reporting-MTA", f"dns; {host}")]
    if len(failures) == 1:
        fields += _message_fields(failures[0])
    groups = [fields]
    for failure in failures[:IN_FULL]:
        groups += _recipient_groups(failure, now, alone=len(failures) == 1)
    written = b"\r\n".join(
        b"".join(header.fold(name.encode(), _ascii(value).encode()) for name, value in group) for group in groups
    )
    return b"Content-Type: message/delivery-status\r\n\r\n" + written


def _message_fields(failure: Failure) -> List[Tuple[str, str]]:
    fields = []
    if failure.envelope is not None:
        if failure.envelope.envid:
            fields.append(("Original-Envelope-Id", _decoded(failure.envelope.envid)))
        if clock_is_plausible(failure.envelope.accepted):
            fields.append(("Arrival-Date", _date(failure.envelope.accepted)))
    return fields


def _recipient_groups(failure: Failure, now: float, alone: bool) -> List[List[Tuple[str, str]]]:
    envelope = failure.envelope
    pairs = (pair.partition(" ") for pair in (envelope.orcpt if envelope else ()))
    originals = {address.lower(): value for address, _, value in pairs}
    groups = []
    for recipient in failure.recipients or ("unknown",):
        group = []
        kind, _, original = originals.get(recipient.lower(), "").partition(";")
        if original:
            group.append(("Original-Recipient", f"{kind}; {_decoded(original)}"))
        group += [("Final-Recipient", f"rfc822; {recipient}"), ("Action", "failed"), ("Status", failure.status)]
        request = f"request-id {failure.state.request_id}" if failure.state.request_id else ""
        diagnosis = "; ".join(filter(None, (failure.state.code, request, failure.reason)))
        group.append(("Diagnostic-Code", "X-Microsoft-Graph; " + diagnosis[:800]))
        tried = failure.state.last_attempt
        if clock_is_plausible(tried) and tried <= now:
            group.append(("Last-Attempt-Date", _date(tried)))
        group.append(("X-M365Proxy-Queue-Id", failure.id))
        if not alone and envelope is not None and clock_is_plausible(envelope.accepted):
            group.append(("X-M365Proxy-Arrival-Date", _date(envelope.accepted)))
        groups.append(group)
    return groups


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _date(seconds: float) -> str:
    return email.utils.format_datetime(_moment(seconds))


def _decoded(xtext: str) -> str:
    return _XTEXT.sub(lambda match: chr(int(match.group(1), 16)), xtext)


def _ascii(value: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in value) or "?"


# The originals.


def _originals(failures: Sequence[Failure]) -> List[bytes]:
    """The third part: the header block, the whole message, or the header blocks of several."""
    if len(failures) == 1 and failures[0].full:
        return [b"Content-Type: message/rfc822\r\n\r\n" + failures[0].full]
    blocks = [_header_part(failure.header) for failure in failures[:IN_FULL] if failure.header]
    if len(blocks) < 2:
        return blocks
    boundary = b"=_" + secrets.token_hex(16).encode()
    return [_multipart(b'multipart/mixed; boundary="' + boundary + b'"', boundary, blocks)]


def _header_part(fields: Sequence[header.Field]) -> bytes:
    written = b""
    for field in fields:
        line = header.emit(field)
        if len(written) + len(line) > _HEADER_SHOWN:
            break
        written += line
    return b"Content-Type: text/rfc822-headers\r\n\r\n" + written
