"""One message's way to Graph: made ready, posted, and the answer judged."""

from __future__ import annotations

from typing import BinaryIO, Callable

from . import log, message, outcome
from .errors import Permanent, SignInNeeded, Temporary
from .graph import REQUEST_LIMIT, Answer, Graph, GraphUnreachable, base64_body
from .outcome import Verdict
from .spool import Claim, Envelope

logger = log.get("delivery")

# Seconds: a send may take this long to be answered, and a second more per this many octets.
_SEND_SECONDS = 120.0
_OCTETS_PER_SECOND = 32 * 1024

# Our clock is believed after this moment: a board without a clock boots in 1970.
_PLAUSIBLE_CLOCK = 1_750_000_000.0


class Delivery:
    """Hands claimed messages to Graph.  Any thread may use it; a claim belongs to its caller."""

    def __init__(self, graph: Graph, may_send_as: Callable[[str, str], bool]):
        """`may_send_as(mailbox, address)`: whether the mailbox's From may be that address."""
        self._graph = graph
        self._may_send_as = may_send_as

    def deliver(self, claim: Claim, envelope: Envelope, file: BinaryIO) -> Verdict:
        """One attempt.  SignInNeeded and Temporary if there is no token; the claim is then still `claimed`."""
        try:
            prepared = self._prepare(claim, envelope, file)
        except Permanent as error:
            return Verdict(outcome.NOT_SENT, outcome.PERMANENT, str(error), "5.6.0")
        if prepared.size * 4 / 3 > REQUEST_LIMIT:
            sentence = f"The message has {prepared.size} octets, which is more than Graph takes in one request."
            return Verdict(outcome.NOT_SENT, outcome.PERMANENT, sentence, "5.3.4")
        self._graph.ready(envelope.mailbox)
        claim.posting()
        try:
            answer = self._graph.call(
                "POST",
                envelope.mailbox,
                "/sendMail",
                headers={"Content-Type": "text/plain"},
                body=lambda: base64_body(prepared.size, prepared.chunks()),
                seconds=_SEND_SECONDS + prepared.size / _OCTETS_PER_SECOND,
            )
        except GraphUnreachable as error:
            return outcome.of_failure(str(error), error.maybe_processed)
        except (SignInNeeded, Temporary):
            # The token was refused (401: nothing was sent) and there is no new one.
            claim.claimed()
            raise
        return self._judge(claim, envelope, answer)

    def _prepare(self, claim: Claim, envelope: Envelope, file: BinaryIO) -> message.Prepared:
        domain = envelope.mailbox.rpartition("@")[2]
        if not claim.state.message_id:
            claim.state.message_id = f"<{claim.id}@{domain}>"
        accepted = envelope.accepted if envelope.accepted > _PLAUSIBLE_CLOCK else None
        return message.prepare(
            file,
            file.tell(),
            recipients=envelope.recipients,
            sender=envelope.sender or envelope.mailbox,
            message_id=claim.state.message_id,
            date=accepted,
            may_send_as=lambda address: self._may_send_as(envelope.mailbox, address),
        )

    def _judge(self, claim: Claim, envelope: Envelope, answer: Answer) -> Verdict:
        claim.state.code = answer.code
        claim.state.request_id = answer.request_id
        return outcome.of_answer(
            answer.status,
            answer.code,
            answer.from_graph,
            mailbox=envelope.mailbox,
            user=self._graph.user,
            host=self._graph.host,
            retry_after=answer.retry_after,
        )


def clock_is_plausible(now: float) -> bool:
    """Whether a wall-clock time can be true."""
    return now > _PLAUSIBLE_CLOCK


def accepted_age(envelope: Envelope, now: float) -> float:
    """Seconds since acceptance by the wall clock; 0 where the clock was wrong then."""
    if envelope.accepted < _PLAUSIBLE_CLOCK:
        return 0.0
    return max(0.0, now - envelope.accepted)
