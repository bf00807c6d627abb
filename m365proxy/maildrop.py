"""A mailbox folder as POP3 sees it: a snapshot of ids, copies of messages, deletion at the end.

Exchange makes a message's MIME anew on each call (outlook-get-mime-message.md):
boundaries and header order may differ.  So what a session fetched once is kept
and served again, and UIDLs come from ids, never from content.
"""

from __future__ import annotations

import collections
import email.utils
import hashlib
import os
import secrets
import threading
import time
from datetime import datetime, timezone
from typing import (
    Any,
    BinaryIO,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
)
from urllib.parse import quote

from . import files, log
from .errors import InUse, Permanent, ProxyError, Temporary
from .folders import PREFER, Folders, Listed, Patience
from .graph import GraphUnreachable, NoAnswer, Refused, parse_retry_after
from .wire import CRLF, crlf

_log = log.get("maildrop")

# Longest silence of Graph within a message, which it makes while we wait (seconds).
_VALUE_SECONDS = 300.0

# A message whose fetch breaks off is fetched whole again, this often in all.
_FETCHES = 2

# Requests in one $batch (json-batching.md); how often what it put off is asked again, and
# the pause before that when Graph names none (seconds).
_BATCH = 20
_ROUNDS = 4
_PAUSE_UNSAID = 2.0
_AGAIN = (412, 423, 429, 503, 504)

# Pauses one QUIT bears (seconds): most clients do not wait for its answer, so there is time.
_DELETE_PATIENCE = 300.0

_COPY = ".copy"

_SUBSTITUTE = """\
From: m365proxy <{mailbox}>
To: {mailbox}
Subject: A damaged message stands here
{date}Message-ID: <{uidl}@m365proxy.invalid>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Exchange cannot give out the message that stands here in {mailbox}:
it says that the item is damaged (ErrorCorruptData).

The item itself is still in the mailbox. Look at it with Outlook, or have an
administrator repair the mailbox (New-MailboxRepairRequest). Deleting this
text by POP3 never destroys the item.
"""


class Item:
    """One message of a snapshot.

    `size` is in octets as RETR sends them, dot-stuffing aside: an estimate
    until the message was fetched.  `doubtful`: what was served is not the
    whole message, so it is never deleted for good.
    """

    __slots__ = ("id", "uidl", "size", "received", "copy", "doubtful")

    def __init__(self, listed: Listed):
        self.id = listed.id
        # RFC 1939 section 7: at most 70 printable characters, the same in every session.
        self.uidl = hashlib.sha256(listed.id.encode()).hexdigest()[:40]
        self.size = listed.size
        self.received = listed.received
        self.copy = ""
        self.doubtful = False


class Maildrops:
    """The registry of open maildrops: one session at a time per mailbox and folder (RFC 1939 section 4).

    `directory` holds the sessions' copies and nothing else; what an earlier
    run left there is removed.  `max_messages` shows only the newest so many
    (0: all).  `copies_limit` bounds what one session keeps on disk, in octets;
    its newest copy always stays.  Any thread may call.
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
        self._folders = Folders(graph, sleep=sleep, clock=clock)
        self._holders: Dict[Tuple[str, str], str] = {}
        self._lock = threading.Lock()
        files.make_directory(directory)
        for name in os.listdir(directory):
            if name.endswith(_COPY):
                files.remove(os.path.join(directory, name))

    def open(self, user, peer: str) -> Maildrop:
        """Take the user's folder for a session from `peer`, and list it.

        InUse if another session has it; Permanent names what the account
        lacks; Temporary and SignInNeeded if Graph cannot be asked now.
        """
        key = (user.mailbox, user.folder.casefold())
        with self._lock:
            if key in self._holders:
                raise InUse(f"Another session, from {self._holders[key]}, is reading {user.mailbox}.")
            self._holders[key] = peer
        try:
            listed = self._folders.list(user.mailbox, user.folder, self._max_messages)
        except BaseException:
            self._release(key)
            raise
        copies = Copies(self._directory, self._copies_limit)
        return Maildrop(self._graph, self._folders, user, listed, copies, self._sleep, lambda: self._release(key))

    def _release(self, key: Tuple[str, str]) -> None:
        with self._lock:
            self._holders.pop(key, None)


class Copies:
    """The files of one session's messages, oldest first; for one thread."""

    def __init__(self, directory: str, limit: int):
        self._stem = os.path.join(directory, secrets.token_hex(8))
        self._limit = limit
        self._made = 0
        self._total = 0
        self._items: Deque[Item] = collections.deque()

    def keep(self, item: Item, chunks: Iterable[bytes]) -> None:
        """Write a message down, whole or not at all; the item's `size` and `copy` tell of it.

        Temporary if the disk refuses.
        """
        self._made += 1
        path = f"{self._stem}-{self._made}{_COPY}"
        size = 0
        try:
            with files.create(path) as file:
                for chunk in chunks:
                    file.write(chunk)
                    size += len(chunk)
        except OSError as error:
            files.remove(path)
            raise Temporary(f"The message cannot be put on this machine's disk: {error.strerror}.") from None
        except BaseException:
            files.remove(path)
            raise
        item.copy, item.size = path, size
        self._items.append(item)
        self._total += size
        while len(self._items) > 1 and self._total > self._limit:
            self._drop_oldest()

    def clear(self) -> None:
        while self._items:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        item = self._items.popleft()
        path, item.copy = item.copy, ""
        self._total -= item.size
        try:
            files.remove(path)
        except OSError as error:
            # Windows keeps a file that is open; the next start removes it.
            _log.warning("%s cannot be removed: %s", path, error.strerror)


