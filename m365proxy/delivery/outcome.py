"""What Graph's answer to a send means for the message, in one table; graph/refusals.py has the sentences for people.

Two questions are asked of every answer or failure: was the message sent
(`Outcome`), and what may follow (`Then`).  Graph has no idempotency key, so
only Graph's own 202 is "sent", and only what Graph itself refused in its own
words, or what never left, is "not sent".
"""

from __future__ import annotations

import enum
from typing import Dict, NamedTuple, Optional

from ..graph import refusals


class Outcome(enum.Enum):
    """Whether the message was sent."""

    SENT = "sent"
    NOT_SENT = "not sent"
    AMBIGUOUS = "ambiguous"  # it may have been sent


class Then(enum.Enum):
    """What may follow."""

    TRANSIENT = "transient"  # try again soon
    PERMANENT = "permanent"  # never try again
    ADMINISTRATOR = "administrator"  # somebody must change something: try again slowly


# While an administrator must change something, sending is tried every 15 minutes (seconds).
ADMINISTRATOR_WAIT = 900.0

# New Exchange rights take an hour or more to work everywhere (seconds).
_RIGHTS_GRACE = 7200.0


class Verdict(NamedTuple):
    """`status` is the enhanced code for a delivery report (RFC 3463); `wait` the minimum wait in seconds.

    A PERMANENT verdict holds only after `tries` attempts and `grace` seconds since acceptance.
    """

    outcome: Outcome
    then: Then
    sentence: str
    status: str = "4.0.0"
    wait: float = 0.0
    tries: int = 1
    grace: float = 0.0

    def final(self, attempts: int, age: float) -> bool:
        """Whether to give up after `attempts` tries at a message of `age` seconds."""
        return self.then is Then.PERMANENT and attempts >= self.tries and age >= self.grace


# It was sent: Graph said 202, or it was found to be sent though Graph had said something else, or nothing.
DELIVERED = Verdict(Outcome.SENT, Then.PERMANENT, "", "2.0.0")
FOUND_SENT = Verdict(Outcome.SENT, Then.PERMANENT, "It was found to be sent.", "2.0.0")


class _Rule(NamedTuple):
    then: Then
    status: str
    tries: int = 1
    grace: float = 0.0


_NO_RIGHT = _Rule(Then.ADMINISTRATOR, "4.7.0")
_FULL = _Rule(Then.ADMINISTRATOR, "4.2.2")
_NOBODY = _Rule(Then.ADMINISTRATOR, "4.1.8")
_SLOWER = _Rule(Then.TRANSIENT, "4.4.5")
_CONFLICT = _Rule(Then.TRANSIENT, "4.4.0")

# error.code in lower case -> what may follow (errors.md); the sentences are in refusals.
_RULES: Dict[str, _Rule] = {
    "errorinvalidrecipients": _Rule(Then.PERMANENT, "5.1.3", tries=2),
    "errormimecontentinvalidbase64string": _Rule(Then.PERMANENT, "5.6.0", tries=2),
    "errormimecontentinvalid": _Rule(Then.PERMANENT, "5.6.0", tries=2),
    "errormessagesizeexceeded": _Rule(Then.PERMANENT, "5.3.4"),
    "requestentitytoolarge": _Rule(Then.PERMANENT, "5.3.4"),
    "errorsendasdenied": _Rule(Then.PERMANENT, "5.7.60", grace=_RIGHTS_GRACE),
    "erroraccessdenied": _NO_RIGHT,
    "erroritemnotfound": _NO_RIGHT,
    "authorization_requestdenied": _NO_RIGHT,
    "errorquotaexceeded": _FULL,
    "quotalimitreached": _FULL,
    "errormessagesubmissionblocked": _NO_RIGHT,
    "erroraccountsuspend": _NO_RIGHT,
    **dict.fromkeys(refusals.NO_MAILBOX, _NOBODY),
    "invalidauthenticationtoken": _NO_RIGHT,
    "authenticationerror": _NO_RIGHT,
    "applicationthrottled": _SLOWER,
    "toomanyrequests": _SLOWER,
    "activitylimitreached": _SLOWER,
    "errorirresolvableconflict": _CONFLICT,
    "conflict": _CONFLICT,
}

