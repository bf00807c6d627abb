"""Drafts in Exchange: made, marked, sent, and looked for when nobody knows what became of them.

A marker property with this installation's id and the queue id distinguishes our
drafts from all others.  A bare draft has none: where sentids.py knows that its
id is enough to find it again.
"""

from __future__ import annotations

import enum
import hashlib
import json
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..graph.answer import Answer, GraphRefused, GraphTrouble
from ..graph.body import base64_body
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, folder_path, iso_of, item_of, message_path, seconds_of
from ..mime.addresses import Mailbox
from ..mime.prepare import Prepared
from ..spool.state import DraftPhase, DraftState
from .form import Form, Reader

# A named string property of our own (singlevaluelegacyextendedproperty).
MARKER = "String {3d0f2a5e-6c1b-4f0e-9a57-51c08f1e2b77} Name M365ProxyQueueId"
_EXPANDED_MARKER = f"singleValueExtendedProperties($filter=id eq '{MARKER}')"

# What shows whether a human edited a draft, and where it is.
_FIELDS = (
    "id,isDraft,parentFolderId,changeKey,internetMessageId,sentDateTime,subject,toRecipients,ccRecipients,"
    "bccRecipients,hasAttachments,body"
)

# What is asked of the attachments of a draft.  Not contentId, which would be refused (graph-explorer-v4#3916).
_OF_FILES = "attachments($select=id,name,size)"

# Octets of Exchange's MIME of a draft that are read, beyond twice those that it was made of.
_MORE_MIME = 256 * 1024

# Seconds: a request may take this long to be answered, plus one second for every so many octets.
SEND_SECONDS = 120.0
OCTETS_PER_SECOND = 32 * 1024

# Our reading of Graph's clock may be wrong by this many seconds: its Date header has whole seconds only.
_CLOCK_TOLERANCE = 10.0


class Found(enum.Enum):
    """What became of a draft."""

    SENT = "sent"
    COPY = "copy"  # sent: a copy in Sent Items shows it, and the draft's id does not
    DRAFT = "draft"  # it is in Drafts, untouched
    EDITED = "edited"
    ELSEWHERE = "elsewhere"  # not sent, and not in Drafts
    GONE = "gone"  # so far, neither the draft nor a sent copy can be found


# By a draft's phase, values that replace an item's own before the item is compared with the draft: they stand for
# what was not on the draft when it was last read, and may or may not have been added since.
_NOT_COMPARED: Dict[DraftPhase, Sequence[Dict[str, Any]]] = {
    DraftPhase.MADE: [{"bccRecipients": []}],
    DraftPhase.FILLING: [{"hasAttachments": False}],
    DraftPhase.BARE: [{}],
    DraftPhase.READY: [{}],
    DraftPhase.DELETING: [{}, {"bccRecipients": []}, {"hasAttachments": False}],
}


def draft_state(phase: DraftPhase, mailbox: str, value: Dict[str, Any]) -> DraftState:
    """What the program remembers of a draft, from its JSON; `mailbox` is the mailbox of its URL."""
    return DraftState(
        phase,
        mailbox,
        str(value.get("id", "")),
        str(value.get("internetMessageId") or ""),
        str(value.get("changeKey") or ""),
        fingerprint({**value, **_NOT_COMPARED[phase][0]} if phase is DraftPhase.FILLING else value),
    )


def _is_unchanged(draft: DraftState, value: Dict[str, Any]) -> bool:
    """Whether nobody has edited a draft, as far as we can tell."""
    prints = (fingerprint({**value, **replaced}) for replaced in _NOT_COMPARED[draft.phase])
    return value.get("changeKey") == draft.change_key or draft.print in prints


def fingerprint(value: Dict[str, Any]) -> str:
    """A hash of what a human would edit in a message."""
    body = value.get("body") or {}
    edited = [
        value.get("subject") or "",
        [sorted(_addresses(value.get(name))) for name in ("toRecipients", "ccRecipients", "bccRecipients")],
        bool(value.get("hasAttachments")),
        "".join(str(body.get("content", "")).split()),
    ]
    return hashlib.sha256(json.dumps(edited).encode()).hexdigest()[:32]


