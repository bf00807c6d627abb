"""What is in a mail folder, page by page (user-list-messages.md), or what has changed in it (message-delta.md)."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from ..errors import Permanent, Temporary
from ..graph.answer import Answer, GraphRefused, GraphTrouble, NoAnswer
from ..graph.client import Graph
from ..graph.items import folder_path, immutable_pages, iso_of, seconds_of
from ..system import log
from .folders import Folders
from .patience import Patience
from .table import Revision, Table

_log = log.get("listing")

# Messages asked for at once, and what is tried after a page that Graph could not make.
_PAGES = (1000, 500, 250, 100)

# PR_MESSAGE_SIZE, what the item takes in the store: the nearest to a size that Graph offers.
_SIZE_TAG = 0x0E08
_EXPAND = f"singleValueExtendedProperties($filter=id eq 'Long 0x{_SIZE_TAG:04X}')"

# The largest size that is believed (octets).
_SIZE_MOST = 2**40

# A folder whose changes Graph does not report is listed in full for so long (seconds).
_UNTRACKED_SECONDS = 3600.0


class Tracked(NamedTuple):
    """What is in a folder now."""

    messages: Table  # oldest first; that which was handed over if nothing has changed
    link: str  # Graph's deltaLink for what changes from now on; "" where it does not report changes
    was_of_use: bool  # whether the previous link was


class Listings:
    """Lists folders.  Any thread may call."""

    def __init__(self, graph: Graph, folders: Folders, clock: Callable[[], float] = time.monotonic):
        self._graph = graph
        self._folders = folders
        self._clock = clock
        self._untracked: Dict[Tuple[str, str], float] = {}  # when Graph would not report a folder's changes
        self._lock = threading.Lock()

    def newest(self, mailbox: str, name: str, count: int) -> Table:
        """The newest messages of a folder, oldest first.  Errors as Folders.find."""
        return self._list(mailbox, name, count, self._folders.patience(mailbox))

    def track(self, mailbox: str, name: str, known: Table, link: str) -> Tracked:
        """Every message of a folder; `known` is what there was when Graph gave `link` ("": never).

        Errors as Folders.find.
        """
        folder = self._folders.find(mailbox, name)
        patience = self._folders.patience(mailbox)
        found = self._by_link(mailbox, known, link, patience) if link else None
        if found is None and self._may_report_changes(mailbox, folder):
            found = self._by_first_link(mailbox, name, folder, patience)
        if found is None:
            found = Tracked(self._list(mailbox, name, 0, patience), "", False)
        return found

    def _by_link(self, mailbox: str, known: Table, link: str, patience: Patience) -> Optional[Tracked]:
        """None if the link is of no use any more."""
        try:
            return Tracked(*self._changes(known, mailbox, "", link, patience), was_of_use=True)
        except (Permanent, Temporary) as error:
            if isinstance(error, Temporary) and not _page_failed(error, patience):
                raise
            # 410 above all: Graph does not know the link any more.
            _log.info("%s: the folder is listed in full: %s", mailbox, error)
            return None

    def _by_first_link(self, mailbox: str, name: str, folder: str, patience: Patience) -> Optional[Tracked]:
        """None if Graph does not report changes of this folder."""
        try:
            return Tracked(*self._changes(Table(), mailbox, folder, "", patience), was_of_use=False)
        except GraphRefused as refused:
            if refused.answer.status in (403, 404):
                raise self._refusal(mailbox, name, refused) from None
            _log.info("%s: Graph does not report the changes of the folder: %s", mailbox, refused)
        except Temporary as error:
            if not _page_failed(error, patience):
                raise
            _log.info("%s: Graph cannot report the changes of the folder now: %s", mailbox, error)
        with self._lock:
            self._untracked[(mailbox, folder)] = self._clock()
        return None

    def _may_report_changes(self, mailbox: str, folder: str) -> bool:
        with self._lock:
            since = self._untracked.get((mailbox, folder))
        return since is None or self._clock() - since >= _UNTRACKED_SECONDS

    def _refusal(self, mailbox: str, name: str, refused: GraphRefused) -> Permanent:
        self._folders.forget(mailbox, name)
        return self._folders.explain(mailbox, name, refused)

    def _list(self, mailbox: str, name: str, newest: int, patience: Patience) -> Table:
        """Messages oldest first; all of them if `newest` is 0.

        A page that Graph cannot make is asked for again in a smaller size,
        from where the listing has got to.
        """
        folder = self._folders.find(mailbox, name)
        found = Revision(Table())
        for size in _PAGES:
            try:
                self._gather(found, mailbox, folder, size, newest, patience)
                break
            except GraphRefused as refused:
                raise self._refusal(mailbox, name, refused) from None
            except Temporary as error:
                if size == _PAGES[-1] or not _page_failed(error, patience):
                    raise
                _log.info("%s: a page of %d messages failed, trying smaller ones: %s", mailbox, size, error)
        messages = found.in_order_noted()
        return messages.rows(range(len(messages))[:newest][::-1]) if newest else messages

    def _gather(self, found: Revision, mailbox: str, folder: str, size: int, newest: int, patience: Patience) -> None:
        """Add a listing's pages to `found`, beginning at its last message."""
        params = {
            "$select": "id,receivedDateTime",
            "$orderby": "receivedDateTime desc" if newest else "receivedDateTime asc",
            "$top": str(min(size, newest) if newest else size),
            "$expand": _EXPAND,
        }
        last = found.last_received
        if last:
            # Graph filters by a property in $orderby only if it comes first in both.
            params["$filter"] = f"receivedDateTime {'le' if newest else 'ge'} {iso_of(last)}"
        for page in self._folders.pages(mailbox, folder_path(folder) + "/messages", params, patience):
            for entry in page:
                # Mail that comes or goes meanwhile shifts the pages: some items come twice.
                _apply(found, entry)
            if newest and len(found) >= newest:
                return

    def _changes(self, known: Table, mailbox: str, folder: str, link: str, patience: Patience) -> Tuple[Table, str]:
        """Follow a delta query to its deltaLink (message-delta.md); begins with the folder if there is no link.

        Never with $top: in a delta query it limits all pages together.
        """
        path = folder_path(folder) + "/messages/delta"
        params = {"$select": "id,receivedDateTime", "$expand": _EXPAND}
        sizes = iter(_PAGES)
        headers = immutable_pages(next(sizes))
        followed: Set[str] = set()
        found = Revision(known)

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
                # If the first page fails, it is left to the plain listing, which has its own smaller pages.
                if smaller is None or not followed or not _page_failed(error, patience):
                    raise
                _log.info("%s: a page of changes failed, trying a smaller one: %s", mailbox, error)
                headers = immutable_pages(smaller)
                continue
            for entry in entries:
                _apply(found, entry)
            if end:
                return found.oldest_first(), link
            followed.add(link)


