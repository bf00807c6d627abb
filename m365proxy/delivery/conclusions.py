"""What becomes of a message after an attempt: it is removed, tried again, looked for, held, or given up."""

from __future__ import annotations

import logging
import random
import time
from typing import Callable, Dict, Mapping, Optional

from ..errors import ProxyError, Temporary, TokenRefused
from ..graph.answer import GraphTrouble, NoAnswer, Throttled
from ..graph.client import Graph
from ..spool.envelope import Envelope
from ..spool.spool import Claim
from ..spool.state import Phase, State
from ..system import events, log
from ..system.clock import clock_is_plausible
from . import outcome
from .attempt import Delivery
from .lanes import AT_ONCE, Lane, SentMail, Turn, Work
from .outcome import Outcome, Then, Verdict

logger = log.get("courier")

# A message is not given up before so many tries, however old it is.
_LEAST_TRIES = 10

# A message is given up for its age only if our clock differs from Graph's by at most so many seconds.
_CLOCK_DIFFERENCE = 300.0

# Failed attempts of which an administrator need not know if the trouble may pass by itself: about a minute's.
_PASSING = 3

# A message that waits longer than this (seconds) leaves no draft behind.
_DRAFT_KEPT = 900.0

# Seconds until the disk is asked again to remove a message that was sent.
_REMOVE_AGAIN = 60.0

# A mailbox is left alone longer than Graph asks for: by up to a tenth of it, but by at most so many seconds.
_MOST_JITTER = 60.0

_FAULT = "Something unexpected went wrong in this program; its log has the details. Please report it."


