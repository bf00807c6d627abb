"""A message is brought from Graph into a copy; if it cannot be had, a text that says why."""

from __future__ import annotations

from typing import Callable, Optional

from ..errors import ProxyError, Temporary
from ..graph.answer import Answer, Cancelled, GraphRefused, GraphTrouble, NoAnswer, Throttled
from ..graph.client import Graph
from ..graph.items import IMMUTABLE, message_path
from ..mime import encodings
from ..system import log
from . import substitute
from .copies import Copy, Phase
from .failures import Cause, Failures, answer_in, cause_of
from .folding import folded
from .item import Item
from .patience import Patience

_log = log.get("fetch")

# The longest silence of Graph within a message (seconds): it converts the message while we wait.
_VALUE_SECONDS = 300.0

# The same for a message that is fetched ahead: its slot may be of use to others.
_AHEAD_SECONDS = 60.0

# A message whose fetch breaks off before the client had any of it is fetched anew, so often in all.
_FETCHES = 2

# Octets taken from Graph at once: few, because on a slow line the client waits until all of them are here.
_PIECE = 16 * 1024

# What Exchange answers if it cannot convert an item to MIME, now or ever (EWS response codes).
_DAMAGED = frozenset(
    {
        "errorcorruptdata",
        "errormimecontentinvalid",
        "errormimecontentinvalidbase64string",
        "errormimecontentconversionfailed",
        "errorcontentconversionfailed",
    }
)


class Fetcher:
    """Brings messages of one mailbox into copies.  Any thread may call."""

    def __init__(
        self,
        graph: Graph,
        mailbox: str,
        sleep: Callable[[float], object],
        failures: Failures,
        fold: bool = False,
    ):
        """`fold`: cut lines that are too long for some clients."""
        self._graph = graph
        self._mailbox = mailbox
        self._sleep = sleep
        self._failures = failures
        self._fold = fold

    def fetch(self, item: Item, copy: Copy) -> None:
        """Fill a copy and close it.  Raises nothing: the copy says how it ended."""
        # A message that failed before is given out only when it is whole: a text may have to take its place.
        copy.only_when_whole = self._failures.known(item.id)
        try:
            copy.open()
            if copy.only_when_whole:
                # Only a failure of a fetch for the client is noted: fetched ahead, it would fail for ever.
                copy.require_claim()
            self._fill(item, copy)
        except Cancelled:
            _log.debug("%s: the client does not need the rest of a message", self._mailbox)
        except OSError as error:
            copy.fail(Temporary(f"The message cannot be written to this machine's disk: {error.strerror}."))
        except ProxyError as error:
            copy.fail(error)
        finally:
            copy.close()

    def _fill(self, item: Item, copy: Copy) -> None:
        try:
            self._bring(item, copy)
            self._failures.forget(self._mailbox, item.id)
        except ProxyError as error:
            cause = self._cause(item, copy, error)
            if cause is None or not copy.restart():
                raise
            item.substituted = True
            copy.write(substitute.text(self._mailbox, item, cause))
            copy.complete(Phase.TEXT)

    def _cause(self, item: Item, copy: Copy, error: ProxyError) -> Optional[Cause]:
        """Why a text is to take the message's place; None if it is not."""
        damage = _damage(error)
        if damage is not None:
            cause: Optional[Cause] = self._failures.give_up(item.id, cause_of(damage))
        elif copy.claimed and not copy.stopped:
            cause = self._failures.note(self._mailbox, item.id, error)
        else:
            return None
        if cause is not None:
            _log.warning(
                "%s: a text takes the place of a message (UIDL %s) that Exchange does not give out: HTTP %d %s "
                "(request-id %s)",
                self._mailbox,
                item.uidl,
                cause.status,
                log.clean(cause.code, 60),
                log.clean(cause.request_id, 60),
            )
        return cause

    def _bring(self, item: Item, copy: Copy) -> None:
        """Fetch the item's octets; from the beginning if Graph breaks off (it does not support ranges)."""
        patience = Patience(self._graph, self._mailbox, self._sleep)
        for tries_left in reversed(range(_FETCHES)):
            try:
                self._download(item, copy, patience)
                return
            except GraphRefused as error:
                if error.answer.status == 404:
                    raise GraphRefused("This message is gone from the mailbox.", error.answer) from None
                raise
            except (GraphTrouble, NoAnswer, Throttled) as error:
                if not tries_left or _damage(error) is not None or not copy.restart():
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)

    def _download(self, item: Item, copy: Copy, patience: Patience) -> None:
        with patience.ask(lambda: self._ask(item, copy)) as answer:
            if not answer.request_id:
                raise Temporary("Another system answered instead of Graph.")
            octets = encodings.without_bom(answer.chunks(_PIECE))  # a client would not find the first header field
            chunks = encodings.ended(encodings.canonical(octets, doubled=False))
            for chunk in folded(chunks) if self._fold else chunks:
                copy.write(chunk)
            if not copy.size:
                answer.forget_body()
                raise GraphTrouble("Exchange returned an empty message.", answer)
        copy.complete()

    def _ask(self, item: Item, copy: Copy) -> Answer:
        seconds = _VALUE_SECONDS if copy.claimed else _AHEAD_SECONDS
        try:
            return self._graph.read(
                "GET",
                self._mailbox,
                message_path(item.id) + "/$value",
                headers=IMMUTABLE,
                stream=True,
                seconds=seconds,
                cancellation=copy.cancellation,
            )
        except (NoAnswer, Throttled):
            if copy.stopped:
                raise Cancelled from None
            raise


def _damage(error: ProxyError) -> Optional[Answer]:
    """Graph's answer, if it says that the item is damaged."""
    answer = answer_in(error)
    return answer if answer is not None and answer.code.lower() in _DAMAGED else None
