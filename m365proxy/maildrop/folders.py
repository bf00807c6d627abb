"""Mail folders, found by name, path or id (mailfolder.md).

Ids are immutable ids (outlook-immutable-id.md), asked for on every request, so
that they outlive a move between folders.
"""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

from ..errors import Permanent
from ..graph import refusals
from ..graph.answer import GraphRefused, GraphTrouble
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, folder_path
from ..system import log
from .patience import Patience

# A listing that takes longer is ended (seconds): no client waits for it, and it blocks the mailbox.
_LISTING_SECONDS = 1800.0

# A folder's id is looked up again after this long (seconds): it may have been renamed.
_LOOKUP_SECONDS = 3600.0

# Names Graph takes as folder ids whatever the mailbox's language (mailfolder.md).
_WELL_KNOWN = frozenset(
    {
        "archive",
        "clutter",
        "conflicts",
        "conversationhistory",
        "deleteditems",
        "drafts",
        "inbox",
        "junkemail",
        "localfailures",
        "msgfolderroot",
        "outbox",
        "recoverableitemsdeletions",
        "scheduled",
        "searchfolders",
        "sentitems",
        "serverfailures",
        "syncissues",
    }
)

# Folder ids are longer than the names of folders, and contain no spaces.
_ID = re.compile(r"[A-Za-z0-9+/=_-]{60,}")


class Folders:
    """Looks folders up.  Any thread may call."""

    def __init__(
        self,
        graph: Graph,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        listing_seconds: float = _LISTING_SECONDS,
    ):
        """`listing_seconds`: how long listing a folder may take in all."""
        self._graph = graph
        self._sleep = sleep
        self._clock = clock
        self._listing_seconds = listing_seconds
        self._known: Dict[Tuple[str, str], Tuple[str, float]] = {}
        self._ids: Dict[Tuple[str, str], str] = {}
        self._lock = threading.Lock()

    def patience(self, mailbox: str) -> Patience:
        """The patience with Graph for one thing that a client asks for."""
        return Patience(self._graph, mailbox, self._sleep, clock=self._clock, whole=self._listing_seconds)

    def find(self, mailbox: str, name: str) -> str:
        """The id of a folder given by well-known name, path ("Inbox/Scans") or id.

        Permanent if there is none, or the account may not see it; Temporary
        and SignInNeeded if Graph cannot be asked now.
        """
        if name.lower() in _WELL_KNOWN:
            return name.lower()
        if _ID.fullmatch(name):
            return name
        key = (mailbox, name.casefold())
        with self._lock:
            found, since = self._known.get(key, ("", 0.0))
        if found and self._clock() - since < _LOOKUP_SECONDS:
            return found
        found = self._walk(mailbox, name)
        with self._lock:
            self._known[key] = (found, self._clock())
        return found

    def confirm(self, mailbox: str, name: str) -> str:
        """As `find`, but Graph is asked whether the folder is still there."""
        folder = self.find(mailbox, name)
        path = folder_path(folder)
        try:
            self.patience(mailbox).ask(
                lambda: self._graph.read("GET", mailbox, path, params={"$select": "id"}, headers=IMMUTABLE)
            )
        except GraphRefused as refused:
            self.forget(mailbox, name)
            raise self.explain(mailbox, name, refused) from None
        return folder

    def is_same(self, mailbox: str, name: str, folder: str) -> bool:
        """Whether a name is that of a folder that `find` gave.  Errors as `find`."""
        found = self.find(mailbox, name)
        if found == folder or {found, folder} <= _WELL_KNOWN:
            return found == folder
        # One may be a well-known name and the other an id: only Graph knows.
        id = self._id_of(mailbox, found)
        return bool(id) and id == self._id_of(mailbox, folder)

    def _id_of(self, mailbox: str, folder: str) -> str:
        """The id Graph itself uses; "" if it does not show the folder."""
        key = (mailbox, folder)
        with self._lock:
            known = self._ids.get(key)
        if known is None:
            path = folder_path(folder)
            try:
                answer = self.patience(mailbox).ask(
                    lambda: self._graph.read("GET", mailbox, path, params={"$select": "id"}, headers=IMMUTABLE)
                )
            except GraphRefused:
                return ""
            known = str(answer.json().get("id", ""))
            with self._lock:
                self._ids[key] = known
        return known

    def pages(self, mailbox: str, path: str, params: Dict[str, str], patience: Patience) -> Iterator[List[Any]]:
        """The pages of a collection.  Only a missing nextLink is the end, not a short or empty page."""
        answer = patience.ask(lambda: self._graph.read("GET", mailbox, path, params=params, headers=IMMUTABLE))
        followed: Set[str] = set()
        while True:
            page = answer.json()
            entries, link = page.get("value"), page.get("@odata.nextLink")
            if not isinstance(entries, list) or link in followed:
                # Never taken for the end: a client that sees an empty mailbox forgets what it has.
                raise GraphTrouble("Graph's listing of the mailbox cannot be read.", answer)
            yield entries
            if not isinstance(link, str) or not link:
                return
            followed.add(link)
            answer = patience.ask(partial(self._graph.follow, mailbox, link, headers=IMMUTABLE))

    def _walk(self, mailbox: str, name: str) -> str:
        parts = [part.strip() for part in name.split("/") if part.strip()]
        folder = ""
        for depth, part in enumerate(parts):
            if depth == 0 and part.lower() in _WELL_KNOWN:
                folder = part.lower()
                continue
            folder = self._child(mailbox, folder, part, name)
        if not folder:
            raise Permanent(f'"{log.clean(name)}" is not the name of a folder. Correct it in the config.')
        return folder

    def _child(self, mailbox: str, parent: str, wanted: str, name: str) -> str:
        path = folder_path(parent) + "/childFolders" if parent else "/mailFolders"
        params = {"$select": "id,displayName", "$top": "250"}
        try:
            for page in self.pages(mailbox, path, params, self.patience(mailbox)):
                for entry in page:
                    shown = entry.get("displayName")
                    if isinstance(shown, str) and shown.casefold() == wanted.casefold():
                        return str(entry.get("id"))
        except GraphRefused as refused:
            raise self.explain(mailbox, name, refused) from None
        raise Permanent(
            f'The mailbox {mailbox} has no folder "{log.clean(name)}" ("{log.clean(wanted)}" is missing). '
            "Create it in Outlook, or correct the name in the config."
        )

    def forget(self, mailbox: str, name: str) -> None:
        """Look the folder up anew the next time."""
        with self._lock:
            self._known.pop((mailbox, name.casefold()), None)

    def explain(self, mailbox: str, name: str, refused: GraphRefused) -> Permanent:
        """What a refusal to show a folder means for the administrator; 403 and 404 mean the same here."""
        answer = refused.answer
        if answer.status not in (403, 404):
            return refused
        sentence = refusals.sentence(
            refusals.READ,
            http=answer.status,
            code=answer.code,
            mailbox=mailbox,
            user=self._graph.user,
            app=self._graph.app,
        )
        return Permanent(f'The folder "{log.clean(name)}" cannot be read. {sentence}')
