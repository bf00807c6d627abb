"""A mailbox folder as a POP3 session sees it: a snapshot of ids, messages as they come, deletion at the end.

Exchange makes the MIME of a message anew on each call (outlook-get-mime-message.md):
boundaries and the order of fields may differ.  So what a session fetched once is
kept and served again, and UIDLs are made from ids, never from content.
"""

from __future__ import annotations

import time
from typing import Callable, Iterator, Optional, Sequence, Set

from ..graph.client import Graph
from ..system import files, log
from . import copies, substitute
from .copies import Copy
from .deletion import Deletion
from .failures import Failures
from .fetch import Fetcher
from .folders import Folders
from .item import Item, Snapshot
from .ledger import Ledger
from .listing import Listings
from .locks import FolderLock, FolderLocks, SessionHandle
from .readahead import ReadAhead
from .table import Table
from .user import User

_log = log.get("maildrop")

# What is known of a folder that nobody opened for so long is forgotten when the program starts (seconds).
_LEDGER_AGE = 90 * 86400.0


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

    def wait_ready(self, seconds: float) -> bool:
        """Whether its first octets are here, after waiting up to `seconds`.

        Permanent if it is gone; Temporary and SignInNeeded if it cannot be had now.
        """
        return self._copy.wait_ready(seconds)

    def chunks(
        self, before_wait: Callable[[], object], in_silence: Callable[[], object] = lambda: None
    ) -> Iterator[bytes]:
        """Its octets with CRLF line ends, whole for a RETR.

        `before_wait` is called when they are not here yet, `in_silence` now
        and then while none come.  Raises as `wait_ready` if they break off.
        """
        yield from self._copy.chunks(before_wait, in_silence)
        if self._retrieving and not self._copy.substitute:
            self._item.seen = True


class Maildrops:
    """The registry of open maildrops: one session at a time per mailbox and folder (RFC 1939 section 4).

    `directory` holds the sessions' copies and what is known of folders; copies
    an earlier run left there are removed.  `max_messages` shows only the
    newest (0: all).  `read_ahead` bounds what one session keeps on
    disk, in octets (0: only the message it is at); `exact_sizes` fetches
    messages at the login to measure them; large ones are refused rather than
    leave less than `min_free` octets of disk.  Any thread may call.
    """

    def __init__(
        self,
        graph: Graph,
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
        self._listings = Listings(graph, self._folders, clock)
        self._failures = Failures(clock)
        self._clock = clock
        self._locks = FolderLocks(clock)
        files.make_private(directory)
        copies.clear(directory, _LEDGER_AGE)

    def open(self, user: User, session: SessionHandle) -> Maildrop:
        """Take the user's folder for a session, and list it.

        InUse if another session has it (see FolderLocks).  Permanent names what
        the account lacks; Temporary and SignInNeeded if Graph cannot be asked
        now, or the listing takes too long.
        """
        # One folder has many names: inbox, Inbox/ and so on.
        folder = self._folders.find(user.mailbox, user.folder)
        lock = self._locks.acquire(user.mailbox, folder, user.login, session)
        try:
            return self._list(user, lock)
        except BaseException:
            lock.release()
            raise

    def _list(self, user: User, lock: FolderLock) -> Maildrop:
        mailbox = user.mailbox
        folder = self._folders.find(mailbox, user.folder)
        # Folded messages have other sizes.
        form = ("folded",) if user.pop3_fold_lines else ()
        ledger = Ledger(self._directory, (self._graph.url, self._graph.user, mailbox, folder, *form))
        if self._max_messages:
            # What changes among the others does not matter.
            table = self._listings.newest(mailbox, user.folder, self._max_messages)
            link = ""
        else:
            table, link, of_use = self._listings.track(mailbox, user.folder, ledger.messages, ledger.link)
            if not of_use:
                ledger.link = ""  # so that the new one is saved even if nothing else is new
        if table is not ledger.messages:
            table = table.with_exact_of(ledger.messages)
        items = self._shown(mailbox, table)
        fetcher = Fetcher(self._graph, mailbox, self._sleep, self._failures, user.pop3_fold_lines)
        ahead = ReadAhead(
            items,
            fetcher.fetch,
            self._directory,
            self._read_ahead,
            lambda: self._graph.spare(mailbox),
            self._settle,
            self._min_free,
        )
        if self._exact_sizes:
            ahead.measure(
                index for index, item in enumerate(items) if not item.exact and not self._failures.known(item.id)
            )
        deletion = Deletion(self._graph, self._folders, user, self._sleep, self._clock)
        return Maildrop(items, ahead, deletion, ledger, link, lock)

    def _shown(self, mailbox: str, table: Table) -> Snapshot:
        """All but those that would block the others; messages that a text replaces get the size of the text."""
        remembered = self._failures.all
        rows = {id: row for row, id in enumerate(table.ids) if id in remembered} if remembered else {}
        out = self._failures.leave_out(rows)
        if out:
            _log.info("%s: %d messages that Exchange did not give out are left out of this session", mailbox, len(out))
        items = Snapshot(table, out)
        for id, cause in self._failures.given_up(rows).items():
            item = Item(items, rows[id])
            item.become_text(len(substitute.text(mailbox, item, cause)))
        return items


class Maildrop:
    """One session's snapshot of a folder.  For one thread at a time; close it."""

    def __init__(
        self,
        messages: Snapshot,
        ahead: ReadAhead,
        deletion: Deletion,
        ledger: Ledger,
        link: str,
        lock: FolderLock,
    ):
        self.messages = messages
        self._ahead = ahead
        self._deletion = deletion
        self._ledger = ledger
        self._gone: Set[Item] = set()  # what this session deleted
        self._link = link
        self._lock: Optional[FolderLock] = lock

    def wait_measured(self, seconds: float) -> bool:
        """Whether sizes are as exact as they are to be, after waiting up to `seconds`."""
        return self._ahead.wait_measured(seconds)

    def retrieve(self, index: int) -> Message:
        """The whole message at `index` (from 0).

        Fetched once, then kept for the session as far as the limit on disk
        allows.  A damaged item becomes a text that says so.
        """
        return Message(self.messages[index], self._ahead.want(index), True)

    def top(self, index: int, lines: int) -> Message:
        """At least the header and `lines` of the body; not much more is fetched from Graph."""
        return Message(self.messages[index], self._ahead.want(index, lines), False)

    def delete(self, indices: Sequence[int]) -> int:
        """Carry out the user's `pop3_delete` on these messages; how many could not be.

        Nothing can be retrieved afterwards.  Raises nothing: trouble is logged
        and counted.
        """
        self._ahead.close()  # fetches that are under way would only occupy slots
        assert self._lock is not None
        self._lock.report_left(len(indices))
        result = self._deletion.carry_out([self.messages[index] for index in indices], self._lock.report_left)
        # Graph may report the change a little later: the message must not come again meanwhile.
        self._gone |= result.done
        return len(result.left)

    def close(self) -> None:
        """Remove the copies, save what was learnt, and let the next session in.  May be called again."""
        self._ahead.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                self._ledger.save(self.messages.learnt(self._gone), self._link)
            finally:
                lock.release()
