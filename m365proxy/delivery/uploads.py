"""A draft made of JSON and attachments, for mail that does not fit into one request (outlook-large-attachments.md).

Nothing here sends a message.  If no answer came, a file may still be in the
draft: the files are counted before it is added again.  A draft with too many
files is abandoned.
"""

from __future__ import annotations

import json
import re
import time
from functools import partial
from itertools import chain
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, TypeVar

from ..errors import Permanent, ProxyError, Temporary
from ..graph.answer import Answer, GraphRefused, GraphTrouble, NoAnswer, Throttled
from ..graph.body import REQUEST_LIMIT, Body, base64_body
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, item_of, message_path
from ..system import log
from .budget import MOST, UploadBudget
from .jsonmail import Attachment, LargeMail

logger = log.get("largedrafts")

# Octets of a PUT: below 4 MB, and a multiple of 320 KiB, which Microsoft's other upload sessions require.
CHUNK = 3_276_800

# The fewest octets that an upload session accepts; smaller files are posted.
_SMALLEST_UPLOAD = 3 * 1024 * 1024

# How many sessions are tried for one file, if they expire or are lost.
_SESSIONS = 3

# Seconds before each further try of what failed; for a 404 only the first three (GF 2.3: replication).
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
_WAITS_FOR_DRAFT = 3

# The longest pause (seconds) that is waited for here.  If Graph asks for a longer one, the draft is left as it is, and
# the caller is free for other mail.
_LONGEST_PAUSE = 60.0

# Seconds: a request may take this long to be answered, plus one second for every so many octets.
_SECONDS, _OCTETS_PER_SECOND = 120.0, 32 * 1024

_TOO_SMALL = "errorattachmentsizeshouldnotbelessthanminimumsize"
_JSON_END = b'"}'
_BEGIN_OF_RANGE = re.compile(r"\s*(\d{1,12})")


class UploadDenied(GraphRefused):
    """Graph allows no uploads to another user's mailbox (GF 2.3): make the draft in the signed-in user's own,
    with the same From.  This draft has the files added before, and must be deleted."""


class DraftSpoiled(Temporary):
    """The draft is not as it should be; delete it and start again.  Nothing was sent."""


# The failures after which a request may be tried again.
_FAILURES = (NoAnswer, Throttled, GraphTrouble, GraphRefused)
_Result = TypeVar("_Result")


class _Draft:
    """A draft being filled: how many files it `had` at first, how many it has, and whether it was ever unclear if one
    had arrived."""

    def __init__(self, mailbox: str, id: str, had: int = 0):
        self.mailbox = mailbox
        self.path = message_path(id) + "/attachments"
        self.count = self.had = had
        self.doubtful = False


class _Patience:
    """Waits before what failed is tried again."""

    def __init__(self, sleep: Callable[[float], None]):
        self._sleep = sleep

    def wait(self, mailbox: str, error: ProxyError, tries: int) -> None:
        """Sleep before the next try, at least as long as Graph asks; meanwhile no request is open and no slot is taken.

        Raises the error if there is no next try, or if the pause is too long to wait here.  In the second case it
        raises Throttled instead if Graph throttles the mailbox.
        """
        if tries >= len(_WAITS) or not _may_pass(error, tries):
            raise error
        asked = error.seconds if isinstance(error, Throttled) else 0.0
        if isinstance(error, GraphTrouble):
            asked = max(error.answer.retry_after, error.answer.throttled_for)
        if asked > _LONGEST_PAUSE:
            if isinstance(error, GraphTrouble) and error.answer.from_graph and error.answer.throttled_for:
                raise Throttled(mailbox, asked, request_id=error.answer.request_id)
            raise error
        self._sleep(max(_WAITS[tries], asked))

    def persist(self, mailbox: str, request: Callable[[], _Result]) -> _Result:
        """The result of a request that may be repeated no matter what became of it."""
        tries = 0
        while True:
            try:
                return request()
            except _FAILURES as error:
                self.wait(mailbox, error, tries)
                tries += 1


