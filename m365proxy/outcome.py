"""What an answer of Graph to a send means: one table, and the sentence for the administrator.

Two questions are asked of every answer or failure: may the message have been
sent (SENT, NOT_SENT, AMBIGUOUS), and what may follow (TRANSIENT: try again
soon; PERMANENT: never; ADMINISTRATOR: somebody must change something, try
again slowly).  Graph has no idempotency key, so only 202 is "sent", and only
what Graph itself refused in its own words, or what never left, is "not sent".
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional

SENT = "sent"
NOT_SENT = "not sent"
AMBIGUOUS = "ambiguous"

TRANSIENT = "transient"
PERMANENT = "permanent"
ADMINISTRATOR = "administrator"

# An administrator's change is looked for every 15 minutes (seconds).
ADMINISTRATOR_WAIT = 900.0

# New Exchange rights take an hour or more to work everywhere (seconds).
_RIGHTS_GRACE = 7200.0


class Verdict(NamedTuple):
    """`status` is the enhanced code for a delivery report (RFC 3463); `wait` the least seconds to wait.

    A PERMANENT verdict holds only after `tries` attempts and `grace` seconds since acceptance.
    """

    sent: str
    then: str
    sentence: str
    status: str = "4.0.0"
    wait: float = 0.0
    tries: int = 1
    grace: float = 0.0

    def final(self, attempts: int, age: float) -> bool:
        """Whether to give up after `attempts` tries at a message of `age` seconds."""
        return self.then == PERMANENT and attempts >= self.tries and age >= self.grace


class _Rule(NamedTuple):
    then: str
    status: str
    sentence: str
    tries: int = 1
    grace: float = 0.0


# error.code in lower case -> what it means (errors.md; Exchange puts EWS response codes here).
_RULES: Dict[str, _Rule] = {
    "errorinvalidrecipients": _Rule(
        PERMANENT, "5.1.3", "Exchange refused the recipients. Check the addresses the device uses.", tries=2
    ),
    "errormimecontentinvalidbase64string": _Rule(
        PERMANENT, "5.6.0", "Exchange cannot read the message's MIME structure.", tries=2
    ),
    "errormimecontentinvalid": _Rule(
        PERMANENT, "5.6.0", "Exchange cannot read the message's MIME structure.", tries=2
    ),
    "errormessagesizeexceeded": _Rule(
        PERMANENT,
        "5.3.4",
        "The message is larger than the mailbox may send. To allow up to 150 MB: "
        "Set-Mailbox {mailbox} -MaxSendSize 150MB",
    ),
    "requestentitytoolarge": _Rule(PERMANENT, "5.3.4", "The message is larger than Graph takes in one request."),
    "errorsendasdenied": _Rule(
        PERMANENT,
        "5.7.60",
        "The signed-in account may not send as this From address. Grant it with: "
        "Add-RecipientPermission {mailbox} -Trustee {user} -AccessRights SendAs",
        grace=_RIGHTS_GRACE,
    ),
    "erroraccessdenied": _Rule(
        ADMINISTRATOR,
        "4.7.0",
        "Access denied: either the sign-in lacks the Mail.Send.Shared permission (run `m365proxy login` again), "
        "or the account lacks the right in Exchange: "
        "Add-MailboxPermission {mailbox} -User {user} -AccessRights FullAccess",
    ),
    "authorization_requestdenied": _Rule(
        ADMINISTRATOR, "4.7.0", "The app registration lacks a permission. Grant its permissions in Entra."
    ),
    "errorquotaexceeded": _Rule(
        ADMINISTRATOR, "4.2.2", "The mailbox {mailbox} is full. Make room in it (Sent Items counts too)."
    ),
    "quotalimitreached": _Rule(
        ADMINISTRATOR, "4.2.2", "The mailbox {mailbox} is full. Make room in it (Sent Items counts too)."
    ),
    "errormessagesubmissionblocked": _Rule(
        ADMINISTRATOR, "4.7.0", "Exchange has blocked this sender. Unblock it in the Defender portal."
    ),
    "erroraccountsuspend": _Rule(
        ADMINISTRATOR, "4.7.0", "Exchange has suspended this account. Unblock it in the Defender portal."
    ),
    "errorinvaliduser": _Rule(
        ADMINISTRATOR, "4.1.8", "There is no mailbox {mailbox} in the tenant. Check the name in the config."
    ),
    "request_resourcenotfound": _Rule(
        ADMINISTRATOR, "4.1.8", "There is no mailbox {mailbox} in the tenant. Check the name in the config."
    ),
    "resourcenotfound": _Rule(
        ADMINISTRATOR, "4.1.8", "There is no mailbox {mailbox} in the tenant. Check the name in the config."
    ),
    "mailboxnotenabledforrestapi": _Rule(
        ADMINISTRATOR,
        "4.1.8",
        "{mailbox} is no Exchange Online mailbox yet: no licence, soft-deleted, a guest, or on premises.",
    ),
    "invalidauthenticationtoken": _Rule(
        ADMINISTRATOR,
        "4.7.0",
        "Graph does not take the access token. Check the clock of this machine; then run `m365proxy login`.",
    ),
    "authenticationerror": _Rule(
        ADMINISTRATOR, "4.7.0", "Graph does not take the access token. Run `m365proxy login`."
    ),
    "applicationthrottled": _Rule(TRANSIENT, "4.4.5", "Graph asks to slow down for {mailbox}."),
    "toomanyrequests": _Rule(TRANSIENT, "4.4.5", "Graph asks to slow down for {mailbox}."),
    "activitylimitreached": _Rule(TRANSIENT, "4.4.5", "Graph asks to slow down for {mailbox}."),
    "errorirresolvableconflict": _Rule(TRANSIENT, "4.4.0", "Something else changed the item at the same time."),
    "conflict": _Rule(TRANSIENT, "4.4.0", "Something else changed the item at the same time."),
}

# The same where no account is signed in, but the app itself.
_APP_SENTENCES: Dict[str, str] = {
    "errorsendasdenied": "The app may not send as this From address. Let the mailbox {mailbox} send it, or use an "
    "address that is its own.",
    "erroraccessdenied": "Access denied: the app has no right to {mailbox}. Grant it the application permissions in "
    "Entra, and take the mailbox into its scope in Exchange (RBAC for Applications).",
}

_UNKNOWN_REFUSAL = (
    'Graph refused the message with "{code}" (HTTP {http}), which is not known to be final; '
    "it stays queued. Look the code up, and write to the project if it ought to be known."
)
_NOT_GRAPH = (
    "HTTP {http} came, but not from Graph: a proxy, filter or sign-on page stands in the way. "
    "Let this machine reach {host} unfiltered on port 443."
)
_TROUBLE = "Graph has trouble (HTTP {http} {code}); it is not known whether the message was sent."
_SWALLOWED = (
    "Graph answered 200 instead of 202, which it does when it drops a message that is too large; "
    "it is not known whether the message was sent."
)


def of_answer(
    http: int, code: str, from_graph: bool, *, mailbox: str, user: str, host: str, retry_after: float = 0.0
) -> Verdict:
    """The verdict on an HTTP answer to a send.

    `code` is Graph's innermost error.code; `from_graph` tells a JSON answer
    (or an empty 202) with Graph's request-id from a page of something between.
    """
    if http == 202:
        return Verdict(SENT, PERMANENT, "", "2.0.0")
    names = {"mailbox": mailbox, "user": user, "host": host, "http": http, "code": code or "no code"}
    if http == 200 and from_graph:
        return Verdict(AMBIGUOUS, ADMINISTRATOR, _SWALLOWED, "4.3.0", ADMINISTRATOR_WAIT)
    if not from_graph:
        then = TRANSIENT if http >= 500 else ADMINISTRATOR
        return Verdict(AMBIGUOUS, then, _NOT_GRAPH.format(**names), "4.4.0", retry_after)
    if http >= 500 and http != 507:
        return Verdict(AMBIGUOUS, TRANSIENT, _TROUBLE.format(**names), "4.4.0", retry_after)
    if http < 400:
        return Verdict(AMBIGUOUS, ADMINISTRATOR, _NOT_GRAPH.format(**names), "4.4.0", ADMINISTRATOR_WAIT)
    return _refusal(http, names, retry_after)


def _refusal(http: int, names: Dict[str, object], retry_after: float) -> Verdict:
    code = str(names["code"]).lower()
    rule = _RULES.get(code) or _rule_of_status(http)
    wait = max(retry_after, ADMINISTRATOR_WAIT if rule.then == ADMINISTRATOR else 0.0)
    sentence = (not names["user"] and _APP_SENTENCES.get(code) or rule.sentence).format(**names)
    return Verdict(NOT_SENT, rule.then, sentence, rule.status, wait, rule.tries, rule.grace)


def _rule_of_status(http: int) -> _Rule:
    if http in (423, 429):
        return _Rule(TRANSIENT, "4.4.5", "Graph asks to slow down for {mailbox}.")
    if http == 413:
        return _Rule(ADMINISTRATOR, "5.3.4", "Graph says that the message is too large (HTTP 413 {code}).")
    return _Rule(ADMINISTRATOR, "4.0.0", _UNKNOWN_REFUSAL)


def of_failure(sentence: str, maybe_processed: bool, wait: float = 0.0) -> Verdict:
    """The verdict on a request that got no answer."""
    return Verdict(AMBIGUOUS if maybe_processed else NOT_SENT, TRANSIENT, sentence, "4.4.1", wait)


def no_large_mail(mailbox: str, user: str) -> str:
    """The sentence for a message that needs a draft and an upload, where neither may be had."""
    grant = f"Grant: Add-MailboxPermission {mailbox} -User {user} -AccessRights FullAccess"
    if not user:
        grant = "Grant the app Mail.ReadWrite for it."
    return f"The message is too large for one request, and Exchange allows no drafts for {mailbox}. {grant}"


def of_sign_in(sentence: str) -> Verdict:
    """The verdict when there was no token to send with."""
    return Verdict(NOT_SENT, ADMINISTRATOR, sentence, "4.7.0")


def retry_delay(attempts: int, interval: float, jitter: float, wait: Optional[float] = None) -> float:
    """Seconds until the next try after `attempts` tries: 5 s, 15 s, 60 s, then `interval`.

    `jitter` in 0..1 spreads retries over a tenth of the delay; `wait` is the
    least that the verdict asks for.
    """
    early = (5.0, 15.0, 60.0)
    delay = min(early[attempts - 1], interval) if 0 < attempts <= len(early) else interval
    return max(delay, wait or 0.0) * (1.0 + 0.1 * jitter)
