"""What the stand-in tenant keeps: mailboxes, folders, items, and the records of what was sent."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Set, Tuple

from . import letter

# Well-known folder names (mailfolder) and the names that a mailbox's owner sees.
FOLDERS = {
    "msgfolderroot": "Top of Information Store",
    "inbox": "Inbox",
    "drafts": "Drafts",
    "sentitems": "Sent Items",
    "deleteditems": "Deleted Items",
    "junkemail": "Junk Email",
    "outbox": "Outbox",
    "archive": "Archive",
    "recoverableitemsdeletions": "Deletions",
}

# Lengths of ids (characters): 72 immutable, 152 classic.
IMMUTABLE_OCTETS, CLASSIC_OCTETS, _FOLDER_OCTETS = 54, 113, 90


class Refusal(Exception):
    """Graph says no: HTTP status, error.code and text."""

    def __init__(self, status: int, code: str, message: str = "", **headers: str):
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message or code
        self.headers = headers


class Actor(NamedTuple):
    """Who a token speaks for: a user's address, or "" for the application itself."""

    user: str
    scopes: FrozenSet[str]

    @property
    def app(self) -> bool:
        return not self.user


class Person(NamedTuple):
    """A directory entry, as shown by /me and /users/{id}."""

    oid: str
    upn: str
    mail: str


@dataclass(eq=False)
class Item:
    """A message in a folder.  `raw` is the MIME in which it arrived; without it, MIME is made from `properties`.

    `bcc_in_mime`: the MIME in which it arrived had a Bcc field, not only a property.
    """

    mailbox: str
    folder: "Folder"
    key: int
    classic: str
    immutable: str
    message_id: str
    created: float
    received: float
    sent: float
    raw: Optional[bytes] = None
    properties: Dict[str, Any] = field(default_factory=dict)
    attachments: List[letter.Attachment] = field(default_factory=list)
    extended: Dict[str, str] = field(default_factory=dict)
    bcc_in_mime: bool = False
    draft: bool = False
    read: bool = False
    corrupt: bool = False
    appears: float = 0.0  # by the tenant's clock: visible from
    vanishes: float = float("inf")  # and until
    changed: int = 0


@dataclass(eq=False)
class Folder:
    """A mail folder: `known` is its well-known name or ""; removals are kept for delta queries."""

    id: str
    name: str
    known: str = ""
    parent: str = ""
    items: Dict[int, Item] = field(default_factory=dict)
    removed: List[Tuple[int, str, str]] = field(default_factory=list)


class Mailbox:
    """One address: its folders, and the X- header names it has learnt (docs#17444)."""

    def __init__(self, address: str):
        self.address = address
        self.folders: Dict[str, Folder] = {}
        self.known: Dict[str, Folder] = {}
        self.header_names: Set[str] = set()
        for name, title in FOLDERS.items():
            parent = self.known["msgfolderroot"].id if name != "msgfolderroot" else ""
            self.known[name] = self.add(title, name, parent)

    def add(self, title: str, known: str = "", parent: str = "") -> Folder:
        folder = Folder(new_id(_FOLDER_OCTETS), title, known, parent)
        self.folders[folder.id] = folder
        return folder

    def folder(self, reference: str) -> Folder:
        """A folder by its id or by its well-known name, which is the same in every language."""
        found = self.folders.get(reference) or self.known.get(reference.lower())
        if found is None:
            raise Refusal(404, "ErrorItemNotFound", "The specified folder could not be found in the store.")
        return found


class Delivery(NamedTuple):
    """A message that was sent: tests count these.

    sender: the From address; mailbox: the one in the URL; recipients: sorted;
    raw: MIME as submitted (or as made from JSON); message_id: as the
    recipients see it; marker: the value of the message's first named extended
    property, or ""; time: by the tenant's clock.
    """

    sender: str
    mailbox: str
    recipients: Tuple[str, ...]
    raw: bytes
    message_id: str
    marker: str
    time: float


def new_id(octets: int) -> str:
    """A random id.

    In the standard base64 alphabet on purpose: an id may contain "/", "+" and "=", so it has to be escaped in a URL.
    """
    return base64.b64encode(os.urandom(octets)).decode()
