"""Delivery reports (RFC 3464): whoever sent what failed for good is told, once.

What nobody was told of yet is failed/ID on the disk; told it is failed/ID.told.
So nothing is remembered in memory, and nothing is forgotten by a restart.
"""

from __future__ import annotations

import email
import email.base64mime
import email.policy
import email.utils
import re
import secrets
import textwrap
import threading
import time
from datetime import datetime, timezone
from typing import BinaryIO, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import Permanent, ProxyError
from ..mime import header, words
from ..spool.envelope import DamagedMessage, Envelope
from ..spool.spool import Entry, Spool, State, mailbox_tag, tag_of
from ..system import log
from ..system.clock import clock_is_plausible

logger = log.get("report")

# Octets of an original's header block that a report shows.
_HEADER_SHOWN = 16 * 1024

# RET=FULL (RFC 3461 4.3) is obeyed up to so many octets; larger mail comes back as its header.
_FULL_SHOWN = 256 * 1024

# Failures a report tells in full; further ones get a line each, up to _LISTED, and more wait for the next report.
_IN_FULL, _LISTED = 20, 500

# Recipients of one failure that the text names.
_NAMED = 10

# Seconds to gather a burst of failures before the first report.
_GATHER = 5.0

_WIDTH = 76
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 section 4
_CODE = re.compile(r"[245]\.\d{1,3}\.\d{1,3}\Z")


class Failure(NamedTuple):
    """One message that was given up.  `envelope` is None if its file cannot be read."""

    id: str
    envelope: Optional[Envelope]
    state: State
    header: Sequence[header.Field] = ()
    full: bytes = b""  # the whole message, where it was asked for and may be shown

    @property
    def recipients(self) -> Tuple[str, ...]:
        """Whom it did not reach, without those of whom nobody wants to hear (NOTIFY=NEVER)."""
        if self.envelope is None:
            return ()
        silent = {address.lower() for address in self.envelope.silent}
        return tuple(address for address in self.envelope.recipients if address.lower() not in silent)

    @property
    def status(self) -> str:
        """RFC 3463."""
        return self.state.status if _CODE.match(self.state.status) else "5.0.0"