class Maildrop:
    """One session's snapshot of a folder.  Belongs to the thread that opened it; close it."""

    def __init__(
        self,
        graph,
        folders: Folders,
        user,
        listed: Sequence[Listed],
        copies: Copies,
        sleep: Callable[[float], object],
        release: Callable[[], None],
    ):
        self.messages = [Item(one) for one in listed]
        self._graph = graph
        self._folders = folders
        self._user = user
        self._mailbox = user.mailbox
        self._copies = copies
        self._sleep = sleep
        self._release = release

    def retrieve(self, index: int) -> BinaryIO:
        """The whole message at `index` (from 0), CRLF line ends, open at its beginning; the caller closes it.

        Fetched once, then kept for the session as far as `copies_limit`
        allows.  A damaged item becomes a text that says so.  Permanent if it
        is gone; Temporary and SignInNeeded if it cannot be had now.
        """
        item = self.messages[index]
        if not item.copy:
            self._fetch(item)
        return open(item.copy, "rb")

    def delete(self, indices: Sequence[int]) -> int:
        """Carry out the user's `pop3_delete` on these messages; how many could not be.

        What is gone already counts as done.  Raises nothing: trouble is logged and counted.
        """
        items = [self.messages[index] for index in indices]
        policy = self._user.pop3_delete
        patience = Patience(self._graph, self._mailbox, self._sleep, _DELETE_PATIENCE)
        left = set() if policy == "keep" else set(items)
        try:
            if self._user.pop3_mark_read:
                self._mark_read(items, patience)
            if policy == "permanent":
                items = self._destroy(items, left, patience)
            if policy != "keep":
                self._move(items, left, patience)
        except ProxyError as error:
            _log.warning("%s: deletion stopped, %d messages remain: %s", self._mailbox, len(left), error)
        return len(left)

    def close(self) -> None:
        """Remove the copies and let the next session in; again is fine."""
        self._copies.clear()
        self._release()
        self._release = _nothing

    # -- fetching ---------------------------------------------------------

    def _fetch(self, item: Item) -> None:
        """Bring the item's copy; whole again if Graph breaks off (it knows no ranges)."""
        item.doubtful = True  # until it is here whole
        patience = Patience(self._graph, self._mailbox, self._sleep)
        for tries_left in reversed(range(_FETCHES)):
            try:
                self._download(item, patience)
                item.doubtful = False
                return
            except Refused as refused:
                if refused.answer.status == 404:
                    raise Permanent("This message is gone from the mailbox.") from None
                raise
            except (NoAnswer, GraphUnreachable) as error:
                if isinstance(error, NoAnswer) and error.answer.code.lower() == "errorcorruptdata":
                    _log.warning("%s: a damaged message (UIDL %s) is replaced by a text", self._mailbox, item.uidl)
                    self._copies.keep(item, [self._substitute(item)])
                    return
                if not tries_left:
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)

    def _download(self, item: Item, patience: Patience) -> None:
        path = _path(item) + "/$value"
        answer = patience.ask(
            lambda: self._graph.read("GET", self._mailbox, path, headers=PREFER, stream=True, seconds=_VALUE_SECONDS)
        )
        with answer:
            if not answer.request_id:
                raise Temporary("Something between here and Graph answered in its place.")
            self._copies.keep(item, normalised(answer.chunks()))

    def _substitute(self, item: Item) -> bytes:
        text = _SUBSTITUTE.format(mailbox=self._mailbox, uidl=item.uidl, date=_date_line(item.received))
        return crlf(text.encode("utf-8"))

    # -- deletion ---------------------------------------------------------

    def _mark_read(self, items: Sequence[Item], patience: Patience) -> None:
        """Best effort: a message not marked is deleted all the same."""
        outcomes = self._each(items, "PATCH", "", {"isRead": True}, patience)
        self._report("marked as read", [o for o in outcomes if not o.ok and o.status != 404])

    def _destroy(self, items: Sequence[Item], left: Set[Item], patience: Patience) -> List[Item]:
        """Delete for good what may be; returns what must be moved to Deleted Items instead."""
        moves = [item for item in items if item.doubtful]
        failed = []
        sure = [item for item in items if not item.doubtful]
        for outcome in self._each(sure, "POST", "/permanentDelete", None, patience):
            if outcome.ok:
                left.discard(outcome.item)
            elif outcome.status in (400, 404, 405):  # a cloud without permanentDelete, or the item is gone
                moves.append(outcome.item)
            else:
                failed.append(outcome)
        self._report("deleted", failed)
        return moves

    def _move(self, items: Sequence[Item], left: Set[Item], patience: Patience) -> None:
        kind, _, folder = self._user.pop3_delete.partition(":")
        # Confirmed, because a 404 from a move may then only mean the message.
        target = self._folders.confirm(self._mailbox, folder) if kind == "move" else "deleteditems"
        failed = []
        for outcome in self._each(items, "POST", "/move", {"destinationId": target}, patience):
            if outcome.ok or outcome.status == 404:
                left.discard(outcome.item)
            else:
                failed.append(outcome)
        self._report("deleted", failed)

    def _report(self, what: str, failed: Sequence[_Outcome]) -> None:
        causes = sorted({f"HTTP {outcome.status} {log.clean(outcome.code, 60)}" for outcome in failed})
        if causes:
            _log.warning("%s: %d messages were not %s: %s", self._mailbox, len(failed), what, ", ".join(causes))

    def _each(
        self, items: Sequence[Item], method: str, suffix: str, json: Any, patience: Patience
    ) -> Iterator[_Outcome]:
        """One request per item, twenty at a time; outcomes as they come in."""
        for start in range(0, len(items), _BATCH):
            waiting = list(items[start : start + _BATCH])
            for rounds_left in reversed(range(_ROUNDS)):
                outcomes = self._batch(waiting, method, suffix, json, patience)
                put_off = [outcome for outcome in outcomes if outcome.status in _AGAIN]
                pause = max((outcome.pause for outcome in put_off), default=0.0)
                if not (put_off and rounds_left and patience.wait(pause or _PAUSE_UNSAID)):
                    yield from outcomes
                    break
                yield from (outcome for outcome in outcomes if outcome.status not in _AGAIN)
                waiting = [outcome.item for outcome in put_off]

    def _batch(self, items: Sequence[Item], method: str, suffix: str, json: Any, patience: Patience) -> List[_Outcome]:
        """POST $batch; what it leaves unanswered counts as put off (503)."""
        root = self._graph.root(self._mailbox)
        requests = []
        for number, item in enumerate(items):
            request = {
                "id": str(number),
                "method": method,
                "url": root + _path(item) + suffix,
                "headers": dict(PREFER),
            }
            if json is not None:
                request["headers"]["Content-Type"] = "application/json"
                request["body"] = json
            requests.append(request)
        answers = self._post(requests, patience)
        return [_Outcome(item, answers.get(str(number))) for number, item in enumerate(items)]

    def _post(self, requests: List[Dict[str, Any]], patience: Patience) -> Dict[str, Dict[str, Any]]:
        """The inner answers by id.  Repeating is safe: what was done answers 404 or moves nowhere."""
        for tries_left in reversed(range(_FETCHES)):
            try:
                answer = patience.ask(lambda: self._graph.batch(self._mailbox, requests))
                break
            except (NoAnswer, GraphUnreachable):
                if not tries_left:
                    raise
        inner = answer.json().get("responses")
        if not isinstance(inner, list):
            return {}
        return {str(one.get("id")): one for one in inner if isinstance(one, dict)}


