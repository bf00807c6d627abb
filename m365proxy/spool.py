"""The queue on disk: every accepted message is one file, and its directory and name are its state.

    tmp/ID                        being written by an SMTP session
    new/ID                        accepted, waiting for its turn
    cur/ID.NODE.ATTEMPT.claimed   a courier prepares it; surely not sent
    cur/ID.NODE.ATTEMPT.posting   a send may have begun; ambiguous after a crash
    cur/ID.NODE.ATTEMPT.held      the outcome is unknown and nothing more will be tried by itself
    failed/ID                     given up
    state/ID.json                 attempts, due time, last error; never moves

Each transition is one rename.  docs/internals.md has the table of who may do
what.  A message file begins with its envelope as X-M365Proxy-* lines, written
once and cut off before sending.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import time
from typing import BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import files, log
from .errors import Permanent, Temporary

logger = log.get("spool")

DIRECTORIES = ("tmp", "new", "cur", "failed", "state")
PHASES = ("claimed", "posting", "held")

_PREFIX = b"X-M365Proxy-"
_END = b"X-M365Proxy-End: 1\r\n"

# Envelope lines of the largest accepted message (1,000 recipients) stay far below this.
_ENVELOPE_LIMIT = 1024 * 1024

# A file in tmp/ of this age (seconds) has no writer any more: session_seconds is shorter.
_STALE_TMP = 24 * 3600


@dataclasses.dataclass(frozen=True)
class Envelope:
    """Who hands in what for whom (RFC 5321 2.3.1), and how it came."""

    mailbox: str
    sender: str = ""  # "" is the null reverse-path
    recipients: Tuple[str, ...] = ()
    client: str = ""
    login: str = ""
    kind: str = "message"  # "report": one of our own delivery reports
    accepted: float = 0.0  # seconds since 1970 by the wall clock
    ret: str = ""  # DSN RET=: FULL or HDRS (RFC 3461 4.3)
    envid: str = ""  # DSN ENVID= (RFC 3461 4.4)
    silent: Tuple[str, ...] = ()  # recipients with NOTIFY=NEVER (RFC 3461 4.1)
    orcpt: Tuple[str, ...] = ()  # "recipient ORCPT-value" pairs (RFC 3461 4.2)


# Envelope field -> header name.  Fields with a tuple write one line per value.
_FIELDS = {
    "mailbox": b"Mailbox",
    "sender": b"Sender",
    "recipients": b"Recipient",
    "client": b"Client",
    "login": b"Login",
    "kind": b"Kind",
    "accepted": b"Accepted",
    "ret": b"Ret",
    "envid": b"Envid",
    "silent": b"Silent",
    "orcpt": b"Orcpt",
}
_NAMES = {name: field for field, name in _FIELDS.items()}
_TUPLES = ("recipients", "silent", "orcpt")


@dataclasses.dataclass
class State:
    """What is known of a message beyond its file: state/ID.json."""

    attempts: int = 0
    due: float = 0.0  # wall clock; 0 is "now"
    first_attempt: float = 0.0  # wall clock when it was in step with Graph's
    last_attempt: float = 0.0
    error: str = ""  # the sentence for the administrator
    code: str = ""  # Graph's error.code
    request_id: str = ""
    message_id: str = ""  # the Message-ID on its way
    draft: Dict[str, str] = dataclasses.field(default_factory=dict)  # id, mailbox of the URL
    looks: int = 0  # how often an ambiguous outcome was looked at
    posted: float = 0.0  # Graph's clock when the last send began
    clock_ok: bool = False  # whether our clock agreed with Graph's at the last attempt


class Entry(NamedTuple):
    """One message of the queue as its file name tells it."""

    id: str
    place: str  # "new", "cur" or "failed"
    phase: str = ""  # of PHASES, in cur only
    node: str = ""
    attempt: int = 0


class DamagedMessage(Permanent):
    """A file of the spool has no readable envelope."""


def mailbox_tag(mailbox: str) -> str:
    """The part of an id that tells the mailbox, so that a listing is enough to sort the queue."""
    return hashlib.sha256(mailbox.lower().encode()).hexdigest()[:8]


def tag_of(id: str) -> str:
    return id.rpartition("-")[2]


class Spool:
    """The queue directory.  Methods may be called from any thread; a claim belongs to one."""

    def __init__(
        self,
        directory: str,
        *,
        node: str = "1",
        min_free: int = 0,
        clock: Callable[[], float] = time.time,
    ):
        """`min_free`: octets below which new mail is refused for the time being."""
        self.directory = directory
        self.node = node
        self._min_free = min_free
        self._clock = clock

    def make(self) -> None:
        """Make the directories and sweep what an earlier run left half written."""
        for name in DIRECTORIES:
            files.make_directory(self._path(name))
        for name in os.listdir(self._path("tmp")):
            path = self._path("tmp", name)
            age = self._clock() - os.stat(path).st_mtime
            # A clock that jumped back makes the age negative: such a file has no writer either.
            if age > _STALE_TMP or age < -_STALE_TMP:
                files.remove(path)
                logger.info("swept unfinished tmp/%s", name)
        for name in os.listdir(self._path("state")):
            if name.endswith(".tmp"):
                files.remove(self._path("state", name))

    def put(self, envelope: Envelope, accepted: Callable[[str], None] = lambda id: None) -> "Incoming":
        """Begin a message; Temporary if the disk has no room.  `accepted(id)` is called once it is durable."""
        self._check_room()
        now = self._clock()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id = f"{stamp}-{secrets.token_hex(6)}-{mailbox_tag(envelope.mailbox)}"
        try:
            file = files.create(self._path("tmp", id))
        except OSError as error:
            raise _disk_trouble(error) from None
        incoming = Incoming(self, id, file, accepted)
        try:
            incoming.begin(dataclasses.replace(envelope, accepted=now))
        except BaseException:
            incoming.abort()
            raise
        return incoming

    def _check_room(self) -> None:
        try:
            if self._min_free and files.free_bytes(self.directory) < self._min_free:
                raise Temporary(
                    f"Less than queue.min_free_mb is free on the disk of {self.directory}; "
                    "new mail is refused until there is room."
                )
            if files.free_inodes(self.directory) == 0:
                raise Temporary(f"The file system of {self.directory} has no inodes left.")
        except OSError as error:
            raise _disk_trouble(error) from None

    def entries(self, *places: str) -> Iterator[Entry]:
        """The messages in the given directories (all by default), unsorted, from listings alone."""
        for place in places or ("new", "cur", "failed"):
            for name in os.listdir(self._path(place)):
                entry = _entry(place, name)
                if entry is not None:
                    yield entry

    def find(self, id: str) -> Optional[Entry]:
        """Where a message is now; None if it is not in the queue (or sent)."""
        for place in ("new", "failed"):
            if os.path.exists(self._path(place, id)):
                return Entry(id, place)
        return next((entry for entry in self.entries("cur") if entry.id == id), None)

    def path(self, entry: Entry) -> str:
        if entry.place != "cur":
            return self._path(entry.place, entry.id)
        return self._path("cur", f"{entry.id}.{entry.node}.{entry.attempt}.{entry.phase}")

    def state(self, id: str) -> Optional[State]:
        """The state file of a message; None if there is none or it cannot be read."""
        content = files.read(self._path("state", id + ".json"))
        if content is None:
            return None
        try:
            known = json.loads(content)
        except ValueError:
            known = None
        if not isinstance(known, dict):
            logger.error("state/%s.json cannot be read; its history is lost, the message is not", id)
            return None
        state = State()
        for name, default in dataclasses.asdict(state).items():
            value = known.get(name, default)
            # JSON writes 5.0 as 5 in other programs' hands
            if type(value) is type(default) or (isinstance(default, float) and type(value) is int):
                setattr(state, name, value)
        return state

    def save_state(self, id: str, state: State) -> None:
        files.replace(self._path("state", id + ".json"), json.dumps(dataclasses.asdict(state)).encode())

    def claim(self, id: str) -> Optional["Claim"]:
        """Take a waiting message for sending; None if somebody else has taken or removed it."""
        state = self.state(id) or State()
        entry = Entry(id, "cur", "claimed", self.node, state.attempts + 1)
        try:
            files.move(self._path("new", id), self.path(entry))
        except FileNotFoundError:
            return None
        return Claim(self, entry, state)

    def resume(self, entry: Entry) -> "Claim":
        """The claim of an earlier run (or a held one), as it was left."""
        return Claim(self, entry, self.state(entry.id) or State())

    def recover(self) -> List[Entry]:
        """At start, under the state directory's lock: put what was only claimed back to new/.

        Returns the entries whose outcome is unknown (posting) or that are held.
        """
        unknown = []
        moved = False
        for entry in list(self.entries("cur")):
            if entry.phase == "claimed":
                files.move(self.path(entry), self._path("new", entry.id))
                moved = True
            else:
                unknown.append(entry)
        if moved:
            files.sync_directory(self._path("new"))
        return unknown

    def requeue(self, entry: Entry) -> None:
        """An administrator wants it tried (again) now: back to new/, due at once."""
        state = self.state(entry.id) or State()
        state.due = 0.0
        self.save_state(entry.id, state)
        files.move(self.path(entry), self._path("new", entry.id))
        files.sync_directory(self._path("new"))

    def drop(self, entry: Entry) -> None:
        """Remove a message for good."""
        files.remove(self.path(entry))
        files.remove(self._path("state", entry.id + ".json"))
        files.sync_directory(self._path(entry.place))

    def open(self, entry: Entry) -> Tuple[Envelope, BinaryIO]:
        """The envelope, and the file positioned at the message itself.

        DamagedMessage if the envelope cannot be read; FileNotFoundError if it moved on.
        """
        file = open(self.path(entry), "rb")
        try:
            return read_envelope(file), file
        except BaseException:
            file.close()
            raise

    def _path(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)


def _entry(place: str, name: str) -> Optional[Entry]:
    if place != "cur":
        return Entry(name, place) if "." not in name else None
    parts = name.split(".")
    if len(parts) != 4 or parts[3] not in PHASES or not parts[2].isdigit():
        return None
    return Entry(parts[0], "cur", parts[3], parts[1], int(parts[2]))


class Incoming:
    """A message on its way from the wire to new/.  Ends with commit() or abort(), in one thread."""

    def __init__(self, spool: Spool, id: str, file: BinaryIO, accepted: Callable[[str], None]):
        self.id = id
        self.size = 0  # octets of the message, without our envelope
        self._spool = spool
        self._file = file
        self._path = spool._path("tmp", id)
        self._start = 0
        self._accepted = accepted

    def begin(self, envelope: Envelope) -> None:
        lines = envelope_lines(envelope)
        self._start = len(lines)
        self._write(lines)

    def write(self, data: bytes) -> None:
        """Add octets; Temporary (and the file is gone) when the disk refuses them."""
        self.size += len(data)
        self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self.abort()
            raise _disk_trouble(error) from None

    def open(self) -> BinaryIO:
        """What has been written so far, from the message's first octet.  The caller closes it."""
        try:
            self._file.flush()
            file = open(self._path, "rb")
        except OSError as error:
            self.abort()
            raise _disk_trouble(error) from None
        file.seek(self._start)
        return file

    def commit(self) -> str:
        """Make it durable and let the courier have it; returns the id.

        When this returns, power may fail.  Temporary: nothing is left behind.
        """
        target = self._spool._path("new", self.id)
        try:
            files.sync_file(self._file)
            self._file.close()
            files.move(self._path, target)
            files.sync_directory(self._spool._path("new"))
        except OSError as error:
            self.abort()
            _discard(target)
            raise _disk_trouble(error) from None
        self._accepted(self.id)
        return self.id

    def abort(self) -> None:
        """Leave nothing.  Safe to call at any time, also after commit()."""
        try:
            self._file.close()
        except OSError:
            pass  # the buffered rest cannot be written; it is being thrown away anyway
        _discard(self._path)


