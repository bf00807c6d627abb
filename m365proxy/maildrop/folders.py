"""Finding a mail folder and listing what is in it, page by page (user-list-messages.md).

Ids are immutable ids (outlook-immutable-id.md), asked for on every request, so
that they outlive a move between folders.
"""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..errors import Permanent, Temporary
from ..graph import refusals
from ..graph.answer import Answer, GraphRefused, GraphTrouble, NoAnswer
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, folder_path, immutable_pages
from ..system import log
from .patience import Patience

_log = log.get("folders")

# Messages asked for at once, and what is tried after a page that Graph could not make.
_PAGES = (1000, 500, 250, 100)

# PR_MESSAGE_SIZE: what the item takes in the store, as near as Graph comes to a size.
_SIZE_TAG = 0x0E08
_EXPAND = f"singleValueExtendedProperties($filter=id eq 'Long 0x{_SIZE_TAG:04X}')"

# What a message without PR_MESSAGE_SIZE is taken for (octets).
_SIZE_UNSAID = 4096

# A listing that takes longer is ended (seconds): nobody waits for it, and its mailbox is in use meanwhile.
_LISTING_SECONDS = 1800.0

# A folder whose changes Graph does not report is listed in full for so long (seconds).
_UNTRACKED_SECONDS = 3600.0

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

# Folder ids are longer than anybody's folder names, and hold no spaces.
_ID = re.compile(r"[A-Za-z0-9+/=_-]{60,}")


class Listed(NamedTuple):
    """A message as a listing shows it; `size` is an estimate in octets."""

    id: str
    size: int
    received: str  # "2026-01-31T09:00:00Z", as Graph writes it