class LargeDrafts:
    """Makes such drafts.  Any thread may use it; the draft belongs to its caller."""

    def __init__(
        self,
        graph: Graph,
        *,
        most: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`most`: as in UploadBudget; `sleep` may raise to end a wait, as at a stop: an upload is then cancelled."""
        self._graph = graph
        self._patience = _Patience(sleep)
        self.budget = UploadBudget(most=most, monotonic=monotonic, sleep=sleep)

    def create(
        self,
        mailbox: str,
        mail: LargeMail,
        extended: Mapping[str, str],
        created: Callable[[Dict[str, Any]], None],
        attached: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Make the draft below a mailbox's URL, with further extended properties (id -> value), and fill it.

        `created` gets the new draft's JSON as soon as there is one, before
        anything is added; `attached` gets the number of its files after each.
        Raises what Graph.read raises; UploadDenied; DraftSpoiled; Permanent
        if an attachment cannot be read as it was.  After any of these the
        draft, if `created` was called, must be deleted; but after Throttled,
        or a GraphTrouble with 429, `go_on` may continue to fill it.
        """
        value = self._create(mailbox, mail, extended)
        created(value)
        self._fill(_Draft(mailbox, value["id"]), mail.attachments, attached)

    def persist(self, mailbox: str, request: Callable[[], _Result]) -> _Result:
        """The result of a request that may be repeated, with the patience that uploads have."""
        return self._patience.persist(mailbox, request)

    def count(self, mailbox: str, id: str) -> int:
        """How many files a draft has, as Graph counts them.  Raises what Graph.read raises."""
        return self._count(_Draft(mailbox, id))

    def holds(self, mailbox: str, id: str, count: int) -> bool:
        """Whether an unfinished draft has so many files, as Graph counts them.  Raises what Graph.read raises."""
        try:
            return self.count(mailbox, id) == count
        except GraphRefused as error:
            if error.answer.status != 404:
                raise
            return False

    def fill(
        self, mailbox: str, id: str, files: Sequence[Attachment], had: int, attached: Callable[[int], None]
    ) -> None:
        """Add files to a draft that was made with `had` others; like `create`."""
        self._fill(_Draft(mailbox, id, had), files, attached)

    def go_on(
        self,
        mailbox: str,
        id: str,
        files: Sequence[Attachment],
        count: int,
        attached: Callable[[int], None],
        had: int = 0,
    ) -> None:
        """Continue to fill an unfinished draft that `holds` the first `count` files, besides the `had` that it was
        made with; like `create`."""
        draft = _Draft(mailbox, id, had)
        draft.count += count
        draft.doubtful = True  # a file that was on its way when the draft was left may still appear in it
        self._fill(draft, files, attached)

    def _fill(self, draft: _Draft, files: Sequence[Attachment], attached: Callable[[int], None]) -> None:
        """Add the files that the draft does not have yet."""
        for attachment in files[draft.count - draft.had :]:
            self._add(draft, attachment)
            attached(draft.count - draft.had)
        if draft.doubtful and self._count(draft) != draft.had + len(files):
            raise DraftSpoiled("An attachment is in the draft twice or not at all; it is made anew.")

    def _create(self, mailbox: str, mail: LargeMail, extended: Mapping[str, str]) -> Dict[str, Any]:
        """POST /messages (user-post-messages.md), once: a repetition would make a second draft."""
        properties = [
            *mail.message.get("singleValueExtendedProperties", ()),
            *({"id": name, "value": value} for name, value in extended.items()),
        ]
        message = dict(mail.message, singleValueExtendedProperties=properties)
        # Not as \uXXXX: a long text in another script would not fit into the request.
        octets = json.dumps(message, ensure_ascii=False).encode("utf-8")
        self.budget.spend(mailbox, len(octets))
        with self._graph.read(
            "POST",
            mailbox,
            "/messages",
            headers={**IMMUTABLE, "Content-Type": "application/json"},
            body=lambda: Body(len(octets), [octets]),
            seconds=_seconds(len(octets)),
        ) as answer:
            return item_of(answer)

    def _add(self, draft: _Draft, attachment: Attachment) -> None:
        """Add one attachment, by POST or by upload session."""
        if attachment.size < _SMALLEST_UPLOAD and _json_size(attachment) <= REQUEST_LIMIT:
            self._post_once(draft, attachment)
        else:
            try:
                self._upload(draft, attachment)
            except GraphRefused as error:
                if error.answer.code.lower() != _TOO_SMALL:
                    raise
                # Too large for a POST, too small for an upload session: our reading of "4 MB" was too low.
                self._post_once(draft, attachment)
        draft.count += 1

    def _arrived(self, draft: _Draft) -> bool:
        """Whether the draft has one file more than we know of."""
        draft.doubtful = True
        return self._count(draft) > draft.count

    def _count(self, draft: _Draft) -> int:
        """How many attachments the draft has."""
        page = self._patience.persist(draft.mailbox, partial(self._page, draft, ""))
        found = len(page["value"])
        while page.get("@odata.nextLink"):
            page = self._patience.persist(draft.mailbox, partial(self._page, draft, page["@odata.nextLink"]))
            found += len(page["value"])
        return found

    def _page(self, draft: _Draft, link: str) -> Dict[str, Any]:
        """A page of the list of attachments: the first, or that of a nextLink."""
        if link:
            answer = self._graph.follow(draft.mailbox, link, headers=IMMUTABLE)
        else:
            answer = self._graph.read("GET", draft.mailbox, draft.path, params={"$select": "id"}, headers=IMMUTABLE)
        page = answer.json()
        if not isinstance(page.get("value"), list):
            raise GraphTrouble("Graph's list of attachments is not readable.", answer)
        return page

    # --- below 3 MB

    def _post_once(self, draft: _Draft, attachment: Attachment) -> None:
        """Get the file into the draft exactly once, however often it must be posted."""
        tries = 0
        while True:
            try:
                return self._post(draft, attachment)
            except _FAILURES as error:
                self._patience.wait(draft.mailbox, error, tries)
                if _may_have_happened(error) and self._arrived(draft):
                    return None
                tries += 1

    def _post(self, draft: _Draft, attachment: Attachment) -> None:
        """POST .../attachments (message-post-attachments.md), the content encoded while it is sent."""
        length = _json_size(attachment)
        self.budget.spend(draft.mailbox, length)
        answer = self._graph.read(
            "POST",
            draft.mailbox,
            draft.path,
            headers={**IMMUTABLE, "Content-Type": "application/json"},
            body=lambda: Body(length, _json_pieces(attachment)),
            seconds=_seconds(length),
        )
        if answer.status != 201:
            raise GraphTrouble(f"Graph's answer (HTTP {answer.status}) does not say that a file was attached.", answer)

    # --- 3 MB and more

    def _upload(self, draft: _Draft, attachment: Attachment) -> None:
        """Use an upload session, and another if it is lost."""
        for _ in range(_SESSIONS):
            url = self._begin(draft, attachment)
            done = False
            try:
                done = _Session(self._graph, self.budget, self._patience, draft, attachment, url).run()
            finally:
                if not done:
                    self._cancel(draft, url)
            if done:
                return
            # The session expired, or was complete without our knowing: then it is gone too.
            if self._arrived(draft):
                return
            logger.info("an upload session for %s was lost; a new one begins", draft.mailbox)
        raise DraftSpoiled(f"Graph lost {_SESSIONS} upload sessions for one attachment.")

    def _begin(self, draft: _Draft, attachment: Attachment) -> str:
        """createUploadSession (attachment-createuploadsession.md); the session's URL, which is a secret."""
        item = {"attachmentType": "file", "size": attachment.size, **_description(attachment)}

        def request() -> str:
            answer = self._graph.read(
                "POST",
                draft.mailbox,
                draft.path + "/createUploadSession",
                headers=IMMUTABLE,
                json={"AttachmentItem": item},
            )
            url = answer.json().get("uploadUrl")
            if not isinstance(url, str):
                raise GraphTrouble("Graph's answer to createUploadSession has no URL.", answer)
            return url

        try:
            return self._patience.persist(draft.mailbox, request)
        except GraphRefused as error:
            denied = error.answer.status == 403 and "denied" in error.answer.code.lower()
            if denied and draft.mailbox.lower() != self._graph.user:
                raise UploadDenied(
                    f"Large attachments are not permitted in {draft.mailbox} (HTTP 403 on createUploadSession).",
                    error.answer,
                ) from None
            raise

    def _cancel(self, draft: _Draft, url: str) -> None:
        """Cancel an upload session; one that cannot be cancelled expires by itself."""
        try:
            self._graph.upload("DELETE", draft.mailbox, url, {}, None)
        except (Temporary, Permanent) as error:
            logger.debug("an upload session was not cancelled: %s", error)


class _Session:
    """One upload session: its chunks in order, from the position that Graph names."""

    def __init__(
        self, graph: Graph, budget: UploadBudget, patience: _Patience, draft: _Draft, attachment: Attachment, url: str
    ):
        self._graph = graph
        self._budget = budget
        self._patience = patience
        self._draft = draft
        self._size = attachment.size
        self._source = _Source(attachment)
        self._url = url
        self._position = 0
        self._unsure = False  # whether the last chunk may have arrived without an answer

    def run(self) -> bool:
        """Send every octet.  False if the session is lost; raises what Graph.read raises."""
        furthest, tries = 0, 0
        while self._position < self._size:
            chunk = self._source.at(self._position, min(CHUNK, self._size - self._position))
            try:
                if not self._put(chunk):
                    return False
            except _FAILURES as error:
                self._unsure = self._unsure or _may_have_happened(error)
                self._patience.wait(self._draft.mailbox, error, tries)
            tries = 0 if self._position > furthest else tries + 1
            furthest = max(furthest, self._position)
            if tries > len(_WAITS):
                return False  # answers, but no progress
        return True

    def _put(self, chunk: bytearray) -> bool:
        """Send one chunk (outlook-large-attachments.md); False if the session is lost."""
        first = self._position
        after = first + len(chunk)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {first}-{after - 1}/{self._size}",
        }
        self._budget.spend(self._draft.mailbox, len(chunk))
        answer = self._graph.upload("PUT", self._draft.mailbox, self._url, headers, chunk)
        if answer.status in (404, 410):
            return False
        if answer.status == 416 or (self._unsure and answer.status in (400, 409)):
            return self._resynchronise(after)
        if not answer.ok:
            self._graph.raise_for_status(answer)
        complete = answer.status == 201 and after == self._size and not answer.is_foreign
        position = after if complete else _next_expected(answer)
        if position is None:
            # The answer broke off, or it is a page from something between.
            raise GraphTrouble(f"An upload was answered with HTTP {answer.status} and no next range.", answer)
        self._unsure = False
        self._position = position
        if position >= self._size and not (complete and answer.from_graph):
            # Everything arrived, but perhaps it was not Graph that said so: its upload host need not send a request-id.
            self._draft.doubtful = True
        return True

    def _resynchronise(self, after: int) -> bool:
        """Go to the chunk Graph expects: the one it names, else the next one if this one may have arrived already."""
        position: Optional[int] = None
        try:
            answer = self._graph.upload("GET", self._draft.mailbox, self._url, {}, None)
            if answer.ok:
                position = _next_expected(answer)
        except (NoAnswer, Throttled) as error:
            logger.debug("Graph did not answer how far an upload session is: %s", error)
        if position is None and self._unsure:
            position = after
        if position is None:
            return False
        self._unsure = False
        self._position = position
        self._draft.doubtful = True
        return True