class _Outcome:
    """What one request of a batch came to; `pause` is what Graph asked for, in seconds."""

    def __init__(self, item: Item, answer: Optional[Dict[str, Any]]):
        answer = answer or {"status": 503}
        self.item = item
        self.status = answer.get("status") if isinstance(answer.get("status"), int) else 503
        self.ok = 200 <= self.status < 300
        headers = answer.get("headers")
        named = {str(name).lower(): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
        self.pause = parse_retry_after(named.get("retry-after"))
        body = answer.get("body")
        error = body.get("error") if isinstance(body, dict) else None
        self.code = str(error.get("code", "")) if isinstance(error, dict) else ""


def normalised(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A message with CRLF line ends everywhere, and one at its end unless it is empty."""
    held = b""
    ended = True
    for chunk in chunks:
        chunk = held + chunk
        held = b"\r" if chunk.endswith(b"\r") else b""
        chunk = crlf(chunk[: len(chunk) - len(held)])
        if chunk:
            ended = chunk.endswith(CRLF)
            yield chunk
    if held or not ended:
        yield CRLF


def _path(item: Item) -> str:
    # Ids may hold / + and =: one path segment.
    return "/messages/" + quote(item.id, safe="")


def _date_line(received: str) -> str:
    """A Date field from Graph's time of receipt; nothing rather than an invented one."""
    try:
        when = datetime.strptime(received[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return f"Date: {email.utils.format_datetime(when)}\n"


def _nothing() -> None:
    """A release that has been done."""