class Folders:
    """Looks folders up and lists them.  Any thread may call."""

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
        self._untracked: Dict[Tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def _patience(self, mailbox: str) -> Patience:
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
            self._patience(mailbox).ask(
                lambda: self._graph.read("GET", mailbox, path, params={"$select": "id"}, headers=IMMUTABLE)
            )
        except GraphRefused as refused:
            self._forget(mailbox, name)
            raise self._closed(mailbox, name, refused) from None
        return folder

    def same(self, mailbox: str, name: str, folder: str) -> bool:
        """Whether a name is that of a folder `find` gave.  Errors as `find`."""
        found = self.find(mailbox, name)
        if found == folder or {found, folder} <= _WELL_KNOWN:
            return found == folder
        # The one may be a well-known name and the other an id: only Graph can tell.
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
                answer = self._patience(mailbox).ask(
                    lambda: self._graph.read("GET", mailbox, path, params={"$select": "id"}, headers=IMMUTABLE)
                )
            except GraphRefused:
                return ""
            known = str(answer.json().get("id", ""))
            with self._lock:
                self._ids[key] = known
        return known

    def list(self, mailbox: str, name: str, newest: int = 0) -> List[Listed]:
        """Every message of a folder, oldest first; only the `newest` so many if that is not 0.

        Errors as `find`.  A page that Graph cannot make is asked for again
        in a smaller size, from where the listing stands.
        """
        return self._list(mailbox, name, newest, self._patience(mailbox))

    def _list(self, mailbox: str, name: str, newest: int, patience: Patience) -> List[Listed]:
        folder = self.find(mailbox, name)
        found: Dict[str, Listed] = {}
        for size in _PAGES:
            try:
                self._gather(found, mailbox, folder, size, newest, patience)
                break
            except GraphRefused as refused:
                self._forget(mailbox, name)
                raise self._closed(mailbox, name, refused) from None
            except Temporary as error:
                if size == _PAGES[-1] or not _page_failed(error, patience):
                    raise
                _log.info("%s: a page of %d messages failed, trying smaller ones: %s", mailbox, size, error)
        messages = list(found.values())
        if newest:
            messages = messages[:newest][::-1]
        return messages

    def track(
        self, mailbox: str, name: str, known: Dict[str, Listed], link: str
    ) -> Tuple[Dict[str, Listed], str, bool]:
        """The messages of a folder by id, oldest first, a deltaLink for what changes from now on, and whether
        `link` was of use.

        `known` is what there was when Graph gave `link` ("": never).  The new
        link is "" where Graph does not report changes.  Errors as `find`.
        """
        folder = self.find(mailbox, name)
        patience = self._patience(mailbox)
        found = dict(known)
        if link:
            try:
                return (*self._changes(found, mailbox, "", link, patience), True)
            except (Permanent, Temporary) as error:
                if isinstance(error, Temporary) and not _page_failed(error, patience):
                    raise
                # 410 above all: Graph does not know the link any more.
                _log.info("%s: the folder is listed in full: %s", mailbox, error)
        with self._lock:
            since = self._untracked.get((mailbox, folder))
        if since is None or self._clock() - since >= _UNTRACKED_SECONDS:
            try:
                return (*self._changes({}, mailbox, folder, "", patience), False)
            except GraphRefused as refused:
                if refused.answer.status in (403, 404):
                    self._forget(mailbox, name)
                    raise self._closed(mailbox, name, refused) from None
                _log.info("%s: Graph does not report the changes of the folder: %s", mailbox, refused)
            except Temporary as error:
                if not _page_failed(error, patience):
                    raise
                _log.info("%s: Graph cannot report the changes of the folder now: %s", mailbox, error)
            with self._lock:
                self._untracked[(mailbox, folder)] = self._clock()
        return {one.id: one for one in self._list(mailbox, name, 0, patience)}, "", False

    def _changes(
        self, found: Dict[str, Listed], mailbox: str, folder: str, link: str, patience: Patience
    ) -> Tuple[Dict[str, Listed], str]:
        """Follow a delta query to its deltaLink (message-delta.md); begins with the folder if there is no link.

        Never with $top, which there is the most of all pages together.
        """
        path = folder_path(folder) + "/messages/delta"
        params = {"$select": "id,receivedDateTime", "$expand": _EXPAND}
        sizes = iter(_PAGES)
        headers = immutable_pages(next(sizes))
        followed: Set[str] = set()

        def ask() -> Answer:
            if link:
                return self._graph.follow(mailbox, link, headers=headers)
            return self._graph.read("GET", mailbox, path, params=params, headers=headers)

        while True:
            try:
                answer = patience.ask(ask)
                entries, link, end = _delta_page(answer, followed)
            except Temporary as error:
                smaller = next(sizes, None)
                # What fails at once is left to the plain listing, which has its own smaller pages.
                if smaller is None or not followed or not _page_failed(error, patience):
                    raise
                _log.info("%s: a page of changes failed, trying a smaller one: %s", mailbox, error)
                headers = immutable_pages(smaller)
                continue
            for entry in entries:
                _apply(found, entry)
            if end:
                return dict(sorted(found.items(), key=lambda pair: pair[1].received)), link
            followed.add(link)

    def _gather(
        self, found: Dict[str, Listed], mailbox: str, folder: str, size: int, newest: int, patience: Patience
    ) -> None:
        """Add a listing's pages to `found`, beginning at its last message."""
        params = {
            "$select": "id,receivedDateTime",
            "$orderby": "receivedDateTime desc" if newest else "receivedDateTime asc",
            "$top": str(min(size, newest) if newest else size),
            "$expand": _EXPAND,
        }
        last = next(reversed(found.values())).received if found else ""
        if last:
            # A property in $orderby may be filtered by if it comes first in both.
            params["$filter"] = f"receivedDateTime {'le' if newest else 'ge'} {last}"
        for page in self._pages(mailbox, folder_path(folder) + "/messages", params, patience):
            for entry in page:
                listed = _listed(entry)
                # Mail that comes or goes meanwhile shifts the pages: some items come twice.
                if listed is not None:
                    found.setdefault(listed.id, listed)
            if newest and len(found) >= newest:
                return

    def _pages(self, mailbox: str, path: str, params: Dict[str, str], patience: Patience) -> Iterator[List[Any]]:
        """The pages of a collection; short and empty ones are not the end, only a missing nextLink is."""
        answer = patience.ask(lambda: self._graph.read("GET", mailbox, path, params=params, headers=IMMUTABLE))
        followed = set()
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
            for page in self._pages(mailbox, path, params, self._patience(mailbox)):
                for entry in page:
                    shown = entry.get("displayName")
                    if isinstance(shown, str) and shown.casefold() == wanted.casefold():
                        return str(entry.get("id"))
        except GraphRefused as refused:
            raise self._closed(mailbox, name, refused) from None
        raise Permanent(
            f'The mailbox {mailbox} has no folder "{log.clean(name)}" ("{log.clean(wanted)}" is missing). '
            "Make it in Outlook, or correct the name in the config."
        )

    def _forget(self, mailbox: str, name: str) -> None:
        with self._lock:
            self._known.pop((mailbox, name.casefold()), None)

    def _closed(self, mailbox: str, name: str, refused: GraphRefused) -> Permanent:
        """What a refusal to list means for the administrator; 403 and 404 are one thing here (GF 3.8)."""
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


def _page_failed(error: Temporary, patience: Patience) -> bool:
    """Whether a smaller page may succeed: Graph ran into its limits, not into a pause or a dead line."""
    if patience.spent:
        return False
    if isinstance(error, GraphTrouble):
        return error.answer.status >= 500 or error.answer.ok
    return isinstance(error, NoAnswer) and error.maybe_processed


def _delta_page(answer: Answer, followed: Set[str]) -> Tuple[List[Any], str, bool]:
    """A page's entries, the link it ends with, and whether that is the deltaLink."""
    page = answer.json()
    entries, link = page.get("value"), page.get("@odata.nextLink")
    end = not link
    if end:
        link = page.get("@odata.deltaLink")
    if not isinstance(entries, list) or not isinstance(link, str) or not link or (link in followed and not end):
        # Never taken for the end: a client that sees an empty mailbox forgets what it has.
        raise GraphTrouble("Graph's listing of the mailbox cannot be read.", answer)
    return entries, link, end


def _apply(found: Dict[str, Listed], entry: Any) -> None:
    """Apply one change.  It may be reported twice, and of a changed message nothing but the id may be there."""
    listed = _listed(entry)
    if listed is None:
        return
    if "@removed" in entry:
        found.pop(listed.id, None)
        return
    before = found.get(listed.id)
    if before is not None:
        size = _estimate(entry) or before.size
        listed = Listed(listed.id, size, listed.received or before.received)
    found[listed.id] = listed


def _listed(entry: Any) -> Optional[Listed]:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    received = entry.get("receivedDateTime")
    return Listed(entry["id"], _estimate(entry) or _SIZE_UNSAID, received if isinstance(received, str) else "")


def _estimate(entry: Dict[str, Any]) -> int:
    """Octets a message will have: 1.37 times its size in the store, where attachments are not base64.

    Only a guess: headers and properties weigh differently on small mail.  0 if nothing is said.
    """
    properties = entry.get("singleValueExtendedProperties")
    for known in properties if isinstance(properties, list) else ():
        try:
            # Graph writes the id back its own way: "Long 0xe08".
            if int(known["id"].rpartition(" ")[2], 16) == _SIZE_TAG:
                return max(1, int(known["value"]) * 137 // 100)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            continue
    return 0