class _Source:
    """An attachment's content by position.  Going back means decoding it from its beginning again."""

    def __init__(self, attachment: Attachment):
        self._attachment = attachment
        self._pieces: Iterator[bytes] = iter(())
        self._rest = b""
        self._next = -1  # the position where _rest begins; -1: not begun
        self._start = 0
        self._chunk = bytearray()

    def at(self, position: int, length: int) -> bytearray:
        """`length` octets; valid until the next call.  Permanent if the content is shorter than it was."""
        if self._chunk and (self._start, len(self._chunk)) == (position, length):
            return self._chunk
        if position != self._next:
            self._pieces, self._rest, self._next = self._attachment.chunks(), b"", 0
            while self._next < position:
                self._take(position - self._next)
        self._start = position
        self._chunk.clear()
        while len(self._chunk) < length:
            self._chunk += self._take(length - len(self._chunk))
        return self._chunk

    def _take(self, most: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                raise Permanent("The spooled message is shorter than it was. Is the disk damaged?")
            self._rest = piece
        taken, self._rest = self._rest[:most], self._rest[most:]
        self._next += len(taken)
        return taken


def _next_expected(answer: Answer) -> Optional[int]:
    """The position Graph expects next: the first of nextExpectedRanges (whose spelling varies); None if missing."""
    value = {key.lower(): part for key, part in answer.json().items()}.get("nextexpectedranges")
    first = value[0] if isinstance(value, list) and value else value
    match = _BEGIN_OF_RANGE.match(str(first))
    return int(match.group(1)) if match else None


def _may_pass(error: ProxyError, tries: int) -> bool:
    """Whether another try may help: always, except after a refusal that is not temporary."""
    if not isinstance(error, GraphRefused):
        return True
    # A draft is not known everywhere at once; and only one change at a time is accepted.
    return error.answer.status in (409, 412) or (error.answer.status == 404 and tries < _WAITS_FOR_DRAFT)


def _may_have_happened(error: ProxyError) -> bool:
    """Whether Graph may have carried out the request despite the error."""
    if isinstance(error, NoAnswer):
        return error.maybe_processed
    return isinstance(error, GraphTrouble) and error.answer.status not in (423, 429)


def _seconds(octets: int) -> float:
    return _SECONDS + octets / _OCTETS_PER_SECOND


def _description(attachment: Attachment) -> Dict[str, Any]:
    described = {"name": attachment.name, "contentType": attachment.content_type, "isInline": attachment.inline}
    return {**described, "contentId": attachment.content_id} if attachment.content_id else described


def _json_frame(attachment: Attachment) -> bytes:
    """A fileAttachment as JSON up to where its content begins; what follows that is _JSON_END."""
    value = {"@odata.type": "#microsoft.graph.fileAttachment", **_description(attachment), "contentBytes": ""}
    return json.dumps(value, ensure_ascii=False).encode("utf-8")[: -len(_JSON_END)]


def _json_size(attachment: Attachment) -> int:
    return len(_json_frame(attachment)) + (attachment.size + 2) // 3 * 4 + len(_JSON_END)


def _json_pieces(attachment: Attachment) -> Iterator[bytes]:
    content = base64_body(attachment.size, attachment.chunks())
    return chain([_json_frame(attachment)], content, [_JSON_END])