def _page_failed(error: Temporary, patience: Patience) -> bool:
    """Whether a smaller page may succeed: Graph ran into its limits, and it is no pause and no dead connection."""
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


def _apply(found: Revision, entry: Any) -> None:
    """Apply one change.  It may be reported twice, and of a changed message nothing but the id may be there."""
    id = entry.get("id") if isinstance(entry, dict) else None
    if not id or not isinstance(id, str):
        return
    if "@removed" in entry:
        found.remove(id)
    else:
        found.note(id, max(0, int(seconds_of(entry.get("receivedDateTime")))), _estimate(entry))


def _estimate(entry: Dict[str, Any]) -> int:
    """Octets a message will have: 1.37 times its size in the store, where attachments are not base64.

    Only a guess: headers and properties weigh differently on small mail.  0 if nothing is said.
    """
    properties = entry.get("singleValueExtendedProperties")
    for known in properties if isinstance(properties, list) else ():
        try:
            if _is_size(known["id"]):
                return min(max(1, int(known["value"]) * 137 // 100), _SIZE_MOST)
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            continue
    return 0


@functools.lru_cache(16)
def _is_size(id: str) -> bool:
    """Whether an extended property is the size.  Graph writes the id in its own way: "Long 0xe08"."""
    return int(id.rpartition(" ")[2], 16) == _SIZE_TAG
