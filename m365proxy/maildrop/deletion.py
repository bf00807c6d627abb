"""Deletion at QUIT: the user's policy carried out in batches (json-batching.md, message-permanentdelete.md)."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set

from ..errors import Permanent, ProxyError
from ..graph.answer import GraphTrouble, NoAnswer, Throttled, parse_retry_after
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, message_path
from ..system import log
from ..system.choices import DeletePolicy
from .folders import Folders
from .item import Item
from .patience import Patience
from .user import User

_log = log.get("deletion")

_TRASH = "deleteditems"

# How often a batch without an answer is sent in all.
_TRIES = 2

# Requests in one $batch; how often those that Graph put off are sent in all, and the pause before that
# if Graph names none (seconds).
_BATCH = 20
_ROUNDS = 4
_PAUSE_UNSAID = 2.0
_AGAIN = (412, 423, 429, 503, 504)

# The pauses that one QUIT waits for, together (seconds): most clients do not wait for its answer, so there is time.
_PATIENCE = 300.0

# A QUIT that took so long is logged (seconds).
_LONG = 20.0


class Deletion:
    """The deletion of one QUIT."""

    def __init__(
        self,
        graph: Graph,
        folders: Folders,
        user: User,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._graph = graph
        self._folders = folders
        self._user = user
        self._mailbox = user.mailbox
        self._clock = clock
        self._policy, self._target = user.pop3_delete
        self._patience = Patience(graph, user.mailbox, sleep, _PATIENCE)

    def carry_out(self, items: Sequence[Item], report_left: Callable[[int], object] = lambda left: None) -> Result:
        """Do what the policy says with these messages.  `report_left` is called with how many are left.

        Raises nothing: trouble is logged.
        """
        begun = self._clock()
        result = Result(items if self._policy is not DeletePolicy.KEEP else (), report_left)
        try:
            self._carry_out(items, result)
        except ProxyError as error:
            _log.warning("%s: deletion stopped, %d messages remain: %s", self._mailbox, len(result.left), error)
        seconds = self._clock() - begun
        if seconds >= _LONG:
            _log.info(
                "%s: QUIT took %d seconds: %d messages deleted, %d remain",
                self._mailbox,
                seconds,
                len(result.done),
                len(result.left),
            )
        return result

    def _carry_out(self, items: Sequence[Item], result: Result) -> None:
        if self._user.pop3_mark_read:
            self._mark_read(items)
        if self._policy is DeletePolicy.PERMANENT:
            items = self._destroy(items, result)
        if self._policy is not DeletePolicy.KEEP:
            self._move(items, result)

    def _mark_read(self, items: Sequence[Item]) -> None:
        """Best effort: a message not marked is deleted all the same."""
        outcomes = self._briefly(items, "PATCH", "", {"isRead": True})
        self._report("marked as read", [one for one in outcomes if not one.ok and one.status != 404])

    def _destroy(self, items: Sequence[Item], result: Result) -> List[Item]:
        """Delete for good what may be; returns what must be moved to Deleted Items instead."""
        moves = [item for item in items if item.doubtful]
        failed = []
        sure = [item for item in items if not item.doubtful]
        for outcome in self._each(sure, "POST", "/permanentDelete", None):
            if outcome.ok:
                result.add_done(outcome.item)
            elif outcome.status in (400, 404, 405):  # a cloud without permanentDelete, or the item is gone
                moves.append(outcome.item)
            else:
                failed.append(outcome)
        self._report("deleted", failed)
        return moves

    def _move(self, items: Sequence[Item], result: Result) -> None:
        is_move = self._policy is DeletePolicy.MOVE
        target = self._folders.confirm(self._mailbox, self._target) if is_move else _TRASH
        if items and self._folders.is_same(self._mailbox, self._user.folder, target):
            advice = "" if self._policy is DeletePolicy.PERMANENT else " To empty it, set pop3_delete to permanent."
            raise Permanent(f"A deleted message would go to the folder it is in.{advice}")
        failed, gone = [], []
        for outcome in self._briefly(items, "POST", "/move", {"destinationId": target}):
            if outcome.ok:
                result.add_done(outcome.item)
            elif outcome.gone:
                gone.append(outcome.item)
            else:
                failed.append(outcome)
        self._report("deleted", failed)
        if gone:
            if not is_move:
                # If only the inbox is shared, the 404 may be about Deleted Items.
                self._folders.confirm(self._mailbox, target)
            result.left.difference_update(gone)

    def _report(self, what: str, failed: Sequence[_Outcome]) -> None:
        causes = sorted({f"HTTP {outcome.status} {log.clean(outcome.code, 60)}" for outcome in failed})
        if causes:
            _log.warning("%s: %d messages were not %s: %s", self._mailbox, len(failed), what, ", ".join(causes))

    def _briefly(self, items: Sequence[Item], method: str, suffix: str, json: Any) -> Iterator[_Outcome]:
        """As `_each`, but answers hold ids only: twenty whole messages could be more than the client of Graph reads.

        Requests that Graph refuses for that (it is not documented) are sent again without it.
        """
        refused = []
        for outcome in self._each(items, method, suffix + "?$select=id", json):
            if outcome.status == 400:
                refused.append(outcome.item)
            else:
                yield outcome
        yield from self._each(refused, method, suffix, json)

    def _each(self, items: Sequence[Item], method: str, suffix: str, json: Any) -> Iterator[_Outcome]:
        """One request per item, twenty at a time; outcomes as they come in."""
        for start in range(0, len(items), _BATCH):
            waiting = list(items[start : start + _BATCH])
            for rounds_left in reversed(range(_ROUNDS)):
                outcomes = self._batch(waiting, method, suffix, json)
                put_off = [outcome for outcome in outcomes if outcome.status in _AGAIN]
                pause = max((outcome.pause for outcome in put_off), default=0.0)
                if pause:
                    self._graph.throttle(self._mailbox, pause)  # nobody else is to ask in the pause either
                if not (put_off and rounds_left and self._patience.wait(pause or _PAUSE_UNSAID)):
                    yield from outcomes
                    if pause:
                        raise Throttled(self._mailbox, pause)
                    break
                yield from (outcome for outcome in outcomes if outcome.status not in _AGAIN)
                waiting = [outcome.item for outcome in put_off]

    def _batch(self, items: Sequence[Item], method: str, suffix: str, json: Any) -> List[_Outcome]:
        """POST $batch; what it leaves unanswered counts as put off (503)."""
        root = self._graph.root(self._mailbox)
        requests = []
        for number, item in enumerate(items):
            headers = dict(IMMUTABLE)
            request: Dict[str, Any] = {"id": str(number), "method": method, "headers": headers}
            request["url"] = root + message_path(item.id) + suffix
            if json is not None:
                headers["Content-Type"] = "application/json"
                request["body"] = json
            requests.append(request)
        answers = self._post(requests)
        return [_Outcome(item, answers.get(str(number))) for number, item in enumerate(items)]

    def _post(self, requests: List[Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
        """The inner answers by id.  Repeating is safe: what was done answers 404, or is moved to where it is."""
        for tries_left in reversed(range(_TRIES)):
            try:
                answer = self._patience.ask(lambda: self._graph.batch(self._mailbox, requests))
                break
            except (GraphTrouble, NoAnswer, Throttled):
                if not tries_left:
                    raise
        inner = answer.json().get("responses")
        if not isinstance(inner, list):
            return {}
        return {str(one.get("id")): one for one in inner if isinstance(one, dict)}


class Result:
    """What became of the messages of a QUIT: `done` were deleted or moved, `left` should have been.

    Messages that others deleted meanwhile are in neither.
    """

    def __init__(self, items: Iterable[Item], report_left: Callable[[int], object]):
        self._report_left = report_left
        self.done: Set[Item] = set()
        self.left: Set[Item] = set(items)

    def add_done(self, item: Item) -> None:
        self.done.add(item)
        self.left.discard(item)
        self._report_left(len(self.left))


class _Outcome:
    """What one request of a batch came to; `pause` is what Graph asked for, in seconds."""

    def __init__(self, item: Item, answer: Optional[Dict[str, Any]]):
        answer = answer or {}
        status = answer.get("status")
        headers = answer.get("headers")
        body = answer.get("body")
        error = body.get("error") if isinstance(body, dict) else None
        self.item = item
        self.status = status if isinstance(status, int) else 503
        self.ok = 200 <= self.status < 300
        self.pause = _pause_in(headers) if isinstance(headers, dict) else 0.0
        self.code = str(error.get("code", "")) if isinstance(error, dict) else ""
        self.gone = self.status == 404 and self.code.lower() == "erroritemnotfound"


def _pause_in(headers: Dict[str, Any]) -> float:
    named = {str(name).lower(): str(value) for name, value in headers.items()}
    return parse_retry_after(named.get("retry-after"))