class Conclusions:
    """Used by all workers.  Each method ends a worker's claim, or keeps it for a turn to look or to remove.

    A method returns when the message is tried next, or None if it is not tried any more.
    """

    def __init__(
        self,
        graph: Graph,
        delivery: Delivery,
        *,
        retry_interval: float,
        lifetime: float,
        connection_failed: Callable[[Lane], None],
        failed: Callable[[], None],
        sent: Callable[[Claim], None] = lambda claim: None,
        clock: Callable[[], float] = time.time,
    ):
        """
        `graph`: for its clock.
        `retry_interval`, `lifetime`: as of the courier.
        `connection_failed(lane)`: called when a connection for a message of this lane failed.
        `failed`: called whenever a message was given up.
        `sent(claim)`: called whenever a message was sent, and is out of the queue for good.
        `clock`: this machine's wall clock.
        """
        self._graph = graph
        self._delivery = delivery
        self._retry_interval = retry_interval
        self._lifetime = lifetime
        self._connection_failed = connection_failed
        self._failed = failed
        self._sent = sent
        self._clock = clock

    def conclude(self, lane: Lane, claim: Claim, envelope: Envelope, verdict: Verdict) -> Optional[Turn]:
        """An attempt to send, or a look, has ended with a verdict."""
        if verdict.outcome is Outcome.SENT:
            lane.note_delivery(self._clock(), claim.id, _mail_sent(claim.state, verdict))
            logger.info(
                "%s delivered for %s to %d recipients (request-id %s)",
                claim.id,
                lane.mailbox,
                len(envelope.recipients),
                log.clean(claim.state.request_id) or "none",
                extra=_step("delivered", lane, claim, seconds=_waited(envelope)),
            )
            if claim.state.left_out:
                logger.info("%s was sent without: %s", claim.id, claim.state.left_out)
            return self.remove(lane, claim)
        state = claim.state
        if verdict.outcome is Outcome.NOT_SENT or not state.looks:
            state.attempts += 1  # a look that finds nothing out is no attempt
        state.error, state.status = verdict.sentence, verdict.status
        lane.note_error(verdict.sentence, self._clock())
        if verdict.outcome is Outcome.AMBIGUOUS:
            return self._look_or_hold(lane, claim, verdict)
        _note_first_attempt(state)
        if verdict.final(state.attempts, _age(state, envelope)) or self._is_expired(state, envelope):
            self.give_up(lane, claim, envelope, verdict)
            return None
        return self._defer(lane, claim, verdict)

    def conclude_error(self, lane: Lane, claim: Claim, envelope: Envelope, error: ProxyError) -> Optional[Turn]:
        """An attempt or a look has ended with an error of this message or mailbox: nothing was sent or found out."""
        if isinstance(error, Throttled):
            return self._conclude_throttled(lane, claim, envelope, error)
        if claim.entry.phase is Phase.POSTING:
            return self._ask_again(lane, claim, error)
        claim.state.request_id = error.answer.request_id if isinstance(error, GraphTrouble) else ""
        return self.conclude(lane, claim, envelope, _verdict_on(error))

    def conclude_fault(self, lane: Lane, claim: Claim, envelope: Envelope) -> Optional[Turn]:
        """An attempt or a look has ended with a fault of this program.

        The same may happen each time with this message.  So it counts, or the message might wait for ever
        without a report.
        """
        if claim.entry.phase is Phase.POSTING:
            return self._ask_again(lane, claim, Temporary(_FAULT))
        verdict = Verdict(Outcome.NOT_SENT, Then.PERMANENT, _FAULT, "5.3.0", 0.0, _LEAST_TRIES, self._lifetime)
        return self.conclude(lane, claim, envelope, verdict)

    def set_aside(self, lane: Lane, claim: Claim) -> Turn:
        """Nothing was sent or found out: the message stays what it is, and is due again."""
        if claim.entry.phase is Phase.POSTING:
            return lane.turn_in(0.0, Work.LOOK, claim)
        claim.save_state()  # a draft may have been made just now, or surely not
        claim.release()
        return lane.turn_in(0.0)

    def remove(self, lane: Lane, claim: Claim) -> Optional[Turn]:
        """It was sent: whatever the disk says, it is not sent again."""
        try:
            claim.remove_sent(lambda: self._sent(claim))
        except OSError as error:
            logger.error(
                "%s was sent, but its file cannot be removed: %s. Check the disk of state_dir.", claim.id, error
            )
            return lane.turn_in(_REMOVE_AGAIN, Work.REMOVE, claim)
        return None

    def give_up(self, lane: Lane, claim: Claim, envelope: Optional[Envelope], verdict: Verdict) -> None:
        """`envelope`: None if it cannot be read."""
        self._delivery.drop_draft(claim)
        claim.state.error, claim.state.status = verdict.sentence, verdict.status
        claim.fail()
        lane.note_error(verdict.sentence, self._clock())
        sender = log.clean(envelope.sender if envelope else "unknown")
        logger.error(
            "%s failed for good (from %s): %s It is kept in failed/.",
            claim.id,
            sender,
            verdict.sentence,
            extra=_step("failed", lane, claim, verdict.sentence),
        )
        self._failed()

    def _conclude_throttled(self, lane: Lane, claim: Claim, envelope: Envelope, error: Throttled) -> Optional[Turn]:
        """Pause the mailbox as long as Graph asks, and a little longer."""
        lane.skip_pace()
        jitter = random.random() * min(0.1 * error.seconds, _MOST_JITTER)
        lane.note_error(str(error), self._clock())
        if lane.pause(error.seconds + jitter):
            logger.info(  # Exchange's way of working; the Graph client warns of long ones
                "%s waits, its messages keep their place: %s",
                lane.mailbox,
                error,
                extra=events.step(
                    "throttled",
                    mailbox=lane.mailbox,
                    seconds=error.seconds,
                    request_id=error.request_id,
                    reason=str(error),
                ),
            )
        if error.request_id and claim.entry.phase is Phase.CLAIMED:
            _note_first_attempt(claim.state)
            if _age(claim.state, envelope) > self._lifetime:
                # It counts as a failed attempt, or the message might wait for ever without a report.
                claim.state.request_id = error.request_id
                verdict = Verdict(Outcome.NOT_SENT, Then.TRANSIENT, str(error), "4.4.5", error.seconds)
                return self.conclude(lane, claim, envelope, verdict)
        # The message keeps its place before those that came later.
        return self.set_aside(lane, claim)._replace(due=AT_ONCE)

    def _ask_again(self, lane: Lane, claim: Claim, error: ProxyError) -> Optional[Turn]:
        """Graph did not say what became of a message: ask again, less and less often, as long as messages live."""
        state = claim.state
        state.asked += 1
        state.error = str(error)
        lane.note_error(str(error), self._clock())
        if state.asked >= _LEAST_TRIES and state.posted and self._graph.now() - state.posted > self._lifetime:
            self._hold(lane, claim, f"Graph could not be asked whether it was sent: {error}")
            return None
        if isinstance(error, NoAnswer):
            self._connection_failed(lane)
        wait = outcome.retry_delay(state.asked, self._retry_interval, random.random(), _verdict_on(error).wait)
        logger.warning(
            "%s may have been sent; Graph is asked again in %d s: %s",
            claim.id,
            wait,
            error,
            extra=_step("doubtful", lane, claim, str(error), wait),
        )
        return lane.turn_in(wait, Work.LOOK, claim)

    def _look_or_hold(self, lane: Lane, claim: Claim, verdict: Verdict) -> Optional[Turn]:
        if verdict.then is Then.PERMANENT:
            self._hold(lane, claim, verdict.sentence)
            return None
        claim.save_state()
        if not claim.state.looks:
            logger.warning(
                "%s may have been sent; it is looked for: %s",
                claim.id,
                verdict.sentence,
                extra=_step("doubtful", lane, claim, verdict.sentence),
            )
        return lane.turn_in(verdict.wait or self._delivery.first_look(), Work.LOOK, claim)

    def _hold(self, lane: Lane, claim: Claim, sentence: str) -> None:
        claim.state.error = sentence
        claim.hold()
        logger.error(
            "%s is held, as it may have been sent: %s Look into Sent Items of %s, then run `m365proxy queue retry %s` "
            "or `m365proxy queue drop %s`.",
            claim.id,
            sentence,
            lane.mailbox,
            claim.id,
            claim.id,
            extra=_step("held", lane, claim, sentence),
        )

    def _is_expired(self, state: State, envelope: Envelope) -> bool:
        """Too old, tried often enough, and our clock agreed with Graph's at the last try."""
        clocks_agree = bool(state.request_id) and abs(self._graph.skew) <= _CLOCK_DIFFERENCE
        return clocks_agree and state.attempts >= _LEAST_TRIES and _age(state, envelope) > self._lifetime

    def _defer(self, lane: Lane, claim: Claim, verdict: Verdict) -> Turn:
        delay = outcome.retry_delay(claim.state.attempts, self._retry_interval, random.random(), verdict.wait)
        if delay > _DRAFT_KEPT:
            self._delivery.drop_draft(claim)
        claim.state.due = self._clock() + delay
        claim.defer()
        may_pass = verdict.then is Then.TRANSIENT and claim.state.attempts < _PASSING
        logger.log(
            logging.INFO if may_pass else logging.WARNING,
            "%s deferred for %d s: %s",
            claim.id,
            delay,
            verdict.sentence,
            extra=_step("deferred", lane, claim, verdict.sentence, delay),
        )
        if verdict.status == "4.4.1":
            self._connection_failed(lane)
        return lane.turn_in(delay)


