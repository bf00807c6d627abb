"""Listings of the stand-in tenant: folders, pages of messages, changes (user-list-messages,
message-delta, mailfolder)."""

from __future__ import annotations

import re
from typing import Any, Callable, Collection, Dict, List, Optional, Sequence
from urllib.parse import quote, urlencode

from . import resource
from .mailstore import Folder, Item, Refusal
from .odata import Condition, Query
from .tenant import Tenant
from .webcall import Answer, Context, answer_json

# Items of a page by default, and the most that may be requested.
_PAGE, _LARGEST_PAGE = 10, 1000

_BOTH = {"$select", "$top", "$expand", "$filter", "$orderby", "$skiptoken"}
_MESSAGE_OPTIONS = frozenset(_BOTH | {"$skip", "$count"})
_DELTA_OPTIONS = frozenset(_BOTH | {"$deltatoken", "changetype"})


class FolderViews:
    """The listing calls; each takes a checked call and gives its answer."""

    def __init__(self, tenant: Tenant, base: Callable[[], str]):
        self._tenant = tenant
        self._base = base

    # --- folders

    def folder(self, context: Context) -> Answer:
        """One folder, by id or well-known name."""
        folder = context.box.folder(context.names[1])
        return answer_json(200, self._shown_folder(context, folder, Query(context.call.query)))

    def folders(self, context: Context) -> Answer:
        """The top-level folders, or the children of one folder."""
        query = Query(context.call.query)
        parent = context.box.folder(context.names[1] if len(context.names) > 1 else "msgfolderroot")
        wanted = _display_name(query.options.get("$filter"))
        found = [
            folder
            for folder in context.box.folders.values()
            if folder.parent == parent.id
            and folder.known != "recoverableitemsdeletions"
            and (wanted is None or folder.name.lower() == wanted.lower())
        ]
        top = query.number("$top", 1, _LARGEST_PAGE) or _PAGE
        skip = query.number("$skip", 0, 10**9) or 0
        value: Dict[str, Any] = {
            "value": [self._shown_folder(context, folder, query) for folder in found[skip : skip + top]]
        }
        if skip + top < len(found):
            value["@odata.nextLink"] = self._link(context, query, **{"$skip": str(skip + top)})
        return answer_json(200, value)

    def _shown_folder(self, context: Context, folder: Folder, query: Query) -> Dict[str, Any]:
        with self._tenant.lock:
            messages = self._tenant.visible(folder.items.values())
            shown = resource.shown_folder(context.box, folder, messages)
        select = query.select(list(shown))
        return {key: shown[key] for key in shown if select is None or key in select or key == "id"}

    # --- messages

    def messages(self, context: Context) -> Answer:
        """A page of the messages of one folder, or of all folders (in no guaranteed order)."""
        query = _known_options(Query(context.call.query), _MESSAGE_OPTIONS)
        conditions = query.conditions()
        _, descending = query.order(conditions)
        folders = list(context.box.folders.values())
        if context.names[0] == "mailFolders":
            folders = [context.box.folder(context.names[1])]
        with self._tenant.lock:
            items = self._tenant.visible(item for folder in folders for item in folder.items.values())
        items = _matching(items, conditions)
        if descending:
            items.reverse()
        start = query.number("$skip", 0, 10**9) or 0
        size = self._page_size(context, query)
        if self._tenant.page_empty and start and query.options.get("$skiptoken") != "e":
            link = self._link(context, query, **{"$skip": str(start), "$skiptoken": "e"})
            return answer_json(200, {"value": [], "@odata.nextLink": link})
        page = items[start : start + size]
        value: Dict[str, Any] = {}
        if query.options.get("$count", "").lower() == "true":
            value["@odata.count"] = len(items)
        if start + size < len(items):
            value["@odata.nextLink"] = self._link(context, query, **{"$skip": str(start + size), "$skiptoken": ""})
        if self._tenant.page_duplicate and start:
            page = items[start - 1 : start] + page
        value["value"] = self._shown(context, query, page)
        return answer_json(200, value)

    def _page_size(self, context: Context, query: Query) -> int:
        wish = re.search(r"odata\.maxpagesize\s*=\s*(\d{1,6})", context.call.headers.get("prefer", ""))
        size = query.number("$top", 1, _LARGEST_PAGE) or (int(wish.group(1)) if wish else _PAGE)
        size = max(1, min(size, self._tenant.page_cap))
        return max(1, size - 1) if self._tenant.page_short else size

    def _shown(self, context: Context, query: Query, items: Sequence[Item]) -> List[Dict[str, Any]]:
        select = query.select(sorted(resource.SELECTABLE))
        expand = query.expand()
        return [resource.shown(i, select, expand, context.immutable, self._tenant.store_size) for i in items]

    def _link(self, context: Context, query: Query, **changes: str) -> str:
        options = {**query.options, **changes}
        kept = {name: value for name, value in options.items() if value}
        return f"{self._base()}{context.call.path}?{urlencode(kept, quote_via=quote, safe='$')}"

    # --- delta

    def delta(self, context: Context) -> Answer:
        """Changes of one folder: everything first, then since a token (message-delta).

        A $skiptoken is "first.since.until": where the page begins in what changed between two moments.
        """
        query = _known_options(Query(context.call.query), _DELTA_OPTIONS)
        if any(condition.property != "receivedDateTime" for condition in query.conditions()):
            raise Refusal(400, "ErrorInvalidUrlQuery", "Only receivedDateTime can be filtered by.")
        first, since, until = self._position(query)
        folder = context.box.folder(context.names[1])
        with self._tenant.lock:
            items = [item for item in self._tenant.visible(folder.items.values()) if since < item.changed <= until]
            removed = [entry for entry in folder.removed if since < entry[0] <= until] if since else []
        items = _matching(items, query.conditions())
        size = self._page_size(context, query)
        value: Dict[str, Any] = {"value": self._shown(context, query, items[first : first + size])}
        options = {"$skiptoken": "", "$deltatoken": ""}
        if first + size < len(items):
            options["$skiptoken"] = f"{first + size}.{since}.{until}"
            value["@odata.nextLink"] = self._link(context, query, **options)
        else:
            here = {item.key for item in folder.items.values()}
            value["value"] += [
                {"id": immutable if context.immutable else classic, "@removed": {"reason": "deleted"}}
                for _, classic, immutable in removed
                if not self._returned(immutable, here, context)
            ]
            options["$deltatoken"] = str(until)
            value["@odata.deltaLink"] = self._link(context, query, **options)
        return answer_json(200, value)

    def _returned(self, immutable: str, here: Collection[int], context: Context) -> bool:
        """Whether an item that left the folder is in it again."""
        try:
            return self._tenant.find(context.box, immutable).key in here
        except Refusal:
            return False

    def _position(self, query: Query) -> Sequence[int]:
        token, skip = query.options.get("$deltatoken", ""), query.options.get("$skiptoken", "")
        if (token or skip) and self._tenant.delta_lost:
            self._tenant.delta_lost = False
            raise Refusal(410, "syncStateNotFound", "The sync state generation is not found; resync is needed.")
        if skip:
            if not re.fullmatch(r"\d+\.\d+\.\d+", skip):
                raise Refusal(400, "ErrorInvalidUrlQuery", "Badly formed token.")
            return [int(part) for part in skip.split(".")]
        if token and not token.isdigit():
            raise Refusal(400, "ErrorInvalidUrlQuery", "Badly formed token.")
        return [0, int(token or 0), self._tenant.change()]


def _known_options(query: Query, known: Collection[str]) -> Query:
    for name in query.options:
        if name not in known:
            raise Refusal(400, "BadRequest", f"Query option '{name}' is not supported here.")
    return query


def _matching(items: Sequence[Item], conditions: Sequence[Condition]) -> List[Item]:
    return [item for item in items if all(condition.holds(item) for condition in conditions)]


def _display_name(text: Optional[str]) -> Optional[str]:
    """The only filter on folders that is supported here: displayName eq 'X'."""
    if text is None:
        return None
    match = re.fullmatch(r"displayName\s+eq\s+'((?:[^']|'')*)'", text.strip())
    if not match:
        raise Refusal(400, "BadRequest", f"Cannot filter folders by '{text}'.")
    return match.group(1).replace("''", "'")
