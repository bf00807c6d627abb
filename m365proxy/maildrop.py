"""A mailbox folder as POP3 sees it: a snapshot of ids, messages as they come, deletion at the end.

Exchange makes a message's MIME anew on each call (outlook-get-mime-message.md):
boundaries and header order may differ.  So what a session fetched once is kept
and served again, and UIDLs come from ids, never from content.
"""

from __future__ import annotations

import collections
import email.utils
import hashlib
import threading
import time
from datetime import datetime, timezone
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from . import copies, files, log
from .answer import Answer, GraphUnreachable, NoAnswer, Refused, Stopped
from .copies import Copy, folded, normalised
from .deletion import Deletion, path_of
from .errors import InUse, Permanent, ProxyError, Temporary
from .folders import PREFER, Folders, Listed, Patience
from .ledger import Ledger
from .readahead import ReadAhead
from .wire import crlf

_log = log.get("maildrop")

# Longest silence of Graph within a message, which it makes while we wait (seconds).
_VALUE_SECONDS = 300.0

# The same for a message nobody has asked for yet: its slot may be of use to others.
_AHEAD_SECONDS = 60.0

# Messages that broke off: so many are remembered.
_BREAKS = 1000

# A message whose fetch breaks off before the client had any of it is fetched whole again, this often in all.
_FETCHES = 2

# Octets taken from Graph at once: small, because they wait for each other on a slow line.
_PIECE = 16 * 1024

# A session that waited so long for its client's next command gives way to a new one of the same client (seconds).
_ABANDONED = 60.0

# What is known of folders that nobody opened for so long is forgotten at a start (seconds).
_LEDGER_AGE = 90 * 86400.0

# What Exchange says of an item it cannot make MIME of, today or ever (EWS response codes).
_DAMAGED = frozenset(
    {
        "errorcorruptdata", "errormimecontentinvalid", "errormimecontentinvalidbase64string",
        "errormimecontentconversionfailed", "errorcontentconversionfailed",
    }
)  # fmt: skip

_SUBSTITUTE = """\
From: m365proxy <{mailbox}>
To: {mailbox}
Subject: A damaged message stands here
{date}Message-ID: <{uidl}@m365proxy.invalid>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Exchange cannot give out the message that stands here in {mailbox}:
it says that the item is damaged ({code}).

The item itself is still in the mailbox. Look at it with Outlook, or have an
administrator repair the mailbox (New-MailboxRepairRequest). Deleting this
text by POP3 never destroys the item.
"""


class Item:
    """One message of a snapshot.

    `size` is in octets as RETR sends them, dot-stuffing aside: an estimate
    unless `exact`.
    """

    __slots__ = ("id", "uidl", "size", "exact", "received", "tried", "seen", "substituted")

    def __init__(self, listed: Listed, exact: int = 0):
        """`exact` is the size an earlier session found; 0 if none did."""
        self.id = listed.id
        # RFC 1939 section 7: at most 70 printable characters, the same in every session.
        self.uidl = hashlib.sha256(listed.id.encode()).hexdigest()[:40]
        self.size = exact or listed.size
        self.exact = bool(exact)
        self.received = listed.received
        self.tried = False  # a RETR was begun
        self.seen = False  # a RETR gave the whole message
        self.substituted = False  # a text of ours took its place

    @property
    def doubtful(self) -> bool:
        """Nobody is known to have had the whole message, so it is never deleted for good.

        An exact size says that it came whole once, in this session or an earlier one.
        """
        return self.substituted or not (self.seen or (self.exact and not self.tried))

    def measured(self, copy: Copy) -> None:
        """Take the size of a whole copy.  Any thread may call."""
        self.size = copy.size
        self.exact = not copy.substitute