def _step(
    event: str, lane: Lane, claim: Claim, reason: str = "", seconds: Optional[float] = None
) -> Mapping[str, Dict[str, events.Value]]:
    """What became of a message at an attempt or a look, with Graph's last answer, for the event log."""
    state = claim.state
    return events.step(
        event,
        id=claim.id,
        mailbox=lane.mailbox,
        failed_attempts=state.attempts,
        request_id=state.request_id or None,
        code=state.code or None,
        reason=reason or None,
        seconds=None if seconds is None else round(seconds, 1),
    )


def _waited(envelope: Envelope) -> Optional[float]:
    """Seconds from 250 to the end; None if the clock was wrong then."""
    return max(0.0, time.time() - envelope.accepted) if clock_is_plausible(envelope.accepted) else None


def _mail_sent(state: State, verdict: Verdict) -> SentMail:
    request_id = state.request_id if verdict == outcome.DELIVERED else ""  # else it is that of another answer
    return {"request_id": request_id, "draft": state.draft.mailbox if state.draft else ""}


def _note_first_attempt(state: State) -> None:
    if not state.first_attempt and clock_is_plausible(state.last_attempt):
        state.first_attempt = state.last_attempt


def _age(state: State, envelope: Envelope) -> float:
    """Seconds since acceptance; since the first try if our clock was wrong at the acceptance; 0 while it is wrong."""
    begun = envelope.accepted if clock_is_plausible(envelope.accepted) else state.first_attempt
    return max(0.0, state.last_attempt - begun) if begun and clock_is_plausible(state.last_attempt) else 0.0


def _verdict_on(error: ProxyError) -> Verdict:
    """What a message that was not sent may do after such an error."""
    if isinstance(error, TokenRefused):
        return outcome.of_sign_in(str(error))
    if isinstance(error, GraphTrouble):
        return Verdict(Outcome.NOT_SENT, Then.TRANSIENT, str(error), "4.4.0", error.answer.retry_after)
    return outcome.of_failure(str(error), False)
