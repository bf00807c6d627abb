"""One message's way to Graph: draft, send, and look when the answer got lost.

Graph has no idempotency key.  So a message goes as a draft first, whose id is
on disk before it is sent; after anything ambiguous the draft and its sent copy
are looked for, and nothing is repeated before it is known that it was not
sent.  Where drafts are not allowed one sendMail has to do, and what is lost
there is settled by queue.on_ambiguous.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import BinaryIO, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ..errors import Permanent, SignInNeeded, Temporary
from ..graph import refusals
from ..graph.answer import Answer, GraphRefused, GraphTrouble, NoAnswer, Throttled
from ..graph.body import base64_body
from ..graph.client import Graph
from ..spool.envelope import Envelope
from ..spool.spool import Claim
from ..spool.state import DraftPhase, DraftState, Phase
from ..system import log
from ..system.choices import OnAmbiguous
from . import outcome
from .composer import Composer, Outgoing
from .drafts import OCTETS_PER_SECOND, SEND_SECONDS, Drafts, Found
from .draftsteps import DraftSteps, is_asked
from .largesteps import LargeSteps
from .messageids import SeenIds
from .outcome import Outcome, Then, Verdict
from .routes import Route, Routes
from .sentids import SentIds
from .uploads import DraftSpoiled, LargeDrafts, UploadDenied

logger = log.get("delivery")

# Seconds between looks after an ambiguous send; after the last one the message is held.
LOOKS = (5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0)

# "Still a draft" means "not sent" when seen twice so far apart (seconds), the second time so long after sending.
STILL_DRAFT_APART, STILL_DRAFT_AFTER = 30.0, 90.0

# Seconds until a one-step sendMail whose answer got lost is repeated, where the administrator wants that.
ONE_STEP_WAIT = 60.0

# Refusals that another way may not meet: a right is missing on this one, or only its mailbox.
_ANOTHER_WAY = refusals.NO_RIGHT | refusals.NO_MAILBOX

# Of the refusals of all ways the most telling is reported, by its status: that there is no such mailbox, then that
# Send As is missing; Full Access may be missing where it is not meant to be given.
_MOST_TELLING = ("4.1.8", "5.7.60")


class Delivery:
    """Hands claimed messages to Graph.  Any thread may use it; a claim belongs to its caller."""

    def __init__(
        self,
        graph: Graph,
        drafts: Drafts,
        large: LargeDrafts,
        routes: Routes,
        seen: SeenIds,
        may_send_as: Callable[[str, str], bool],
        *,
        on_ambiguous: OnAmbiguous = OnAmbiguous.RETRY,
        may_be_unmarked: Callable[[str], bool] = lambda mailbox: False,
        looks: Sequence[float] = LOOKS,
        still_draft: Sequence[float] = (STILL_DRAFT_APART, STILL_DRAFT_AFTER),
    ):
        """`may_send_as(mailbox, address)`: whether the mailbox's From may be that address.

        `on_ambiguous`: "retry" or "hold" what was lost in a one-step sendMail.
        `may_be_unmarked(mailbox)`: whether its sent copies need no marker, as none is deleted or another gateway's.
        """
        self._graph = graph
        self._drafts = drafts
        self._budget = large.budget
        self._routes = routes
        self._composer = Composer(seen, may_send_as)
        self._sent_ids = SentIds(drafts, routes, may_be_unmarked)
        self._steps = DraftSteps(graph, drafts, large.budget, self._sent_ids)
        self._large = LargeSteps(drafts, large, self._composer, self._steps, routes)
        self._on_ambiguous = on_ambiguous
        self._looks = looks
        self._draft_apart, self._draft_after = still_draft
        self._no_uploads: Dict[str, float] = {}  # mailboxes that refuse upload sessions: since (monotonic)

    def deliver(self, claim: Claim, envelope: Envelope, file: BinaryIO) -> Verdict:
        """One attempt at a claimed message.

        SignInNeeded, Throttled and Temporary if nothing can be asked of Graph
        now: nothing was sent then and the claim is `claimed`.
        """
        pause = math.inf  # seconds that Graph asked for; whatever else ends an attempt leaves nothing to go on with
        try:
            verdict = self._attempt(claim, envelope, file)
        except (Throttled, GraphTrouble) as error:
            heeded = _or_throttled(error, envelope.mailbox)
            if isinstance(heeded, Throttled):
                pause = heeded.seconds
            raise heeded from None
        finally:
            self._steps.end_attempt(claim, pause)
            self._large.end_attempt(claim, pause)
        if verdict.outcome is Outcome.SENT:
            self._routes.note_sent(envelope.mailbox)
        if verdict is outcome.DELIVERED and claim.state.draft is not None:
            self._sent_ids.note_sent(envelope.mailbox, claim.state.draft)
        return verdict

    def _attempt(self, claim: Claim, envelope: Envelope, file: BinaryIO) -> Verdict:
        self._graph.check_ready(envelope.mailbox)
        try:
            message = self._composer.prepare(claim, envelope, file)
        except Permanent as error:
            return Verdict(Outcome.NOT_SENT, Then.PERMANENT, str(error), "5.6.0")
        draft = claim.state.draft
        if claim.state.interrupted:
            mailboxes = [route.url_mailbox for route in self._routes.candidates(envelope.mailbox) if route.drafts]
            self._steps.clear_up_interrupted(claim, mailboxes, envelope.accepted)
        if draft is not None:
            try:
                known = self._go_on(message, draft)
            except GraphRefused as error:
                return self._unreadable(message, error.answer)
            if known is not None:
                return known
        return self._try_ways(message)

    def look(self, claim: Claim, envelope: Envelope) -> Verdict:
        """What became of a send whose answer got lost.

        SENT; NOT_SENT: it may be tried again now; AMBIGUOUS and TRANSIENT:
        look again after `wait` seconds; AMBIGUOUS and PERMANENT: hold it.
        Raises like `deliver`; such a look does not count.
        """
        state = claim.state
        if not state.posted:
            return outcome.held("What was known of this message is lost, and it may have been sent.")
        if state.draft is None or not state.draft.id:
            return self._unverifiable(claim, state.error)
        try:
            found: Optional[Found] = self._steps.find(claim, state.draft)
        except GraphRefused:
            found = None  # it cannot be looked at
        except GraphTrouble as error:
            raise _or_throttled(error, envelope.mailbox) from None
        if found is Found.SENT:
            return outcome.FOUND_SENT
        if found is Found.EDITED:
            return outcome.held("Somebody edited the draft of this message; it is left to them.")
        state.looks += 1
        now = self._graph.now()
        if found is Found.DRAFT:
            if not state.still_draft:
                state.still_draft = now
            elif now - state.still_draft >= self._draft_apart and now - state.posted >= self._draft_after:
                return Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "It is still a draft: it was not sent.", "4.4.0")
        else:
            state.still_draft = 0.0
        # A look may come early, as after a restart; the time for all of them has to pass nevertheless.
        early = 0 <= now - state.posted < sum(self._looks)
        if state.looks > len(self._looks) and not early:
            if found is Found.GONE:
                self._sent_ids.contradict(state.draft.mailbox)
            return outcome.held(f"{state.error} Neither its draft nor a copy in Sent Items tells whether it was sent.")
        wait = self._looks[min(state.looks, len(self._looks)) - 1]
        return Verdict(Outcome.AMBIGUOUS, Then.TRANSIENT, state.error, "4.4.0", wait)

    def first_look(self) -> float:
        """Seconds from an ambiguous send to the first look."""
        return self._looks[0]

    def drop_draft(self, claim: Claim) -> None:
        """The message waits for long or is given up: leave no draft in the mailbox, if that can be had."""
        draft = claim.state.draft
        if draft is None or not draft.id:
            return
        if claim.entry.phase is Phase.POSTING:
            claim.unpost()  # it was refused; without its draft a crash would leave that unknown
        try:
            self._steps.delete(claim, draft)
        except (SignInNeeded, Temporary, Permanent) as error:
            logger.info("%s: its draft stays for now: %s", claim.id, error)

    # One attempt.

    def _go_on(self, message: Outgoing, draft: DraftState) -> Optional[Verdict]:
        """Go on with the draft of an earlier attempt.

        None if there is none any more, and a new one may be made; or if it is unfinished, and to be filled further.
        """
        claim = message.claim
        draft.posted = False  # the earlier attempt surely sent nothing
        if draft.phase is DraftPhase.ASKED:
            self._steps.clear_up(claim, draft)
            return None
        if draft.phase is DraftPhase.DELETING:
            self._steps.delete(claim, draft)
            return None if claim.state.draft is None else self._lost(claim, draft)
        was_untouched = self._steps.is_untouched(claim)
        found = self._steps.find_again(claim, draft)
        if draft.phase is DraftPhase.FILLING and found is not Found.SENT:
            can_go_on = found is Found.DRAFT and message.prepared.is_large and self._large.can_be_filled(claim, draft)
            if not can_go_on:
                self._steps.discard(claim)
            return None
        if found is Found.SENT:
            return outcome.FOUND_SENT
        if found is Found.EDITED:
            return outcome.held("Somebody edited the draft of this message; it is left to them.")
        if found is not Found.DRAFT:
            return self._lost(claim, draft)
        if draft.phase is DraftPhase.BARE and not was_untouched:
            draft.phase = DraftPhase.MADE  # it may be found by anybody by now
        if draft.phase is DraftPhase.MADE:
            draft = self._steps.mark(message, draft)
        return self._send_draft(message, draft)

    def _lost(self, claim: Claim, draft: DraftState) -> Verdict:
        """Our draft is not where it was: somebody may have sent it, so it has to be looked for."""
        draft.posted = False  # not by us: a Message-ID in Sent Items may as well be another mail's
        claim.state.posted = self._graph.now()
        claim.mark_posting()
        sentence = "The draft of this message is gone from Drafts; somebody may have sent it."
        return Verdict(Outcome.AMBIGUOUS, Then.TRANSIENT, sentence, "4.4.0")

    def _try_ways(self, message: Outgoing) -> Verdict:
        """The learned way first; after a refusal for want of a right, surely nothing sent, the next."""
        claim, envelope, large = message.claim, message.envelope, message.prepared.is_large
        refused: List[Tuple[Verdict, str, str]] = []
        for route in self._routes.candidates(envelope.mailbox):
            if large and not (route.drafts and self._may_upload(route.url_mailbox)):
                continue
            verdict = self._try_way(message, route)
            if verdict.outcome is not Outcome.NOT_SENT or claim.state.code.lower() not in _ANOTHER_WAY:
                return verdict
            refused.append((verdict, claim.state.code, claim.state.request_id))
            if claim.entry.phase is Phase.POSTING:
                claim.unpost()  # surely not sent: what goes wrong on the next way must not make that doubtful
            if not large:
                self._routes.forget(envelope.mailbox)
            if claim.state.draft is not None:
                break
        if not refused:
            return self._no_large_mail(envelope)
        telling = [one for status in _MOST_TELLING for one in refused if one[0].status == status]
        verdict, claim.state.code, claim.state.request_id = (telling or refused)[0]
        return verdict

    def _no_large_mail(self, envelope: Envelope) -> Verdict:
        """The verdict if no way takes a message that needs a draft and an upload."""
        sentence = refusals.sentence(
            refusals.LARGE, http=403, code="", mailbox=envelope.mailbox, user=self._graph.user, app=self._graph.app
        )
        return Verdict(Outcome.NOT_SENT, Then.ADMINISTRATOR, sentence, "5.3.4", outcome.ADMINISTRATOR_WAIT)

    def _may_upload(self, mailbox: str) -> bool:
        """False for a while after it was refused: somebody may grant it."""
        return time.monotonic() - self._no_uploads.get(mailbox, -math.inf) > outcome.ADMINISTRATOR_WAIT

    def _try_way(self, message: Outgoing, route: Route) -> Verdict:
        claim, mailbox = message.claim, route.url_mailbox
        claim.state.code = claim.state.request_id = ""
        if not route.drafts:
            return self._send_at_once(message, route)
        try:
            if message.prepared.is_large:
                draft = self._large.make(message, mailbox)
            else:
                draft = self._steps.make(message, mailbox)
        except UploadDenied as error:
            self._no_uploads[mailbox] = time.monotonic()
            with contextlib.suppress(GraphRefused):  # a draft that stays is deleted at the next attempt
                self._steps.discard(claim)
            return self._not_made(message, mailbox, error.answer)
        except (GraphTrouble, GraphRefused) as error:
            return self._not_made(message, mailbox, error.answer)
        except DraftSpoiled as error:
            return outcome.of_failure(str(error), False)._replace(status="4.4.0")
        except Throttled:
            if is_asked(claim.state.draft):
                claim.state.draft = None  # surely none was made
            raise
        except NoAnswer as error:
            return outcome.of_failure(str(error), False)
        except Permanent as error:
            return Verdict(Outcome.NOT_SENT, Then.PERMANENT, str(error), "5.6.0")
        if not message.prepared.is_large:
            self._routes.learn(message.envelope.mailbox, route)
        return self._send_draft(message, draft)

    def _not_made(self, message: Outgoing, url_mailbox: str, answer: Answer) -> Verdict:
        """A draft that was refused sent nothing, whatever the answer was."""
        claim = message.claim
        if is_asked(claim.state.draft) and answer.from_graph and 400 <= answer.status < 500:
            claim.state.draft = None  # Graph itself says that there is none
        if _is_throttling(answer):
            raise _throttled(answer, url_mailbox)
        verdict = self._judge(message, url_mailbox, answer, sends=False)._replace(outcome=Outcome.NOT_SENT)
        if claim.state.draft is not None and claim.state.draft.id and answer.code.lower() == "erroritemnotfound":
            claim.state.code = ""  # no reason to go another way: Exchange does not know it everywhere at once
            return verdict._replace(then=Then.TRANSIENT, sentence="Exchange does not know the draft yet.", wait=0.0)
        if answer.ok and answer.from_graph:
            return verdict._replace(then=Then.TRANSIENT, sentence="Graph's answer broke off in the middle.", wait=0.0)
        return verdict

    def _unreadable(self, message: Outgoing, answer: Answer) -> Verdict:
        """The draft of an earlier attempt cannot be looked at: it is reading that lacks a right."""
        draft = message.claim.state.draft
        mailbox = draft.mailbox if draft is not None else message.envelope.mailbox
        verdict = self._not_made(message, mailbox, answer)
        if verdict.then is not Then.ADMINISTRATOR:
            return verdict
        return verdict._replace(
            sentence=refusals.sentence(
                refusals.READ,
                http=answer.status,
                code=answer.code,
                mailbox=mailbox,
                user=self._graph.user,
                app=self._graph.app,
            )
        )

    def _send_draft(self, message: Outgoing, draft: DraftState) -> Verdict:
        claim, state = message.claim, message.claim.state
        self._graph.check_ready(draft.mailbox)
        state.posted, state.still_draft, state.looks = self._graph.now(), 0.0, 0
        draft.posted = True
        claim.mark_posting()
        try:
            answer = self._drafts.send(draft.mailbox, draft.id)
        except (SignInNeeded, Temporary) as error:
            if isinstance(error, NoAnswer):
                return outcome.of_failure(str(error), error.maybe_processed)
            # Throttled meanwhile, or the token was refused (401) and there is no new one: nothing was sent.
            claim.unpost()
            raise
        if answer.status == 404 and answer.from_graph:
            if draft.phase is DraftPhase.BARE:  # made just now, and Exchange does not know it everywhere at once
                claim.unpost()
                return Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "Exchange does not know the draft yet.", "4.4.0")
            return self._lost(claim, draft)
        if _is_throttling(answer):
            claim.unpost()
            raise _throttled(answer, draft.mailbox)
        return self._judge(message, draft.mailbox, answer)

    def _send_at_once(self, message: Outgoing, route: Route) -> Verdict:
        claim, prepared = message.claim, message.prepared
        self._budget.spend(route.url_mailbox, prepared.size * 4 // 3)
        self._graph.check_ready(route.url_mailbox)
        claim.state.posted = self._graph.now()
        claim.mark_posting()
        try:
            answer = self._graph.call(
                "POST",
                route.url_mailbox,
                "/sendMail",
                headers={"Content-Type": "text/plain"},
                body=lambda: base64_body(prepared.size, prepared.chunks()),
                seconds=SEND_SECONDS + prepared.size / OCTETS_PER_SECOND,
            )
        except (SignInNeeded, Temporary) as error:
            if isinstance(error, NoAnswer):
                verdict = outcome.of_failure(str(error), error.maybe_processed)
            else:
                claim.unpost()
                raise
        else:
            if _is_throttling(answer):
                claim.unpost()
                raise _throttled(answer, route.url_mailbox)
            verdict = self._judge(message, route.url_mailbox, answer)
        if verdict.outcome is Outcome.SENT:
            self._routes.learn(message.envelope.mailbox, route)
        if verdict.outcome is Outcome.AMBIGUOUS:
            return self._unverifiable(claim, verdict.sentence)
        return verdict

    def _unverifiable(self, claim: Claim, sentence: str) -> Verdict:
        """There is nothing to look for: it is sent once more or held, as the administrator has chosen."""
        claim.state.unanswered += 1
        if self._on_ambiguous is OnAmbiguous.HOLD or claim.state.unanswered > 1:
            return outcome.held(sentence)
        sentence = f"{sentence} It is sent again (queue.on_ambiguous), and may arrive twice."
        return Verdict(Outcome.NOT_SENT, Then.TRANSIENT, sentence, "4.4.0", ONE_STEP_WAIT)

    def _judge(self, message: Outgoing, url_mailbox: str, answer: Answer, sends: bool = True) -> Verdict:
        message.claim.state.code = answer.code
        message.claim.state.request_id = answer.request_id
        return outcome.of_answer(
            answer.status,
            answer.code,
            answer.from_graph,
            mailbox=url_mailbox if answer.code.lower() in refusals.OF_THE_URL else message.envelope.mailbox,
            user=self._graph.user,
            host=self._graph.host,
            app=self._graph.app,
            retry_after=answer.retry_after,
            sends=sends,
        )


def _is_throttling(answer: Answer) -> bool:
    """Whether Graph did nothing but ask to wait."""
    return answer.status == 429 and answer.from_graph


def _throttled(answer: Answer, mailbox: str) -> Throttled:
    return Throttled(mailbox, answer.throttled_for, request_id=answer.request_id)


def _or_throttled(error: Union[Throttled, GraphTrouble], mailbox: str) -> Union[Throttled, GraphTrouble]:
    """The error; as Throttled if it is Graph's 429 to a read."""
    return (
        _throttled(error.answer, mailbox) if isinstance(error, GraphTrouble) and _is_throttling(error.answer) else error
    )