class Message:
    """A message being given out: its octets may still be coming.  For the session's thread."""

    def __init__(self, item: Item, copy: Copy, retrieving: bool):
        self._item = item
        self._copy = copy
        self._retrieving = retrieving
        item.tried = item.tried or retrieving

    @property
    def size(self) -> Optional[int]:
        """Octets; None while they are still coming."""
        return self._copy.size if self._copy.whole else None

    def ready(self, seconds: float) -> bool:
        """Whether its first octets are here, after waiting up to `seconds`.

        Permanent if it is gone; Temporary and SignInNeeded if it cannot be had now.
        """
        return self._copy.ready(seconds)

    def chunks(
        self, before_wait: Callable[[], object], in_silence: Callable[[], object] = lambda: None
    ) -> Iterator[bytes]:
        """Its octets with CRLF line ends, whole for a RETR.

        `before_wait` is called when they are not here yet, `in_silence` now
        and then while none come.  Raises as `ready` if they break off.
        """
        yield from self._copy.chunks(before_wait, in_silence)
        if self._retrieving and not self._copy.substitute:
            self._item.seen = True


class Session(NamedTuple):
    """What the registry may ask of whoever holds a maildrop."""

    peer: str
    idle: Callable[[], float]  # seconds since it began to wait for a command; 0 while it does something
    end: Callable[[], object]


class _Hold:
    """One session's hold on a folder: compared by identity."""

    def __init__(self, login: str, session: Session):
        self.login = login
        self.session = session


