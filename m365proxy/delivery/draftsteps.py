"""The steps that take a message's draft from one phase to the next: spool/state.py has the phases.

What a step does in Exchange is noted in the message's state, and is on disk
before anything that cannot be repeated.
"""

from __future__ import annotations

import time
from typing import Any, Dict, Iterable, Optional, Set

from ..graph.answer import GraphRefused
from ..graph.client import Graph
from ..spool.spool import Claim
from ..spool.state import DraftPhase, DraftState
from ..system import log
from .budget import UploadBudget
from .composer import Outgoing
from .drafts import Drafts, Found, draft_state
from .sentids import SentIds

logger = log.get("delivery")

# After a longer pause (seconds) somebody may have found our draft, and edited or sent it.
_LEFT_ALONE = 600.0


class DraftSteps:
    """Any thread may use it; a claim belongs to its caller.  Methods raise what Graph.read raises."""

    def __init__(self, graph: Graph, drafts: Drafts, budget: UploadBudget, sent_ids: SentIds):
        self._graph = graph
        self._drafts = drafts
        self._budget = budget
        self._sent_ids = sent_ids
        # Queue ids whose draft surely is as we made it: since then Graph has only asked to wait.
        self._untouched: Set[str] = set()

    def end_attempt(self, claim: Claim, pause: float) -> None:
        """Remember what the next attempt may rely on after a pause of so many seconds that Graph asked for; inf if the
        attempt ended otherwise."""
        if pause > _LEFT_ALONE:
            self._untouched.discard(claim.id)

    def find(self, claim: Claim, draft: DraftState) -> Found:
        """What became of a draft."""
        since = claim.state.posted if draft.posted else None
        found = self._drafts.look(draft, self._mark(claim), claim.state.message_id, since)
        if found is Found.COPY:
            self._sent_ids.contradict(draft.mailbox)
            return Found.SENT
        return found

    def find_again(self, claim: Claim, draft: DraftState) -> Found:
        """What became of the draft of an earlier attempt; Graph is not asked if that attempt was only throttled."""
        if self.is_untouched(claim):
            return Found.DRAFT
        found = self.find(claim, draft)
        if found is Found.DRAFT and draft.phase is not DraftPhase.FILLING:
            self._untouched.add(claim.id)
        return found

    def make(self, message: Outgoing, mailbox: str) -> DraftState:
        """Make the draft through a mailbox's URL, and mark it: asked, made, ready.

        Or asked and bare, if its id is enough to find it again.
        """
        is_bare = self._may_be_bare(message, mailbox)
        self.ask(message.claim, mailbox)
        self._budget.spend(mailbox, message.prepared.size * 4 // 3)
        value = self._drafts.create(mailbox, message.prepared)
        phase = DraftPhase.BARE if is_bare else DraftPhase.MADE
        draft = message.claim.state.draft = draft_state(phase, mailbox, value)
        self._untouched.add(message.claim.id)
        return draft if is_bare else self.mark(message, draft)

    def _may_be_bare(self, message: Outgoing, mailbox: str) -> bool:
        """Bcc comes with the marker, and an earlier draft may have to be told from this one."""
        if message.prepared.top.bcc or message.claim.state.drafted:
            return False
        return self._sent_ids.check(message.envelope.mailbox, mailbox)

    def is_untouched(self, claim: Claim) -> bool:
        """Whether its draft surely is as we made it: Graph has only asked to wait since."""
        return claim.id in self._untouched

    def mark(self, message: Outgoing, draft: DraftState) -> DraftState:
        """Put marker and Bcc on a draft that was made: ready."""
        value = self.put_marker(message, draft)
        message.claim.state.draft = draft_state(DraftPhase.READY, draft.mailbox, value)
        return message.claim.state.draft

    def put_marker(self, message: Outgoing, draft: DraftState) -> Dict[str, Any]:
        """Put marker and Bcc on a draft of MIME, and delete what interrupted attempts left; its JSON afterwards."""
        claim, state = message.claim, message.claim.state
        if state.stray == draft.mailbox:
            try:
                self._drafts.delete_twins(draft, self._mark(claim), state.message_id, state.strayed)
            except GraphRefused as error:
                logger.info("%s: an interrupted draft stays: %s", claim.id, error)
            state.stray, state.strayed = "", 0.0
        return self._drafts.put_marker(draft.mailbox, draft.id, self._mark(claim), message.prepared.top.bcc)

    def ask(self, claim: Claim, mailbox: str) -> None:
        """The intention is on disk before a draft is asked for, so that an orphan can be found."""
        claim.state.draft = DraftState(DraftPhase.ASKED, mailbox)
        claim.state.drafted = self._graph.now()
        claim.note_intention()

    def clear_up(self, claim: Claim, draft: DraftState) -> None:
        """A draft was asked for, and the answer got lost: remove it, or note that it is to be removed.

        Without the marker only what it says tells it from another gateway's, and that is known from the next one.
        """
        state, mailbox = claim.state, draft.mailbox
        try:
            ours, doubtful = self._drafts.orphans(mailbox, self._mark(claim), state.message_id, state.drafted)
            for id in ours:
                self._drafts.delete(mailbox, id)
        except GraphRefused as error:
            logger.info("%s: an interrupted draft could not be looked for: %s", claim.id, error)
        else:
            if doubtful and state.stray != mailbox:
                state.stray, state.strayed = mailbox, state.drafted
        state.draft = None

    def clear_up_interrupted(self, claim: Claim, mailboxes: Iterable[str], accepted: float) -> None:
        """A power cut took the state of the first try: a draft may have been asked for through any of these mailboxes.

        `accepted`: when the message was, by this machine's clock; no draft of it is older.
        """
        claim.state.drafted = self._graph.now() - max(0.0, time.time() - accepted)
        for mailbox in mailboxes:
            self.clear_up(claim, DraftState(DraftPhase.ASKED, mailbox))
        claim.state.interrupted = False

    def discard(self, claim: Claim) -> None:
        """Delete a draft that was never sent, nor meant to be as it is."""
        draft = claim.state.draft
        if draft is not None:
            self._drafts.delete(draft.mailbox, draft.id)
        claim.state.draft = None

    def delete(self, claim: Claim, draft: DraftState) -> None:
        """Delete the draft; forget it once it is surely gone and was not sent."""
        draft.posted = False  # surely not sent; once it is deleted, a Message-ID would prove nothing
        found = self.find(claim, draft)
        if draft.phase is not DraftPhase.DELETING:
            if found is not Found.DRAFT and draft.phase is not DraftPhase.FILLING:
                return
            draft.phase = DraftPhase.DELETING
            claim.save_state()
        if found in (Found.DRAFT, Found.EDITED):
            self._drafts.delete(draft.mailbox, draft.id)
            found = self.find(claim, draft)
        if found not in (Found.SENT, Found.DRAFT, Found.EDITED):
            claim.state.draft = None
            claim.save_state()

    def _mark(self, claim: Claim) -> str:
        return self._drafts.mark(claim.id, claim.state.owner)


def is_asked(draft: Optional[DraftState]) -> bool:
    """Whether a draft was asked for and is not known to exist."""
    return draft is not None and draft.phase is DraftPhase.ASKED
