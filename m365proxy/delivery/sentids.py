"""Whether the id of a draft leads to its sent copy: then two requests send a message, and no marker is needed.

Microsoft's pages contradict each other (outlook-immutable-id.md, docs#11969), so it is looked at: in each mailbox once
a week, some seconds after a message was sent.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, NamedTuple

from ..errors import Permanent, SignInNeeded, Temporary
from ..spool.state import DraftState
from ..system import log
from .drafts import Drafts
from .routes import Routes

logger = log.get("sentids")

# Seconds until a sent copy is looked for: first after it was sent, then after each look that found none.
_WAITS = (2.0, 30.0, 300.0)

# Seconds after which a look that Graph did not answer is repeated.  It does not count.
_UNANSWERED_WAIT = 30.0


class _Sample(NamedTuple):
    """A draft that was sent."""

    id: str
    due: float  # monotonic
    looks: int = 0


class SentIds:
    """Any thread may call."""

    def __init__(
        self,
        drafts: Drafts,
        routes: Routes,
        may_be_unmarked: Callable[[str], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`routes`: remembers what was found.

        `may_be_unmarked(mailbox)`: as in Delivery.
        """
        self._drafts = drafts
        self._routes = routes
        self._may_be_unmarked = may_be_unmarked
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._samples: Dict[str, _Sample] = {}  # by mailbox of the URL

    def check(self, mailbox: str, url_mailbox: str) -> bool:
        """Whether mail of `mailbox` that is sent through `url_mailbox` needs no marker.

        If it is not known yet, and it is time for it, Graph is asked now; if it does not answer, that means nothing.
        """
        if not self._may_be_unmarked(mailbox):
            return False
        if self._routes.keeps_ids(url_mailbox) is None:
            self._look(url_mailbox)
        return self._routes.keeps_ids(url_mailbox) is True

    def note_sent(self, mailbox: str, draft: DraftState) -> None:
        """The draft was sent, Graph said so: its copy may be looked for."""
        if self._routes.keeps_ids(draft.mailbox) is None and self._may_be_unmarked(mailbox):
            with self._lock:
                self._samples.setdefault(draft.mailbox, _Sample(draft.id, self._monotonic() + _WAITS[0]))

    def contradict(self, url_mailbox: str) -> None:
        """A draft's id did not lead to its sent copy, though it should."""
        if self._routes.keeps_ids(url_mailbox):
            self._routes.learn_ids(url_mailbox, False)
            logger.info(
                "%s: a sent copy was not found by its draft's id; three requests a message are made again", url_mailbox
            )

    def _look(self, url_mailbox: str) -> None:
        with self._lock:
            sample = self._samples.get(url_mailbox)
            if sample is None or sample.due > self._monotonic():
                return
            del self._samples[url_mailbox]  # other threads need not look, too
        try:
            found = self._drafts.leads_to_copy(url_mailbox, sample.id)
        except (SignInNeeded, Temporary, Permanent):  # the message itself will meet it, too
            with self._lock:
                self._samples[url_mailbox] = sample._replace(due=self._monotonic() + _UNANSWERED_WAIT)
            return
        if found:
            self._routes.learn_ids(url_mailbox, True)
            logger.info("%s: sent copies are found by their drafts' ids; two requests send a message", url_mailbox)
        elif sample.looks + 1 == len(_WAITS):
            self._routes.learn_ids(url_mailbox, False)
        else:
            looks = sample.looks + 1
            with self._lock:
                self._samples[url_mailbox] = sample._replace(looks=looks, due=self._monotonic() + _WAITS[looks])