def _discard(path: str) -> None:
    try:
        files.remove(path)
    except OSError as error:
        logger.error("%s cannot be removed: %s. Remove it by hand.", path, error.strerror)


def _disk_trouble(error: OSError) -> Temporary:
    return Temporary(f"The queue cannot be written: {error.strerror or error}. Check the disk of state_dir.")


class Claim:
    """A message in cur/ in the hands of one courier thread.

    Every method that moves the file ends the claim, but for `posting`.
    """

    def __init__(self, spool: Spool, entry: Entry, state: State):
        self.entry = entry
        self.state = state
        self._spool = spool

    @property
    def id(self) -> str:
        return self.entry.id

    def open(self) -> Tuple[Envelope, BinaryIO]:
        return self._spool.open(self.entry)

    def save_state(self) -> None:
        self._spool.save_state(self.id, self.state)

    def posting(self) -> None:
        """The durable step right before a request that may send: from here on a crash is ambiguous."""
        self.save_state()
        self._change_phase("posting")

    def claimed(self) -> None:
        """The request surely did not send: back from posting, so that a crash is no longer ambiguous."""
        self._change_phase("claimed")

    def hold(self) -> None:
        """Nobody can tell whether it was sent: keep it, visibly, until an administrator decides."""
        self.save_state()
        self._change_phase("held")

    def sent(self) -> None:
        """It is Exchange's now: forget it."""
        files.remove(self._spool.path(self.entry))
        # Should power bring the file back, it is "posting" without a state: ambiguous, never sent blindly.
        files.sync_directory(self._spool._path("cur"))
        files.remove(self._spool._path("state", self.id + ".json"))

    def release(self) -> None:
        """Nothing was tried: back to new/ as it was."""
        files.move(self._spool.path(self.entry), self._spool._path("new", self.id))

    def defer(self) -> None:
        """Surely not sent: wait in new/ until state.due."""
        self._leave("new")

    def fail(self) -> None:
        """Give up: keep it in failed/ with the reason in its state."""
        self._leave("failed")

    def _leave(self, place: str) -> None:
        self.save_state()
        files.move(self._spool.path(self.entry), self._spool._path(place, self.id))
        files.sync_directory(self._spool._path(place))

    def _change_phase(self, phase: str) -> None:
        entry = self.entry._replace(phase=phase)
        files.move(self._spool.path(self.entry), self._spool.path(entry))
        self.entry = entry
        files.sync_directory(self._spool._path("cur"))


