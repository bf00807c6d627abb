"""Once a day: drafts of ours that nobody will send, and sent copies that are not to be kept, are deleted.

Only items with the marker of this installation, or of one that was adopted, are touched.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping

from ..errors import ProxyError
from ..graph.client import Graph
from ..graph.items import seconds_of
from ..spool.spool import Spool, tag_of
from ..system import log
from .drafts import Drafts, is_sent

logger = log.get("leftovers")

_DAY = 24 * 3600.0

# A copy is left alone for so many seconds at least: its message may just be leaving the queue.
_LEAST_AGE = 60.0


class Leftovers:
    """The daily sweep; for one thread."""

    def __init__(self, graph: Graph, drafts: Drafts, spool: Spool, keep_days: Mapping[str, float]):
        """`keep_days`: mailbox tag -> days its sent copies are kept, 0 for none; if missing, they are kept for good."""
        self._graph = graph
        self._drafts = drafts
        self._spool = spool
        self._keep_days = keep_days

    def sweep(self, mailboxes: Iterable[str]) -> None:
        """Look through the mailboxes' Drafts and, where copies are to be deleted, Sent Items.  Raises nothing."""
        for mailbox in mailboxes:
            try:
                self._sweep_drafts(mailbox)
                if self._keep_days:
                    self._sweep_sent(mailbox)
            except ProxyError as error:
                logger.info("%s was not swept: %s", mailbox, error)

    def _sweep_drafts(self, mailbox: str) -> None:
        for item in list(self._drafts.marked(mailbox, "drafts")):
            if self._age(item, "createdDateTime") > _DAY and self._spool.find(item["queue_id"]) is None:
                self._drafts.delete(mailbox, item["id"])
                logger.info("%s: removed the draft that was left of %s", mailbox, log.clean(item["queue_id"]))

    def _sweep_sent(self, mailbox: str) -> None:
        removed: Dict[str, int] = {}
        for item in list(self._drafts.marked(mailbox, "sentitems")):
            tag = tag_of(item["queue_id"])
            days = self._keep_days.get(tag)
            # While a message is in the queue, its copy is the proof that it was sent.
            if days is None or not is_sent(item) or self._age_of_copy(item) <= max(days * _DAY, _LEAST_AGE):
                continue
            if self._spool.find(item["queue_id"]):
                continue
            self._drafts.purge(mailbox, item["id"])
            removed[tag] = removed.get(tag, 0) + 1
        if removed:
            logger.info("%s: removed %d sent copies (sent_items)", mailbox, sum(removed.values()))

    def _age_of_copy(self, item: Mapping[str, Any]) -> float:
        """Exchange may take the time in the message's Date for that of sending, and a device's clock may be wrong."""
        return min(self._age(item, "sentDateTime"), self._age(item, "createdDateTime"))

    def _age(self, item: Mapping[str, Any], field: str) -> float:
        """Seconds by Graph's clock; 0 for an item without a date."""
        then = seconds_of(item.get(field))
        return self._graph.now() - then if then else 0.0
