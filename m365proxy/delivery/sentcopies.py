"""Copies in Sent Items of mailboxes that are to have none: deleted soon after their message has left the queue.

Until then a copy is the proof that its message was sent.  Only items with the
marker of such a message are touched, and only once they are in Sent Items and
no drafts any more: deleting a draft that Exchange is still sending would lose
the mail.  What is missed, as when the program is stopped, Leftovers finds.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Callable, Dict, FrozenSet, Iterable, List

from ..errors import ProxyError
from ..spool.spool import Claim, mailbox_tag, tag_of
from ..system import log
from ..system.threads import Timer, survive
from .drafts import Drafts, is_sent

logger = log.get("sentcopies")

# Seconds until a copy is looked for: first after its message was sent, then after each time that it was not found.
_WAITS = (60.0, 300.0, 1800.0)

# The most copies that are remembered.
_MOST = 5000

# Graph's clock and that of Exchange may differ by so many seconds.
_CLOCK_TOLERANCE = 60.0


@dataclasses.dataclass
class _Copy:
    since: float  # by Graph's clock: its draft was not made before
    due: float  # monotonic
    looks: int = 0


class SentCopies:
    """Any thread may call the public methods."""

    def __init__(self, drafts: Drafts, mailboxes: Iterable[str], monotonic: Callable[[], float] = time.monotonic):
        """`mailboxes`: those whose mail leaves no copy."""
        self._drafts = drafts
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tags: FrozenSet[str] = frozenset()
        self._waiting: Dict[str, Dict[str, _Copy]] = {}  # mailbox of the URL -> queue id
        self._count = 0
        self._sweeping = self._stopped = False
        self._timer = Timer(self._run, "sent-copies")
        self.set_mailboxes(mailboxes)

    def set_mailboxes(self, mailboxes: Iterable[str]) -> None:
        """The config changed."""
        self._tags = frozenset(map(mailbox_tag, mailboxes))

    def note(self, claim: Claim) -> None:
        """A message was sent and has left the queue for good."""
        draft = claim.state.draft
        if draft is None or tag_of(claim.id) not in self._tags:
            return  # without a draft, its copy has no marker
        with self._lock:
            if self._count < _MOST and not self._stopped:
                self._put(draft.mailbox, claim.id, _Copy(claim.state.drafted, self._monotonic() + _WAITS[0]))
                if not self._sweeping:
                    self._timer.start_within(_WAITS[0])

    def stop(self) -> None:
        """Delete nothing more."""
        with self._lock:
            self._stopped = True
            self._timer.cancel()

    def sweep(self) -> None:
        """Delete the copies that are in Sent Items by now, unless that is being done.

        Raises nothing that concerns one mailbox.
        """
        with self._lock:
            if self._sweeping or self._stopped:
                return
            self._sweeping = True
            waiting, self._waiting, self._count = self._waiting, {}, 0
        try:
            for mailbox, copies in waiting.items():
                try:
                    self._sweep_mailbox(mailbox, copies)
                except ProxyError as error:
                    logger.info("%s: copies in Sent Items stay for now: %s", mailbox, error)
                self._wait_again(mailbox, copies)
        finally:
            with self._lock:
                self._sweeping = False
                due = [copy.due for copies in self._waiting.values() for copy in copies.values()]
                if due and not self._stopped:
                    self._timer.start_within(max(0.0, min(due) - self._monotonic()))

    def _run(self) -> None:
        survive(self.sweep, "sent-copies")

    def _sweep_mailbox(self, mailbox: str, copies: Dict[str, _Copy]) -> None:
        """Delete what is found, and take it out of `copies`."""
        found: List[str] = []
        since = min(copy.since for copy in copies.values()) - _CLOCK_TOLERANCE
        ours = self._drafts.marked(mailbox, "sentitems", since)
        # All pages first: what is deleted in between would shift them.
        for item in [item for item in ours if item["queue_id"] in copies and is_sent(item)]:
            if self._stopped:
                break
            if tag_of(item["queue_id"]) in self._tags:
                self._drafts.purge(mailbox, item["id"])
                found.append(item["queue_id"])
        for queue_id in found:  # one that an administrator let be sent again has two copies
            copies.pop(queue_id, None)
        if found:
            logger.info("%s: removed %d sent copies (sent_items)", mailbox, len(found))

    def _wait_again(self, mailbox: str, copies: Dict[str, _Copy]) -> None:
        """Look again for those that were not found; Leftovers does for those that were looked for often enough."""
        now = self._monotonic()
        with self._lock:
            for queue_id, copy in copies.items():
                if copy.due <= now:
                    copy.looks += 1
                    copy.due = now + _WAITS[min(copy.looks, len(_WAITS) - 1)]
                if copy.looks < len(_WAITS):
                    self._put(mailbox, queue_id, copy)

    def _put(self, mailbox: str, queue_id: str, copy: _Copy) -> None:
        """The lock is held."""
        self._waiting.setdefault(mailbox, {})[queue_id] = copy
        self._count += 1