def envelope_lines(envelope: Envelope) -> bytes:
    """The envelope as the first lines of a spooled file.  ValueError if a value holds a line end."""
    lines = []
    for field, name in _FIELDS.items():
        value = getattr(envelope, field)
        for item in value if field in _TUPLES else (value,):
            if item == "" or item == 0.0:
                continue
            text = f"{item:.3f}" if field == "accepted" else item
            if "\r" in text or "\n" in text or "\0" in text:
                raise ValueError(f"line end in envelope field {field}")
            lines.append(_PREFIX + name + b": " + text.encode("utf-8", "surrogateescape") + b"\r\n")
    return b"".join(lines) + _END


def read_envelope(file: BinaryIO) -> Envelope:
    """Parse the leading lines and leave `file` at the message; DamagedMessage if they are not whole."""
    values: Dict[str, List[str]] = {}
    total = 0
    while True:
        line = file.readline(_ENVELOPE_LIMIT)
        total += len(line)
        if line == _END:
            break
        name, colon, value = line.partition(b": ")
        field = _NAMES.get(name[len(_PREFIX) :]) if name.startswith(_PREFIX) else None
        if not field or not colon or not value.endswith(b"\r\n") or total > _ENVELOPE_LIMIT:
            raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.")
        values.setdefault(field, []).append(value[:-2].decode("utf-8", "surrogateescape"))
    if not values.get("mailbox") or not values.get("recipients"):
        raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.")
    return Envelope(**{field: _field_value(field, items) for field, items in values.items()})


def _field_value(field: str, items: List[str]):
    if field in _TUPLES:
        return tuple(items)
    if field == "accepted":
        try:
            return float(items[0])
        except ValueError:
            raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.") from None
    return items[0]
