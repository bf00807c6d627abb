"""The queue on disk: every accepted message is one file, and its directory and name are its state.

    tmp/ID                        being written by an SMTP session; a small message is in memory until its end
    new/ID                        accepted, waiting for its turn
    cur/ID.NODE.ATTEMPT.claimed   a courier prepares it; surely not sent
    cur/ID.NODE.ATTEMPT.posting   a send may have begun; after a crash it has to be looked for
    cur/ID.NODE.ATTEMPT.held      nobody knows whether it was sent; nothing is tried until an administrator decides
    failed/ID                     given up
    failed/ID.told                given up, and reported
    state/ID.json                 attempts, due time, last error, draft; never moves

Each transition is one rename.  docs/internals.md has the table of who may do
what.  A message file begins with its envelope as X-M365Proxy-* lines, written
once and cut off before sending.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import threading
import time
from typing import BinaryIO, Callable, Iterable, Iterator, List, Optional, Tuple

from ..errors import Temporary
from ..system import files, log
from .envelope import Envelope, envelope_lines, read_envelope
from .incoming import Incoming, disk_trouble
from .room import Room
from .state import Entry, Phase, Place, State

logger = log.get("spool")

DIRECTORIES = ("tmp", "new", "cur", "failed", "state")

# A file in tmp/ of this age (seconds) has no writer any more: session_seconds is shorter.
_STALE_TMP = 24 * 3600

# Commands change the queue beside us: the number of waiting messages is counted anew after so many seconds.
_RECOUNT = 60.0


def _remove_unfinished(path: str) -> None:
    """Remove a file that got no 250.  One that cannot be removed stops nothing."""
    try:
        files.remove(path)
    except OSError as error:
        logger.warning("%s, which was never finished, cannot be removed: %s", path, error.strerror or error)


@functools.lru_cache(maxsize=1024)  # those of the config, again and again
def mailbox_tag(mailbox: str) -> str:
    """The part of an id that stands for the mailbox, so that a listing is enough to sort the queue."""
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
        max_waiting: int = 0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """New mail is refused for the time being while less than `min_free` octets of disk are free, or while
        `max_waiting` messages wait (0: any number)."""
        self.directory = directory
        self.node = node
        self._room = Room(directory, min_free, monotonic)
        self._new: Optional[files.OpenDirectory] = None
        self._max_waiting = max_waiting
        self._clock = clock
        self._monotonic = monotonic
        self._gone_lock = threading.Lock()
        # Messages that were removed from cur/ since it was last synced: their ids, and what to call afterwards.
        self._gone: List[Tuple[str, Callable[[], None]]] = []
        self._count_lock = threading.Lock()
        self._waiting = 0
        self._counted = -_RECOUNT

    def make(self) -> None:
        """Make the directories, and remove what an earlier run left unfinished: with the lock held, nobody writes."""
        for name in DIRECTORIES:
            files.make_directory(self._path(name))
        files.make_private(self.directory)  # which closes what is below it
        self._new = files.OpenDirectory(self._path("new"))
        states = [f"state/{name}" for name in os.listdir(self._path("state")) if name.endswith(".tmp")]
        for name in states + [f"tmp/{name}" for name in os.listdir(self._path("tmp"))]:
            _remove_unfinished(self._path(name))

    def close(self) -> None:
        """Nothing more is expected to come in; what does is taken all the same."""
        self._new = None

    def sweep(self) -> None:
        """Remove files in tmp/ that have no writer any more, while the program runs."""
        for name in os.listdir(self._path("tmp")):
            path = self._path("tmp", name)
            try:
                age = self._clock() - os.stat(path).st_mtime
            except FileNotFoundError:
                continue  # its session has just ended
            # A clock that jumped back makes the age negative: such a file has no writer either.
            if age > _STALE_TMP or age < -_STALE_TMP:
                _remove_unfinished(path)

    def put(self, envelope: Envelope, accepted: Callable[[str], None] = lambda id: None) -> Incoming:
        """Begin a message; Temporary if the disk has no room.  `accepted(id)` is called as soon as it is durable."""
        self.check_room(is_ours=envelope.kind != "message")
        now = self._clock()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        id = f"{stamp}-{secrets.token_hex(6)}-{mailbox_tag(envelope.mailbox)}"
        lines = envelope_lines(envelope._replace(accepted=now))
        return Incoming(id, self.directory, lines, self._room, self._sync_new, functools.partial(self._note, accepted))

    def _sync_new(self) -> None:
        files.sync_directory(self._path("new"), self._new)

    def _note(self, accepted: Callable[[str], None], id: str) -> None:
        """A message is durable in new/."""
        self._count(1)
        try:
            accepted(id)
        except Exception:  # it is durable: were this an error to the client, it would send it twice
            logger.exception("%s is in the queue, but the courier could not be informed", id)

    def check_room(self, is_ours: bool = False) -> None:
        """Temporary if no message would be accepted now, with the reason.  `is_ours`: a report or a warning."""
        try:
            # What we send ourselves is little, and must not be the first to be refused.
            if self._max_waiting and not is_ours and self.waiting() >= self._max_waiting:
                raise Temporary(
                    f"{self._max_waiting} messages wait already (queue.max_waiting); new mail is refused until "
                    "some are sent. `m365proxy status` shows why they wait."
                )
            self._room.check()
        except OSError as error:
            raise disk_trouble(error) from None

    def waiting(self) -> int:
        """Messages neither sent nor given up nor held; at most a minute out of date."""
        with self._count_lock:
            now = self._monotonic()
            if now - self._counted < _RECOUNT:
                return self._waiting
            self._counted = now
        found = sum(1 for entry in self.entries(Place.NEW, Place.CUR) if entry.is_waiting)
        with self._count_lock:
            self._waiting = found
        return found

    def note_accepted(self) -> None:
        """Another process has put a message into new/."""
        self._count(1)

    def set_waiting(self, number: int) -> None:
        """How many messages wait, from somebody who knows."""
        with self._count_lock:
            self._waiting, self._counted = number, self._monotonic()

    def _count(self, change: int) -> None:
        with self._count_lock:
            self._waiting += change

    def entries(self, *places: Place) -> Iterator[Entry]:
        """The messages in the given directories (all by default), unsorted, from listings alone."""
        for place in places or tuple(Place):
            for name in files.names(self._path(place.value)):
                entry = Entry.from_file_name(place, name)
                if entry is not None:
                    yield entry

    def find(self, id: str) -> Optional[Entry]:
        """Where a message is now; None if it is not in the queue (or sent)."""
        # It may move from cur/ while that is listed.
        return self._at_rest(id) or next((e for e in self.entries(Place.CUR) if e.id == id), None) or self._at_rest(id)

    def _at_rest(self, id: str) -> Optional[Entry]:
        places = (Entry(id, Place.NEW), Entry(id, Place.FAILED), Entry(id, Place.FAILED, Phase.REPORTED))
        return next((entry for entry in places if os.path.exists(self.path(entry))), None)

    def path(self, entry: Entry) -> str:
        return self._path(entry.place.value, entry.file_name)

    def state(self, id: str) -> Optional[State]:
        """The state file of a message; None if there is none or it cannot be read."""
        try:
            content = files.read(self._path("state", id + ".json"))
            return None if content is None else State.from_json(content)
        except (ValueError, files.NoFile):
            logger.error("state/%s.json cannot be read; its history is lost, the message is not", id)
            return None

    def save_state(self, id: str, state: State, durable: bool = True) -> None:
        files.replace(self._path("state", id + ".json"), state.to_json(), durable=durable)

    def claim(self, id: str) -> Optional["Claim"]:
        """Take a waiting message for sending; None if somebody else has taken or removed it."""
        known = self.state(id)
        state = known or State()
        state.sending = False  # it waits: surely not
        entry = Entry(id, Place.CUR, Phase.CLAIMED, self.node, state.attempts + 1)
        try:
            files.move(self._path("new", id), self.path(entry))
        except FileNotFoundError:
            return None
        return Claim(self, entry, state, is_first=known is None)

    def resume(self, entry: Entry) -> "Claim":
        """The claim of an earlier run (or a held one), as it was left."""
        return Claim(self, entry, self.state(entry.id) or State())

    def recover(self) -> List[Entry]:
        """At start, under the state directory's lock: put what was only claimed back to new/.

        Returns the other entries of cur/: posting, held, and claimed ones that the disk would not let us move.
        """
        unknown = []
        moved = False
        for entry in list(self.entries(Place.CUR)):
            if entry.phase is not Phase.CLAIMED:
                unknown.append(entry)
                continue
            try:
                posting = self._recover(entry)
            except OSError as error:
                logger.error("%s stays claimed for now: %s. Check the disk of state_dir.", entry.id, error)
                posting = entry
            if posting is not None:
                unknown.append(posting)
            moved = moved or posting is None
        if moved:
            files.sync_directory(self._path("new"))
        return unknown

    def _recover(self, entry: Entry) -> Optional[Entry]:
        """Put a claimed message back to new/; or its entry, if it is not certain that it was not sent."""
        state = self.state(entry.id)
        if state is not None and state.sending:
            posting = entry._replace(phase=Phase.POSTING)
            files.move(self.path(entry), self.path(posting))
            return posting
        if state is None:
            self.save_state(entry.id, State(interrupted=True))
        files.move(self.path(entry), self._path("new", entry.id))
        return None

    def tidy(self) -> None:
        """Make on disk what happened in cur/.  What was kept of messages that are gone from there for good goes, too.

        OSError if that cannot be known: then it stays, for the daily sweep.
        """
        with self._gone_lock:
            gone, self._gone = self._gone, []
        files.sync_directory(self._path("cur"))
        for id, then in gone:
            try:
                files.remove(self._path("state", id + ".json"))
            except OSError as error:  # of a message that is sent: no trouble of the one whose claim this is for
                logger.warning("state/%s.json cannot be removed: %s; it is swept later", id, error.strerror or error)
            then()

    @property
    def is_tidy(self) -> bool:
        """Whether `tidy` has nothing to do."""
        return not self._gone

    def _note_gone(self, id: str, then: Callable[[], None]) -> None:
        with self._gone_lock:
            self._gone.append((id, then))

    def requeue(self, entry: Entry) -> None:
        """An administrator wants it tried (again) now: to new/, due at once and with all its tries.

        FileNotFoundError if it has just moved on.  The state is changed only
        while the file is ours, so that no courier reads an older one.
        """
        claim = Claim(self, Entry(entry.id, Place.CUR, Phase.CLAIMED, self.node, entry.attempt), State())
        files.move(self.path(entry), self.path(claim.entry))
        claim.state = self.state(entry.id) or State()
        claim.state.due = 0.0
        if entry.place is Place.FAILED:
            claim.state.attempts = 0
        elif entry.place is Place.CUR:
            # It may have been sent, and is to be sent all the same: it is not looked for any more.
            claim.state.draft, claim.state.posted, claim.state.looks = None, 0.0, 0
            claim.state.unanswered = claim.state.asked = 0
            claim.state.sending = False
        try:
            claim.save_state()
        except OSError:
            files.move(self.path(claim.entry), self.path(entry))
            raise
        files.move(self.path(claim.entry), self._path("new", entry.id))
        files.sync_directory(self._path("new"))
        if not entry.is_waiting:
            self._count(1)

    def drop(self, entry: Entry) -> None:
        """Remove a message for good; FileNotFoundError if it has just moved on."""
        # By way of tmp/: the rename fails if somebody else was first, and nothing comes back from there.
        gone = self._path("tmp", entry.id)
        files.move(self.path(entry), gone)
        files.sync_directory(self._path(entry.place.value))
        files.remove(gone)
        files.remove(self._path("state", entry.id + ".json"))
        if entry.is_waiting:
            self._count(-1)

    def mark_reported(self, entries: Iterable[Entry]) -> None:
        """Note of failed messages that they need no report any more."""
        for entry in entries:
            try:
                files.move(self.path(entry), self.path(entry._replace(phase=Phase.REPORTED)))
            except FileNotFoundError:
                continue  # an administrator has taken it meanwhile
        files.sync_directory(self._path("failed"))

    def open(self, entry: Entry) -> Tuple[Envelope, BinaryIO]:
        """The envelope, and the file positioned at the message itself.

        DamagedMessage if the envelope cannot be read; FileNotFoundError if it moved on.
        """
        file = files.open_shared(self.path(entry))
        try:
            return read_envelope(file), file
        except BaseException:
            file.close()
            raise

    def _path(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)


class Claim:
    """A message in cur/ in the hands of one courier thread.

    Every method that moves the file ends the claim, except `mark_posting` and `unpost`.
    """

    def __init__(self, spool: Spool, entry: Entry, state: State, is_first: bool = False):
        """`is_first`: there is no state file yet."""
        self.entry = entry
        self.state = state
        self._spool = spool
        self._is_first = is_first
        self._is_durable = entry.phase is not Phase.CLAIMED  # or a power cut may bring it back to new/

    @property
    def id(self) -> str:
        return self.entry.id

    def open(self) -> Tuple[Envelope, BinaryIO]:
        return self._spool.open(self.entry)

    def save_state(self) -> None:
        self._spool.save_state(self.id, self.state)
        self._is_first = False

    def note_intention(self) -> None:
        """What is about to be asked of Exchange is on disk.

        Of a first try, the durable claim says enough after a power cut (see Spool.recover): one sync instead of two.
        """
        if not self._is_first:
            self.save_state()
            return
        self._spool.save_state(self.id, self.state, durable=False)
        self._spool.tidy()
        self._is_durable = True

    def mark_posting(self) -> None:
        """The durable step right before a request that may send: from here on a crash is ambiguous."""
        self.state.sending = True
        self.save_state()
        self._change_phase(Phase.POSTING)  # not synced for its own sake: the state says it
        if not self._is_durable:
            self._spool.tidy()
            self._is_durable = True

    def unpost(self) -> None:
        """The request surely did not send: back from posting, so that a kill is no longer ambiguous.

        Not synced: after a power cut it is looked for, unless the state was saved again since.
        """
        self.state.sending = False
        self._spool.save_state(self.id, self.state, durable=False)
        self._change_phase(Phase.CLAIMED)

    def hold(self) -> None:
        """Nobody can tell whether it was sent: keep it, visibly, until an administrator decides."""
        self.save_state()
        self._change_phase(Phase.HELD)
        files.sync_directory(self._spool._path("cur"))
        self._spool._count(-1)

    def remove_sent(self, then: Callable[[], None] = lambda: None) -> None:
        """Exchange has it: forget it.  `then` is called when it is gone for good, see Spool.tidy.

        If a power cut brings the file back, it is looked for by what its state says of its draft, and found to be
        sent.  Without a draft there is nothing to look for, so that it must not come back.
        """
        files.remove(self._spool.path(self.entry))
        self._spool._count(-1)
        self._spool._note_gone(self.id, then)
        if self.state.draft is None:
            self._spool.tidy()

    def release(self) -> None:
        """Nothing was tried: back to new/ as it was."""
        files.move(self._spool.path(self.entry), self._spool._path("new", self.id))

    def defer(self) -> None:
        """Surely not sent: wait in new/ until state.due."""
        self._leave(Place.NEW)

    def fail(self) -> None:
        """Give up: keep it in failed/ with the reason in its state."""
        self._leave(Place.FAILED)
        self._spool._count(-1)

    def _leave(self, place: Place) -> None:
        self.state.sending = False
        self.save_state()
        files.move(self._spool.path(self.entry), self._spool._path(place.value, self.id))
        files.sync_directory(self._spool._path(place.value))

    def _change_phase(self, phase: Phase) -> None:
        before, after = self.entry, self.entry._replace(phase=phase)
        files.move(self._spool.path(before), self._spool.path(after))
        self.entry = after