def outline(value: Dict[str, Any]) -> List[Any]:
    """What of a message does not change when files are added to it: its Message-ID, subject, recipients, and whether
    its text is HTML."""
    people = [sorted(_addresses(value.get(name))) for name in ("toRecipients", "ccRecipients", "bccRecipients")]
    kind = str((value.get("body") or {}).get("contentType", "")).lower()
    return [value.get("internetMessageId"), value.get("subject"), people, kind]


def _addresses(recipients: Any) -> Iterator[str]:
    for recipient in recipients if isinstance(recipients, list) else ():
        yield str((recipient.get("emailAddress") or {}).get("address", "")).lower()


class Drafts:
    """The calls; any thread may use them.  They raise what Graph.read raises, unless said otherwise."""

    def __init__(self, graph: Graph, installation: str, adopted: Iterable[str] = ()):
        """`installation`: this installation's random id; `adopted`: those whose queues it has taken over."""
        self._graph = graph
        self._installation = installation
        self._ours = {installation, *adopted}
        self._folders: Dict[Tuple[str, str], str] = {}  # mailbox and the name of a folder of it -> the folder's id

    def mark(self, queue_id: str, owner: str = "") -> str:
        """The marker's value for a queue id; `owner`: the installation it was adopted from, if it was.

        Methods that have the argument `mark` want this.
        """
        return f"{owner or self._installation} {queue_id}"

    def create(self, mailbox: str, prepared: Prepared) -> Dict[str, Any]:
        """POST /messages with MIME (user-post-messages.md); the new draft's JSON.

        Without Bcc, which is set together with the marker: no document says that Exchange removes Bcc from MIME.
        """
        prepared = prepared.without_bcc()
        with self._graph.read(
            "POST",
            mailbox,
            "/messages",
            headers={**IMMUTABLE, "Content-Type": "text/plain"},
            body=lambda: base64_body(prepared.size, prepared.chunks()),
            seconds=SEND_SECONDS + prepared.size / OCTETS_PER_SECOND,
        ) as answer:
            return item_of(answer)

    def put_marker(self, mailbox: str, id: str, mark: str, bcc: Sequence[Mailbox]) -> Dict[str, Any]:
        """PATCH the marker and Bcc onto a draft (message-update.md); the draft's JSON afterwards."""
        changes: Dict[str, Any] = {"singleValueExtendedProperties": [{"id": MARKER, "value": mark}]}
        if bcc:
            changes["bccRecipients"] = [{"emailAddress": {"address": hidden.address}} for hidden in bcc]
        with self._graph.read("PATCH", mailbox, message_path(id), headers=IMMUTABLE, json=changes) as answer:
            return item_of(answer)

    def send(self, mailbox: str, id: str) -> Answer:
        """POST send (message-send.md); the answer, whatever it is."""
        return self._graph.call("POST", mailbox, message_path(id) + "/send", headers=IMMUTABLE, seconds=SEND_SECONDS)

    def delete(self, mailbox: str, id: str) -> None:
        """Delete a draft; it is no error if it is already gone."""
        try:
            answer = self._graph.read("DELETE", mailbox, message_path(id), headers=IMMUTABLE)
            if answer.status != 204:
                raise GraphTrouble(
                    f"Graph's answer (HTTP {answer.status}) does not say that a draft was deleted.", answer
                )
        except GraphRefused as error:
            # An item in Recoverable Items cannot be deleted: it is already deleted for good.
            if error.answer.status != 404 and error.answer.code.lower() != "errorcannotdeleteobject":
                raise

    def purge(self, mailbox: str, id: str) -> None:
        """Delete an item for good (message-permanentdelete.md); as `delete` in a cloud that cannot do that."""
        try:
            self._graph.read("POST", mailbox, message_path(id) + "/permanentDelete", headers=IMMUTABLE)
        except GraphRefused as error:
            if error.answer.status not in (400, 404, 405):
                raise
            self.delete(mailbox, id)

    def get(self, mailbox: str, id: str) -> Optional[Dict[str, Any]]:
        """An item with what `draft_state` needs; None if there is none with this id."""
        return self._get(mailbox, id, {"$select": _FIELDS})

    def leads_to_copy(self, mailbox: str, id: str) -> bool:
        """Whether a draft's id leads to a copy in Sent Items; while it is being sent it may be anywhere."""
        value = self._get(mailbox, id, {"$select": "id,isDraft,parentFolderId"})
        if value is None or not is_sent(value):
            return False
        return value.get("parentFolderId") == self._folder(mailbox, "sentitems")

    def get_with_files(self, mailbox: str, id: str) -> Optional[Dict[str, Any]]:
        """Like `get`, with the names and sizes of its attachments."""
        return self._get(mailbox, id, {"$select": _FIELDS, "$expand": _OF_FILES})

    def _get(self, mailbox: str, id: str, params: Dict[str, str]) -> Optional[Dict[str, Any]]:
        try:
            with self._graph.read("GET", mailbox, message_path(id), params=params, headers=IMMUTABLE) as answer:
                return item_of(answer)
        except GraphRefused as error:
            if error.answer.status == 404:
                return None
            raise

    def form(self, mailbox: str, id: str, octets: int, enough: Callable[[Form], bool]) -> Form:
        """The form of the MIME that Exchange writes of a draft (outlook-get-mime-message.md).

        `octets`: of the MIME that it was made of.  Files follow that, so reading ends soon after them, or once what
        was read is `enough`.
        """
        reader = Reader()
        with self._graph.read(
            "GET", mailbox, message_path(id) + "/$value", headers=IMMUTABLE, stream=True, seconds=SEND_SECONDS
        ) as answer:
            for chunk in answer.chunks():
                reader.feed(chunk)
                if reader.octets > 2 * octets + _MORE_MIME or enough(reader.form):
                    break
        return reader.form

    def look(self, draft: DraftState, mark: str, message_id: str, since: Optional[float]) -> Found:
        """What became of a draft.

        `since`: when it was posted, by Graph's clock; None if it was not, and then only the draft's id and the
        marker can prove that somebody sent it.
        """
        value = self.get(draft.mailbox, draft.id)
        if value is not None and not value.get("isDraft", True):
            return Found.SENT
        copies = self._marked_copies(draft.mailbox, mark)
        # Many devices put one Message-ID on all their mail: as long as ours is a draft, a copy is of another mail.
        if not copies and value is None and since is not None:
            copies = self._copies(draft, mark, message_id, since)
        if copies:  # the draft itself may have become one since it was asked for
            return Found.SENT if draft.id in copies else Found.COPY
        if value is None:
            return Found.GONE
        if value.get("parentFolderId") != self._folder(draft.mailbox, "drafts"):
            return Found.ELSEWHERE
        return Found.DRAFT if _is_unchanged(draft, value) else Found.EDITED

    def orphans(self, mailbox: str, mark: str, message_id: str, since: float) -> Tuple[List[str], List[str]]:
        """Ids of drafts whose creation was interrupted: those with our marker; those that may be ours by Message-ID.

        A mail program may keep a draft of its own under the Message-ID it sends with, and another gateway may be
        creating one.  So a draft can be ours only if it was created after `since` (when we requested ours, by Graph's
        clock) and does not have another marker.
        """
        ours = [str(item["id"]) for item in self._search(mailbox, "drafts", _marker_filter(mark))]
        doubtful = [
            str(item["id"])
            for item in self._search(mailbox, "drafts", _message_id_filter(message_id))
            if seconds_of(item.get("createdDateTime")) >= since - _CLOCK_TOLERANCE and not _is_anothers(item, mark)
        ]
        return ours, [id for id in doubtful if id not in ours]

    def delete_twins(self, draft: DraftState, mark: str, message_id: str, since: float) -> None:
        """Delete what an interrupted attempt left: unmarked drafts with our Message-ID and the content of `draft`."""
        for id in self.orphans(draft.mailbox, mark, message_id, since)[1]:
            value = self.get(draft.mailbox, id) if id != draft.id else None
            if value is not None and value.get("isDraft", True) and fingerprint(value) == draft.print:
                self.delete(draft.mailbox, id)

    def marked(self, mailbox: str, folder: str, since: float = 0.0) -> Iterator[Dict[str, Any]]:
        """Items of a folder with this installation's marker, or an adopted one's: id, queue_id, isDraft and two dates.

        `since`: only those that were made then or later, by Exchange's clock.
        """
        params = {
            "$select": "id,isDraft,sentDateTime,createdDateTime",
            "$top": "100",
            "$expand": _EXPANDED_MARKER,
        }
        if since > 0:
            params["$filter"] = f"createdDateTime ge {iso_of(since)}"
        answer = self._graph.read("GET", mailbox, folder_path(folder) + "/messages", params=params, headers=IMMUTABLE)
        while True:
            with answer:
                page = answer.json()
            if not isinstance(page.get("value"), list):
                raise GraphTrouble("Graph's answer to a search is not readable.", answer)
            for item in page["value"]:
                installation, _, queue_id = _marker_of(item).partition(" ")
                if installation in self._ours:
                    yield {**item, "queue_id": queue_id}
            if not page.get("@odata.nextLink"):
                return
            answer = self._graph.follow(mailbox, page["@odata.nextLink"], headers=IMMUTABLE)

    def _marked_copies(self, mailbox: str, mark: str) -> List[str]:
        """Ids of our mail in Sent Items, by its marker; if somebody copied the draft there, it is still a draft."""
        found = self._search(mailbox, "sentitems", _marker_filter(mark))
        return [str(item["id"]) for item in found if is_sent(item)]

    def _copies(self, draft: DraftState, mark: str, message_id: str, since: float) -> List[str]:
        """Ids of mail in Sent Items with our Message-ID, sent since we posted and not known to be another's."""
        return [
            str(item["id"])
            for wanted in dict.fromkeys(filter(None, (draft.message_id, message_id)))
            for item in self._search(draft.mailbox, "sentitems", _message_id_filter(wanted))
            if seconds_of(item.get("sentDateTime")) >= since - _CLOCK_TOLERANCE
            and is_sent(item)
            and not _is_anothers(item, mark)
        ]

    def _search(self, mailbox: str, folder: str, condition: str) -> List[Dict[str, Any]]:
        params = {
            "$filter": condition,
            "$select": "id,isDraft,sentDateTime,createdDateTime",
            "$top": "20",
            "$expand": _EXPANDED_MARKER,
        }
        with self._graph.read(
            "GET", mailbox, folder_path(folder) + "/messages", params=params, headers=IMMUTABLE
        ) as answer:
            value = answer.json().get("value")
        if not isinstance(value, list):
            raise GraphTrouble("Graph's answer to a search is not readable.", answer)
        return value

    def _folder(self, mailbox: str, name: str) -> str:
        if (mailbox, name) not in self._folders:
            with self._graph.read(
                "GET", mailbox, folder_path(name), params={"$select": "id"}, headers=IMMUTABLE
            ) as answer:
                self._folders[mailbox, name] = str(item_of(answer)["id"])
        return self._folders[mailbox, name]


def is_sent(item: Dict[str, Any]) -> bool:
    """Whether an item of Sent Items was sent: somebody may have moved a draft there."""
    return not item.get("isDraft", True)


def _marker_filter(value: str) -> str:
    return f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARKER}' and ep/value eq '{value}')"


def _message_id_filter(message_id: str) -> str:
    return "internetMessageId eq '" + message_id.replace("'", "''") + "'"


def _is_anothers(item: Dict[str, Any], mark: str) -> bool:
    """Whether an item has the marker of another queue id, or of another installation."""
    return _marker_of(item) not in ("", mark)


def _marker_of(item: Dict[str, Any]) -> str:
    for found in item.get("singleValueExtendedProperties") or ():
        return str(found.get("value", ""))
    return ""