def build(failures: Sequence[Failure], *, mailbox: str, author: str, to: Sequence[str], host: str, now: float) -> bytes:
    """A report on the failures of one mailbox: a text for people, message/delivery-status, the originals' headers.

    `author` is the address it is sent from, `host` this machine's name.
    Date and Message-ID are added like to any other message.
    """
    count = "1 message" if len(failures) == 1 else f"{len(failures)} messages"
    boundary = b"=_" + secrets.token_hex(16).encode()
    top = b"".join(
        header.emit(name.encode(), value.encode())
        for name, value in (
            ("From", f"Mail gateway <{author}>"),
            ("To", ", ".join(to)),
            ("Subject", f"Not delivered: {count} from {mailbox}"),
            ("Auto-Submitted", "auto-replied"),  # RFC 3834 section 5
            ("X-Auto-Response-Suppress", "All"),  # the same for Exchange
            ("MIME-Version", "1.0"),
        )
    )
    kind = b'multipart/report; report-type=delivery-status;\r\n boundary="' + boundary + b'"'
    parts = [_text_part(_text(failures, mailbox, host)), _status_part(failures, host, now), *_originals(failures)]
    return top + _multipart(kind, boundary, parts)


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
    blocks += [_paragraph(failure) for failure in failures[:_IN_FULL]]
    if failures[_IN_FULL:]:
        blocks.append("The others:")
        blocks += [_line(failure) for failure in failures[_IN_FULL:]]
    blocks.append(
        f"Nothing is thrown away: {'it is' if one else 'they are'} kept in the queue of {host}. When the cause is "
        "removed, the administrator sends a message again there with `m365proxy queue retry ID`, or removes it with "
        "`m365proxy queue drop ID`."
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
            rows.append(("Subject", words.clean(words.decode(words.text(subject.unfolded)))))
        if clock_is_plausible(failure.envelope.accepted):
            rows.append(("Accepted", f"{_moment(failure.envelope.accepted):%Y-%m-%d %H:%M:%S} UTC"))
        rows.append(("Came from", " ".join(filter(None, (failure.envelope.client, failure.envelope.login)))))
        more = len(failure.recipients) - _NAMED
        named = ", ".join(failure.recipients[:_NAMED])
        rows.append(("For", named + (f" and {more} more" if more > 0 else "")))
    rows.append(("Reason", _reason(failure)))
    if failure.state.code:
        rows.append(("Graph said", failure.state.code))
    if failure.state.request_id:
        rows.append(("request-id", failure.state.request_id))
    return "\n".join(f"  {name}: {log.clean(value, 1500)}" for name, value in rows if value)


def _line(failure: Failure) -> str:
    return f"  {failure.id}: {log.clean(', '.join(failure.recipients[:1]) or '?')}: {log.clean(_reason(failure), 300)}"


def _reason(failure: Failure) -> str:
    return failure.state.error or "The reason is not known any more; the log of that day has it."


def _text_part(text: str) -> bytes:
    if text.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text.encode("ascii") + b"\r\n"
    # base64, because Exchange garbles quoted-printable
    octets = email.base64mime.body_encode(text.encode("utf-8", "replace"), eol="\r\n").encode("ascii")
    return b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + octets


# The part for programs (RFC 3464 section 2).


def _status_part(failures: Sequence[Failure], host: str, now: float) -> bytes:
    """One group for the report and one for each recipient.

    RFC 3464 knows a single message; where there are more, what belongs to one
    stands in its recipients' groups.
    """
    fields = [("Reporting-MTA", f"dns; {host}")]
    if len(failures) == 1:
        fields += _message_fields(failures[0])
    groups = [fields]
    for failure in failures[:_IN_FULL]:
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
        told = [
            failure.state.code,
            failure.state.request_id and f"request-id {failure.state.request_id}",
            _reason(failure),
        ]
        group.append(("Diagnostic-Code", "X-Microsoft-Graph; " + "; ".join(filter(None, told))[:800]))
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


# What came back.


def _originals(failures: Sequence[Failure]) -> List[bytes]:
    """The third part: the header block, the whole message, or the header blocks of several."""
    if len(failures) == 1 and failures[0].full:
        return [b"Content-Type: message/rfc822\r\n\r\n" + failures[0].full]
    blocks = [_header_part(failure.header) for failure in failures[:_IN_FULL] if failure.header]
    if len(blocks) < 2:
        return blocks
    boundary = b"=_" + secrets.token_hex(16).encode()
    return [_multipart(b'multipart/mixed; boundary="' + boundary + b'"', boundary, blocks)]


def _header_part(fields: Sequence[header.Field]) -> bytes:
    written = b""
    for field in fields:
        line = header.emit(field.name, field.value)
        if len(written) + len(line) > _HEADER_SHOWN:
            break
        written += line
    return b"Content-Type: text/rfc822-headers\r\n\r\n" + written


def _readable(file: BinaryIO, start: int) -> Sequence[header.Field]:
    try:
        return header.read(file, start).fields
    except Permanent:
        return ()


def _full(file: BinaryIO, start: int) -> bytes:
    """The message itself if it is small and nothing on the way could change it, else b""."""
    file.seek(start)
    content = file.read(_FULL_SHOWN + 1)
    lines = content.split(b"\r\n")
    plain = content.isascii() and not any(b"\r" in line or b"\n" in line or len(line) > 997 for line in lines)
    return content if plain and b"\0" not in content and len(content) <= _FULL_SHOWN else b""


class Reporter:
    """Writes the reports and hands them to the spool like mail.  Any thread may use it; the lock is for memory only.

    Between the report's commit and the note that it was told of a message
    stands a moment in which a crash makes a second report; none is ever lost.
    """

    def __init__(
        self,
        spool: Spool,
        accepted: Callable[[str], None],
        mailboxes: Sequence[str],
        *,
        notify: Optional[str] = None,
        last_delivery: Callable[[str], float] = lambda mailbox: 0.0,
        host: str = "localhost",
        interval: float = 900.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`accepted(id)` is told of each report; `mailboxes` may stand in for each other;
        `notify` is told where a mailbox cannot be; `last_delivery(mailbox)` (seconds since 1970) tells which works;
        `interval`: least seconds between two reports of a mailbox."""
        self._spool = spool
        self._accepted = accepted
        self._last_delivery = last_delivery
        self._host = host
        self._interval = interval
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._last: Dict[str, float] = {}  # tag -> monotonic time of its last report
        self._given_up: Dict[str, bool] = {}  # tags whose trouble is in the log already
        self._timer: Optional[threading.Timer] = None
        self._ringing_at = 0.0
        self._stopped = False
        self._working = False
        self._configure(mailboxes, notify)

    def configure(self, mailboxes: Sequence[str], notify: Optional[str]) -> None:
        """The config was read anew: there may now be somebody to be told."""
        self._configure(mailboxes, notify)
        self._given_up.clear()
        self._ring_in(_GATHER)

    def _configure(self, mailboxes: Sequence[str], notify: Optional[str]) -> None:
        self._mailboxes = {mailbox_tag(name): name for name in mailboxes}
        self._notify = notify

    def start(self) -> None:
        """Take up what an earlier run told nobody of; in the background, from one listing."""
        self._ring_in(_GATHER)

    def failed(self) -> None:
        """A message went to failed/, its reason is in its state.  Returns at once."""
        self._ring_in(_GATHER)

    def stop(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def _ring_in(self, seconds: float) -> None:
        with self._lock:
            due = self._monotonic() + seconds
            if self._stopped or (self._timer is not None and self._ringing_at <= due):
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(seconds, self._ring)
            self._timer.daemon = True
            self._timer.name = "report-timer"
            self._ringing_at = due
            try:
                self._timer.start()
            except RuntimeError:  # no more threads: the next failure tries again
                self._timer = None

    def _ring(self) -> None:
        with self._lock:
            self._timer = None
            if self._stopped:
                return
            busy, self._working = self._working, True
        wait = _GATHER if busy else self._safely()
        if wait:
            self._ring_in(wait)

    def _safely(self) -> float:
        try:
            return self.work()
        except OSError as error:
            logger.error("reports wait: the queue cannot be read: %s", error.strerror or error)
            return self._interval
        finally:
            with self._lock:
                self._working = False

    def work(self) -> float:
        """Report what may be reported now; the seconds until there may be more to do, 0 if nothing waits."""
        waiting: Dict[str, List[Entry]] = {}
        for entry in self._spool.entries("failed"):
            if not entry.phase:
                waiting.setdefault(tag_of(entry.id), []).append(entry)
        waits = [self._turn(tag, sorted(entries)) for tag, entries in waiting.items()]
        return min((wait for wait in waits if wait), default=0.0)

    def _turn(self, tag: str, entries: List[Entry]) -> float:
        """See to one mailbox's failures; the seconds until it may have another report, 0 if it needs none."""
        since = self._monotonic() - self._last.get(tag, -self._interval)
        if since < self._interval:
            return self._interval - since
        self._last[tag] = self._monotonic()
        try:
            self._tell(tag, entries[:_LISTED])
        except (ProxyError, OSError) as error:
            logger.error("a report on mail of %s waits: %s", self._mailboxes.get(tag, "an unknown mailbox"), error)
            return self._interval
        return self._interval if len(entries) > _LISTED else 0.0

    def _tell(self, tag: str, entries: List[Entry]) -> None:
        """Report on these, and note that it was done."""
        failures: List[Failure] = []
        reports: List[Failure] = []
        silent: List[Entry] = []
        by_id = {entry.id: entry for entry in entries}
        for entry in entries:
            failure = self._read(entry, in_full=len(failures) < _IN_FULL)
            if failure is None:
                continue
            if failure.envelope is not None and failure.envelope.kind == "report":
                reports.append(failure)
            elif failure.envelope is None or failure.recipients:
                failures.append(failure)
            else:
                silent.append(entry)
        done = bool(failures) and self._send(tag, failures)
        self._spool.told(silent + [by_id[failure.id] for failure in failures if done])
        for failure in reports:
            self._report_failed(failure, by_id[failure.id])
            self._spool.told([by_id[failure.id]])

    def _read(self, entry: Entry, in_full: bool) -> Optional[Failure]:
        """What is known of a failed message; None if it has just moved on."""
        state = self._spool.state(entry.id) or State()
        try:
            envelope, file = self._spool.open(entry)
        except FileNotFoundError:
            return None
        except (DamagedMessage, OSError) as error:
            state.error = state.error or str(error)
            return Failure(entry.id, None, state)
        with file:
            if not in_full:
                return Failure(entry.id, envelope, state)
            start = file.tell()
            fields = _readable(file, start)
            # What Exchange could not read (5.6) would spoil the report as well.
            wanted = envelope.ret.upper() == "FULL" and not state.status.startswith("5.6")
            return Failure(entry.id, envelope, state, fields, _full(file, start) if wanted else b"")

    def _send(self, tag: str, failures: List[Failure]) -> bool:
        """Spool the report on one mailbox's failures; False if there is nobody to tell."""
        mailbox = self._mailboxes.get(tag, "")
        named = mailbox or next((f.envelope.mailbox for f in failures if f.envelope), "unknown")
        # What timed out did so because the mailbox does not work: another one is the better messenger.
        broken = all(failure.status.startswith("4.") for failure in failures)
        via = (self._other(mailbox) if broken else mailbox) or mailbox or self._other(mailbox)
        to = [address for address in (mailbox, self._notify if broken or not mailbox else None) if address]
        if not via or not to:
            if not self._given_up.setdefault(tag, False):
                self._given_up[tag] = True
                logger.error(
                    "nobody can be told of %d failed messages of %s: the mailbox is not in the config. "
                    "Set notify, or see `m365proxy queue list`.",
                    len(failures),
                    log.clean(named),
                )
            return False
        content = build(failures, mailbox=named, author=via, to=to, host=self._host, now=self._clock())
        id = self._put(via, to, content)
        logger.info("%s: report on %d failed messages of %s, to %s", id, len(failures), log.clean(named), ", ".join(to))
        return True

    def _other(self, mailbox: str) -> str:
        """The mailbox that worked last, of those that may stand in for this one; "" if there is none."""
        others = [name for name in self._mailboxes.values() if name != mailbox]
        return max(others, key=self._last_delivery, default="")

    def _put(self, via: str, to: Sequence[str], content: bytes, repeats: str = "") -> str:
        """`repeats`: the failed report it stands for; a second one of these is not written."""
        envelope = Envelope(via, recipients=tuple(to), kind="report", envid=repeats)
        incoming = self._spool.put(envelope, self._accepted)
        incoming.write(content)
        return incoming.commit()

    def _report_failed(self, failure: Failure, entry: Entry) -> None:
        """A report could not be delivered: once more, as plain text, by another mailbox."""
        envelope = failure.envelope
        assert envelope is not None
        via = self._other(envelope.mailbox) or next(iter(self._mailboxes.values()), "")
        text = "" if envelope.envid or not via else self._text_of(entry)
        if not text:
            logger.error(
                "report %s could not be delivered: %s See `m365proxy queue list` for what failed.",
                failure.id,
                _reason(failure),
            )
            return
        to = [self._notify] if self._notify else list(envelope.recipients)
        top = b"".join(
            header.emit(name, value.encode())
            for name, value in (
                (b"From", f"Mail gateway <{via}>"),
                (b"To", ", ".join(to)),
                (b"Subject", f"Not delivered: mail from {envelope.mailbox}"),
                (b"Auto-Submitted", "auto-replied"),
                (b"MIME-Version", "1.0"),
            )
        )
        id = self._put(via, to, top + _text_part(text), repeats=failure.id)
        logger.warning(
            "report %s could not be delivered: %s It is sent again as %s by %s to %s.",
            failure.id,
            _reason(failure),
            id,
            via,
            ", ".join(to),
        )

    def _text_of(self, entry: Entry) -> str:
        """The text of a report of ours."""
        _, file = self._spool.open(entry)
        with file:
            report = email.message_from_binary_file(file, policy=email.policy.default)
        part = report.get_body(("plain",))
        return part.get_content() if part is not None else ""