class Maildrops:
    """The registry of open maildrops: one session at a time per mailbox and folder (RFC 1939 section 4).

    `directory` holds the sessions' copies and what is known of folders; copies
    an earlier run left there are removed.  `max_messages` shows only the
    newest so many (0: all).  `read_ahead` bounds what one session keeps on
    disk, in octets (0: only the message it is at); `exact_sizes` fetches
    messages at sign-in to measure them; large ones are refused rather than
    leave less than `min_free` octets of disk.  Any thread may call.
    """

    def __init__(
        self,
        graph,
        directory: str,
        *,
        max_messages: int = 0,
        read_ahead: int = 32 * 1024 * 1024,
        exact_sizes: bool = False,
        min_free: int = 0,
        settle: float = 0.05,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`settle`: how long a message that began to come may take to be whole before it is streamed (seconds)."""
        self._graph = graph
        self._directory = directory
        self._max_messages = max_messages
        self._read_ahead = read_ahead
        self._exact_sizes = exact_sizes
        self._min_free = min_free
        self._settle = settle
        self._sleep = sleep
        self._folders = Folders(graph, sleep=sleep, clock=clock)
        self._breaks = Breaks()
        self._holds: Dict[Tuple[str, str], _Hold] = {}
        self._lock = threading.Lock()
        files.make_directory(directory)
        copies.clear(directory, _LEDGER_AGE)

    def open(self, user, session: Session) -> Maildrop:
        """Take the user's folder for a session, and list it.

        InUse if another session has it; one of the same login and address that
        waited for its client for over a minute is ended instead.  Permanent
        names what the account lacks; Temporary and SignInNeeded if Graph cannot
        be asked now.
        """
        # One folder has many names: inbox, Inbox/ and so on.
        key = (user.mailbox, self._folders.find(user.mailbox, user.folder))
        hold = _Hold(user.login, session)
        with self._lock:
            before = self._holds.get(key)
            if before is not None and not _gives_way(before, hold):
                raise InUse(f"Another session, from {before.session.peer}, is reading {user.mailbox}.")
            self._holds[key] = hold
        if before is not None:
            _log.info("%s: a session from %s waits no more, a new one takes over", user.mailbox, session.peer)
            before.session.end()
        try:
            return self._list(user, lambda: self._release(key, hold))
        except BaseException:
            self._release(key, hold)
            raise

    def _list(self, user, release: Callable[[], None]) -> Maildrop:
        mailbox = user.mailbox
        folder = self._folders.find(mailbox, user.folder)
        # Folded messages have other sizes.
        form = ("folded",) if user.pop3_fold_lines else ()
        ledger = Ledger(self._directory, (self._graph.url, self._graph.user, mailbox, folder, *form))
        if self._max_messages:
            # A few of many: what changes among the rest is of no interest.
            found = {one.id: one for one in self._folders.list(mailbox, user.folder, self._max_messages)}
            link = ""
        else:
            found, link, of_use = self._folders.track(mailbox, user.folder, ledger.messages, ledger.link)
            if not of_use:
                ledger.link = ""  # so that the new one is written down though nothing else may be new
        items = [Item(one, ledger.sizes.get(one.id, 0)) for one in found.values()]
        fetcher = Fetcher(self._graph, mailbox, self._sleep, self._breaks, user.pop3_fold_lines)
        ahead = ReadAhead(
            items, fetcher.fetch, self._directory, self._read_ahead, lambda: self._graph.spare(mailbox), self._settle,
            self._min_free,
        )
        if self._exact_sizes:
            ahead.measure(
                index for index, item in enumerate(items) if not item.exact and not self._breaks.known(item.uidl)
            )
        return Maildrop(
            items, ahead, Deletion(self._graph, self._folders, user, self._sleep), ledger, found, link, release
        )

    def _release(self, key: Tuple[str, str], hold: _Hold) -> None:
        with self._lock:
            if self._holds.get(key) is hold:
                del self._holds[key]


def _gives_way(before: _Hold, after: _Hold) -> bool:
    same = (before.login, before.session.peer) == (after.login, after.session.peer)
    return same and before.session.idle() > _ABANDONED


class Maildrop:
    """One session's snapshot of a folder.  Belongs to the thread that opened it; close it."""

    def __init__(
        self,
        messages: Sequence[Item],
        ahead: ReadAhead,
        deletion: Deletion,
        ledger: Ledger,
        found: Dict[str, Listed],
        link: str,
        release: Callable[[], None],
    ):
        self.messages = messages
        self._ahead = ahead
        self._deletion = deletion
        self._ledger = ledger
        self._found = found
        self._link = link
        self._release: Optional[Callable[[], None]] = release

    def measured(self, seconds: float) -> bool:
        """Whether sizes are as exact as they are to be, after waiting up to `seconds`."""
        return self._ahead.measured(seconds)

    def retrieve(self, index: int) -> Message:
        """The whole message at `index` (from 0).

        Fetched once, then kept for the session as far as the limit on disk
        allows.  A damaged item becomes a text that says so.
        """
        return Message(self.messages[index], self._ahead.want(index), True)

    def top(self, index: int, lines: int) -> Message:
        """At least the header and `lines` of the body; Graph is not made to send much more."""
        return Message(self.messages[index], self._ahead.want(index, lines), False)

    def delete(self, indices: Sequence[int]) -> int:
        """Carry out the user's `pop3_delete` on these messages; how many could not be.

        Nothing can be retrieved afterwards.  Raises nothing: trouble is logged
        and counted.
        """
        self._ahead.close()  # what is still coming would only keep slots
        result = self._deletion.carry_out([self.messages[index] for index in indices])
        for item in result.done:
            # Graph may tell of it a little later: it must not come again meanwhile.
            self._found.pop(item.id, None)
        return len(result.left)

    def close(self) -> None:
        """Remove the copies, note what was learnt, and let the next session in; again is fine."""
        self._ahead.close()
        release, self._release = self._release, None
        if release is not None:
            sizes = {item.id: item.size for item in self.messages if item.exact}
            try:
                self._ledger.save(self._found, sizes, self._link)
            finally:
                release()


class Breaks:
    """Messages that Graph broke off, for all sessions.  Any thread may call.

    A client that takes its mail in order would otherwise never get past such
    a one: each session would end in the middle of it.
    """

    def __init__(self) -> None:
        self._skip: "collections.OrderedDict[str, bool]" = collections.OrderedDict()  # by UIDL
        self._lock = threading.Lock()

    def known(self, uidl: str) -> bool:
        """Whether it broke off the last time it was asked for."""
        with self._lock:
            return uidl in self._skip

    def skip(self, uidl: str) -> bool:
        """Whether not to ask for it this once, since waiting for the whole of it was of no use."""
        with self._lock:
            skip = self._skip.get(uidl, False)
            if skip:
                self._skip[uidl] = False
            return skip

    def note(self, uidl: str) -> None:
        with self._lock:
            self._skip[uidl] = uidl in self._skip
            if len(self._skip) > _BREAKS:
                self._skip.popitem(last=False)

    def forget(self, uidl: str) -> None:
        with self._lock:
            self._skip.pop(uidl, None)


class Fetcher:
    """Brings messages of one mailbox into copies.  Any thread may call."""

    def __init__(self, graph, mailbox: str, sleep: Callable[[float], object], breaks: Breaks, fold: bool = False):
        """`fold`: cut lines that are too long for some clients."""
        self._graph = graph
        self._mailbox = mailbox
        self._sleep = sleep
        self._breaks = breaks
        self._fold = fold

    def fetch(self, item: Item, copy: Copy) -> None:
        """Fill a copy and close it; however that ends, the copy knows."""
        copy.patient = self._breaks.known(item.uidl)
        try:
            copy.open()
            if copy.patient:
                # Only a fetch that begins for the client may be noted, or left out: ahead, it would break off for ever.
                copy.require_claim()
                if self._breaks.skip(item.uidl):
                    raise Temporary("Exchange breaks this message off each time; it is left out this once.")
            self._bring(item, copy)
            self._breaks.forget(item.uidl)
        except Stopped:
            _log.debug("%s: the rest of a message is not wanted", self._mailbox)
        except OSError as error:
            copy.fail(Temporary(f"The message cannot be put on this machine's disk: {error.strerror}."))
        except ProxyError as error:
            if isinstance(error, GraphUnreachable) and error.maybe_processed and copy.claimed and not copy.stopped:
                self._breaks.note(item.uidl)
            copy.fail(error)
        finally:
            copy.close()

    def _bring(self, item: Item, copy: Copy) -> None:
        """The item's octets; whole again if Graph breaks off (it knows no ranges)."""
        patience = Patience(self._graph, self._mailbox, self._sleep)
        for tries_left in reversed(range(_FETCHES)):
            try:
                self._download(item, copy, patience)
                return
            except (Refused, NoAnswer) as error:
                code = error.answer.code
                if code.lower() in _DAMAGED:
                    _log.warning("%s: a damaged message (UIDL %s) is replaced by a text", self._mailbox, item.uidl)
                    item.substituted = copy.substitute = True
                    copy.write(self._substitute(item, code))
                    copy.complete()
                    return
                if isinstance(error, Refused):
                    if error.answer.status == 404:
                        raise Permanent("This message is gone from the mailbox.") from None
                    raise
                if not tries_left:
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)
            except GraphUnreachable as error:
                if not tries_left or not copy.restart():
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)

    def _download(self, item: Item, copy: Copy, patience: Patience) -> None:
        with patience.ask(lambda: self._ask(item, copy)) as answer:
            if not answer.request_id:
                raise Temporary("Something between here and Graph answered in its place.")
            chunks = normalised(answer.chunks(_PIECE))
            for chunk in folded(chunks) if self._fold else chunks:
                copy.write(chunk)
        if not copy.size:
            raise Temporary("Exchange gave an empty message.")
        copy.complete()

    def _ask(self, item: Item, copy: Copy) -> Answer:
        seconds = _VALUE_SECONDS if copy.claimed else _AHEAD_SECONDS
        try:
            return self._graph.read(
                "GET", self._mailbox, path_of(item.id) + "/$value", headers=PREFER, stream=True, seconds=seconds,
                leash=copy.leash,
            )
        except GraphUnreachable:
            if copy.stopped:
                raise Stopped from None
            raise

    def _substitute(self, item: Item, code: str) -> bytes:
        text = _SUBSTITUTE.format(
            mailbox=self._mailbox, uidl=item.uidl, date=_date_line(item.received), code=log.clean(code, 60)
        )
        return crlf(text.encode("utf-8"))


def _date_line(received: str) -> str:
    """A Date field from Graph's time of receipt; nothing rather than an invented one."""
    try:
        when = datetime.strptime(received[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return f"Date: {email.utils.format_datetime(when)}\n"