_NOT_GRAPH = (
    "HTTP {http} came, but not from Graph: a proxy, filter or sign-on page is in the way. "
    "Let this machine reach {host} unfiltered on port 443."
)
_TROUBLE = (
    "Graph has trouble with {mailbox} (HTTP {http} {code}); it is not known whether the message was sent. It is looked "
    "for, and tried again if it was not."
)
_TROUBLE_BEFORE = "Graph has trouble with {mailbox} (HTTP {http} {code}); nothing was sent. It is tried again."
_SWALLOWED = (
    "Graph answered 200 instead of 202 for {mailbox}, which it does when it drops a message that is too large; "
    "it is not known whether the message was sent. If it comes again, lower attachment_limit_mb."
)


def of_answer(
    http: int,
    code: str,
    from_graph: bool,
    *,
    mailbox: str,
    user: str,
    host: str,
    app: str = "",
    retry_after: float = 0.0,
    sends: bool = True,
) -> Verdict:
    """The verdict on an HTTP answer; `user` and `app` as in refusals.sentence.

    `sends`: it answers a request to send; one that only makes or fills a draft surely sent nothing.

    `code` is Graph's innermost error.code; `from_graph`: it is a JSON answer
    (or an empty 202) with Graph's request-id, not a page from something between.
    """
    if http == 202 and from_graph:
        return DELIVERED
    names = {"mailbox": mailbox, "host": host, "http": http, "code": code or "no code"}
    unclear = Outcome.AMBIGUOUS if sends else Outcome.NOT_SENT
    if http == 200 and from_graph:
        return Verdict(unclear, Then.ADMINISTRATOR, _SWALLOWED.format(**names), "4.3.0", ADMINISTRATOR_WAIT)
    if not from_graph:
        then = Then.TRANSIENT if http >= 500 else Then.ADMINISTRATOR
        return Verdict(unclear, then, _NOT_GRAPH.format(**names), "4.4.0", retry_after)
    if http >= 500 and http != 507:
        trouble = _TROUBLE if sends else _TROUBLE_BEFORE
        return Verdict(unclear, Then.TRANSIENT, trouble.format(**names), "4.4.0", retry_after)
    if http < 400:
        return Verdict(unclear, Then.ADMINISTRATOR, _NOT_GRAPH.format(**names), "4.4.0", ADMINISTRATOR_WAIT)
    rule = _RULES.get(code.lower()) or _rule_of_status(http)
    wait = max(retry_after, ADMINISTRATOR_WAIT if rule.then is Then.ADMINISTRATOR else 0.0)
    sentence = refusals.sentence(refusals.SEND, http=http, code=code, mailbox=mailbox, user=user, app=app)
    return Verdict(Outcome.NOT_SENT, rule.then, sentence, rule.status, wait, rule.tries, rule.grace)


def _rule_of_status(http: int) -> _Rule:
    if http in (423, 429):
        return _SLOWER
    return _Rule(Then.ADMINISTRATOR, "5.3.4" if http == 413 else "4.0.0")


def of_failure(sentence: str, maybe_processed: bool, wait: float = 0.0) -> Verdict:
    """The verdict on a request that got no answer."""
    return Verdict(Outcome.AMBIGUOUS if maybe_processed else Outcome.NOT_SENT, Then.TRANSIENT, sentence, "4.4.1", wait)


def of_sign_in(sentence: str) -> Verdict:
    """The verdict when there was no token to send with."""
    return Verdict(Outcome.NOT_SENT, Then.ADMINISTRATOR, sentence, "4.7.0")


def held(sentence: str) -> Verdict:
    """The verdict on a message that may have been sent, when nothing more can be learned about it."""
    return Verdict(Outcome.AMBIGUOUS, Then.PERMANENT, sentence, "4.4.0")


def retry_delay(attempts: int, interval: float, jitter: float, wait: Optional[float] = None) -> float:
    """Seconds until the next try after `attempts` tries: 5 s, 15 s, 60 s, then `interval`.

    `jitter` in 0..1 spreads retries over a tenth of the delay; `wait` is the
    minimum that the verdict asks for.
    """
    early = (5.0, 15.0, 60.0)
    delay = min(early[attempts - 1], interval) if 0 < attempts <= len(early) else interval
    return max(delay, wait or 0.0) * (1.0 + 0.1 * jitter)
