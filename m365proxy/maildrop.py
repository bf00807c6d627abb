"""A mailbox folder as POP3 sees it: a snapshot of ids, copies of messages, deletion at the end.

Ids are immutable ids (outlook-immutable-id.md), asked for on every request, so
that UIDLs outlive a move between folders.  Exchange makes a message's MIME
anew on each call (outlook-get-mime-message.md), so what was fetched once is
kept for the session.
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import re
import secrets
import threading
import time
from datetime import datetime
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple
from urllib.parse import quote

from . import files, log
from .errors import InUse, Permanent, Temporary
from .graph import Answer, GraphUnreachable, NoAnswer, Refused
from .wire import CRLF, crlf

_log = log.get("maildrop")

_PREFER = {"Prefer": 'IdType="ImmutableId"'}

# Messages asked for at once, and what is tried after a page that Graph could not make (user-list-messages.md).
_PAGES = (1000, 500, 250, 100)

# PR_MESSAGE_SIZE: what the item takes in the store, as near as Graph comes to a size.
_SIZE_TAG = 0x0E08
_EXPAND = f"singleValueExtendedProperties($filter=id eq 'Long 0x{_SIZE_TAG:04X}')"

# Octets a message without PR_MESSAGE_SIZE is said to have.
_SIZE_UNSAID = 4096

# Requests in one $batch (json-batching.md), and how often those it refused for now are asked again.
_BATCH = 20
_ROUNDS = 4

# Longest silence of Graph within a message, which it makes while we wait (seconds).
_VALUE_SECONDS = 300.0

# How long one command of a client is kept waiting because Graph asked for it (seconds).
_PATIENCE = 45.0

# A folder's id is looked up again after this long (seconds): it may have been renamed.
_FOLDER_SECONDS = 3600.0

_COPY = ".copy"

# Names Graph takes as folder ids whatever the mailbox's language (mailfolder.md).
_WELL_KNOWN = frozenset(
    "archive clutter conflicts conversationhistory deleteditems drafts inbox junkemail localfailures "
    "msgfolderroot outbox recoverableitemsdeletions scheduled searchfolders sentitems serverfailures "
    "syncissues".split()
)

_SUBSTITUTE = """\
From: m365proxy <{mailbox}>
To: {mailbox}
Subject: A damaged message stands here
{date}Message-ID: <{uidl}@m365proxy.invalid>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Exchange cannot give out the message that stands here in {mailbox}:
it says that the item is damaged (ErrorCorruptData).{received}

The item itself is still in the mailbox. Look at it with Outlook, or have an
administrator repair the mailbox (New-MailboxRepairRequest). Deleting this
text by POP3 never destroys the item.
"""


class Item:
    """One message of a snapshot.

    `size` is in octets as RETR sends them, dot-stuffing aside: an estimate
    until the message was fetched.  `doubtful`: what the client saw is not the
    whole message, so it is never deleted for good.
    """

    __slots__ = ("id", "uidl", "size", "received", "copy", "doubtful")

    def __init__(self, id: str, size: int, received: str):
        self.id = id
        self.uidl = hashlib.sha256(id.encode()).hexdigest()[:40]
        self.size = size
        self.received = received
        self.copy: Optional[str] = None
        self.doubtful = False


class Maildrops:
    """The registry of open maildrops: one session at a time per mailbox and folder (RFC 1939 section 4).

    `directory` holds the sessions' copies and nothing else; whatever an
    earlier run left there is removed.  `max_messages` shows only the newest so
    many (0: all).  `copies_limit` is what one session keeps on disk, in octets
    (its newest copy always stays).  Any thread may call.
    """

    def __init__(
        self,
        graph,
        directory: str,
        *,
        max_messages: int = 0,
        copies_limit: int = 64 * 1024 * 1024,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._graph = graph
        self._directory = directory
        self._max_messages = max_messages
        self._copies_limit = copies_limit
        self._sleep = sleep
        self._folders = _Folders(graph, clock)
        self._open: Dict[Tuple[str, str], str] = {}
        self._lock = threading.Lock()
        files.make_directory(directory)
        for name in os.listdir(directory):
            if name.endswith(_COPY):
                files.remove(os.path.join(directory, name))

    def open(self, user, peer: str) -> "Maildrop":
        """Take the user's folder and list it.

        InUse if another session has it; Permanent names what the account
        lacks; Temporary and SignInNeeded if Graph cannot be asked now.
        """
        key = (user.mailbox, user.folder.casefold())
        with self._lock:
            holder = self._open.setdefault(key, peer)
            if holder is not peer or not self._claim(key):
                raise InUse(f"Another session, from {holder}, is reading {user.mailbox}.")
        return key

    def _release(self, key: Tuple[str, str]) -> None:
        with self._lock:
            self._open.pop(key, None)
