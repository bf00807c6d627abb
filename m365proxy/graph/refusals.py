"""What Graph's refusals mean for the administrator: one table, refusal -> sentence with the next step.

Delivery, POP3 and `check` all take their sentences from here.  What is to be
done depends on what was tried and on who is signed in: an account in its own
mailbox, an account in another's, or the app itself.  The app is never advised
to take an application permission in Entra: that would open the whole tenant
and undo the scope its rights have in Exchange (docs/tenant.md).
"""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional

SEND, READ, LARGE = "send", "read", "send large mail"

# Codes that say that there is no such mailbox, whatever rights anybody has.
NO_MAILBOX = frozenset(
    {"errorinvaliduser", "request_resourcenotfound", "resourcenotfound", "mailboxnotenabledforrestapi"}
)

# Codes that say that a right is missing.
NO_RIGHT = frozenset({"erroraccessdenied", "errorsendasdenied", "erroritemnotfound", "authorization_requestdenied"})

# Codes that are about the mailbox in the URL, whichever mailbox the message is from.
OF_THE_URL = NO_MAILBOX | {"errorquotaexceeded", "quotalimitreached", "errormessagesizeexceeded"}

# What PowerShell takes as one word without quotes.
_BARE_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")


class Sentences(NamedTuple):
    """One refusal where an account is signed in: to its `own` mailbox, to an `other`; and for the `app`."""

    own: str
    other: str
    app: str


def _same(text: str) -> Sentences:
    return Sentences(text, text, text)


def _user_and_app(user: str, app: str) -> Sentences:
    return Sentences(user, user, app)


def _assignment(role: str) -> str:
    return (
        "this is normal for about two hours after rights were given or changed. After that, give the right in Exchange "
        "(RBAC for Applications), within a management scope that holds the mailbox: "
        f'`New-ManagementRoleAssignment -App {{app}} -Role "{role}" -CustomResourceScope m365proxy`. '
        "What is missing is shown by: `Test-ServicePrincipalAuthorization {app} -Resource {ps_mailbox}`"
    )


def _consent(permission: str) -> str:
    return f"Grant the app registration {permission} (delegated), then run `m365proxy login` again."


_FULL_ACCESS = (
    "`Add-MailboxPermission {ps_mailbox} -User {ps_user} -AccessRights FullAccess` (new rights take up to two hours)"
)
_SEND_AS = (
    "`Add-RecipientPermission {ps_mailbox} -Trustee {ps_user} -AccessRights SendAs` (new rights take up to two hours)"
)

_MAY_NOT_SEND = Sentences(
    f"Access denied: the sign-in may not send from {{mailbox}}. {_consent('Mail.Send')}",
    f"Access denied: {{user}} may not send from {{mailbox}}. Grant it with: {_SEND_AS}. "
    f"If it has that right, the sign-in lacks a permission. {_consent('Mail.Send.Shared')}",
    f"Access denied: the app may not send from {{mailbox}}; {_assignment('Application Mail.Send')}",
)
_MAY_NOT_READ = Sentences(
    f"The sign-in may not open {{mailbox}} (HTTP {{http}} {{code}}). {_consent('Mail.ReadWrite')}",
    f"Full Access is missing: {{user}} may not open {{mailbox}} (HTTP {{http}} {{code}}). Grant it with: "
    f"{_FULL_ACCESS}. If it has that right, the sign-in lacks a permission. {_consent('Mail.ReadWrite.Shared')}",
    f"The app may not open {{mailbox}} (HTTP {{http}} {{code}}); {_assignment('Application Mail.ReadWrite')}",
)
_NO_DRAFTS = Sentences(
    "The message is too large for one request, and Exchange allows no drafts for {mailbox}. "
    + _consent("Mail.ReadWrite"),
    "The message is too large for one request, and Exchange allows no drafts for {mailbox}. Grant Full Access with: "
    + _FULL_ACCESS,
    "The message is too large for one request, and the app may make no drafts in {mailbox}; "
    + _assignment("Application Mail.ReadWrite"),
)

_NOBODY = _same("There is no mailbox {mailbox} in the tenant. Check the name in the config.")
_FULL = _same("The mailbox {mailbox} is full. Make room in it (Sent Items counts too).")
_MIME = _same("Exchange cannot read the MIME structure of a message from {mailbox}. Check what the device sends.")
_SLOWER = _same("Graph asks to slow down for {mailbox}. It is tried again by itself.")
_CONFLICT = _same("Something else changed an item of {mailbox} at the same time. It is tried again.")

# error.code in lower case (errors.md; Exchange puts EWS response codes here): whatever was tried.
_ALWAYS: Dict[str, Sentences] = {
    "errorinvaliduser": _NOBODY,
    "request_resourcenotfound": _NOBODY,
    "resourcenotfound": _NOBODY,
    "mailboxnotenabledforrestapi": _same(
        "{mailbox} is no Exchange Online mailbox yet: no licence, soft-deleted, a guest, or on premises. Check its "
        "licence in the Microsoft 365 admin center; a new one takes up to a day."
    ),
    "errorquotaexceeded": _FULL,
    "quotalimitreached": _FULL,
    "erroraccountsuspend": _same("Exchange has suspended the account of {mailbox}. Unblock it in the Defender portal."),
    "invalidauthenticationtoken": _user_and_app(
        "Graph does not take the access token for {mailbox}. Check the clock of this machine; then run "
        "`m365proxy login`.",
        "Graph does not take the app's access token for {mailbox}. Check the clock of this machine, and cloud and "
        "tenant_id in the config.",
    ),
    "authenticationerror": _user_and_app(
        "Graph does not take the access token for {mailbox}. Run `m365proxy login`.",
        "Graph does not take the app's access token for {mailbox}. Check cloud and tenant_id in the config.",
    ),
    "applicationthrottled": _SLOWER,
    "toomanyrequests": _SLOWER,
    "activitylimitreached": _SLOWER,
    "errorirresolvableconflict": _CONFLICT,
    "conflict": _CONFLICT,
}

_TO_SEND: Dict[str, Sentences] = {
    **_ALWAYS,
    "erroraccessdenied": _MAY_NOT_SEND,
    "erroritemnotfound": _MAY_NOT_SEND,
    "authorization_requestdenied": _MAY_NOT_SEND,
    "errorsendasdenied": Sentences(
        "{mailbox} may not send as the From address of this message. Set the device's sender address to {mailbox}, or "
        "grant {user} Send As for the other address.",
        f"{{user}} may not send as the From address of this message. Grant it for {{mailbox}} with: {_SEND_AS}. "
        "Another address in send_as needs that right, too.",
        "The app may not send as the From address of this message. Set the device's sender address to {mailbox}, or "
        "make the address one of that mailbox.",
    ),
    "errorinvalidrecipients": _same(
        "Exchange refused the recipients of a message from {mailbox}. Check the addresses the device uses."
    ),
    "errormimecontentinvalidbase64string": _MIME,
    "errormimecontentinvalid": _MIME,
    "errormessagesizeexceeded": _same(
        "The message is larger than {mailbox} may send. To allow up to 150 MB: "
        "`Set-Mailbox {ps_mailbox} -MaxSendSize 150MB`"
    ),
    "requestentitytoolarge": _same(
        "The message from {mailbox} is larger than Graph takes in one request. Let the device send smaller ones."
    ),
    "errormessagesubmissionblocked": _same(
        "Exchange has blocked the sender {mailbox}. Unblock it in the Defender portal."
    ),
}

_UNKNOWN_TO_SEND = _same(
    'Graph refused a message from {mailbox} with "{code}" (HTTP {http}), which is not known to be final; '
    "it stays queued. Look up the code, and report it to the project."
)
_UNKNOWN_TO_READ = _same(
    'Graph refused to open {mailbox} with "{code}" (HTTP {http}). Look up the code, and report it to the project.'
)
_TOO_LARGE = _same(
    "Graph says that a message from {mailbox} is too large (HTTP 413 {code}). Let the device send smaller ones."
)


def sentence(tried: str, *, http: int, code: str, mailbox: str, user: str, app: str = "") -> str:
    """What an HTTP status of 4xx (or 507) with Graph's innermost error.code means for who `tried` it.

    `user` is the signed-in address, "" where the app (its ID is `app`) signs in by itself.
    """
    texts = _sentences(tried, http, code.lower())
    text = texts.app if not user else texts.own if user.lower() == mailbox.lower() else texts.other
    return text.format(
        mailbox=mailbox,
        user=user,
        app=app,
        http=http,
        code=code or "no code",
        ps_mailbox=powershell_word(mailbox),
        ps_user=powershell_word(user),
    )


def _sentences(tried: str, http: int, code: str) -> Sentences:
    if tried == LARGE:
        return _NO_DRAFTS
    if tried == READ:
        # 403 and 404 are one thing here: Exchange uses either where a right is missing.
        return _ALWAYS.get(code) or (_MAY_NOT_READ if http in (403, 404) else _by_status(http) or _UNKNOWN_TO_READ)
    return _TO_SEND.get(code) or _by_status(http) or (_TOO_LARGE if http == 413 else _UNKNOWN_TO_SEND)


def _by_status(http: int) -> Optional[Sentences]:
    return _SLOWER if http in (423, 429) else None


def powershell_word(text: str) -> str:
    """`text` as one word of a PowerShell line: in single quotes where it must be."""
    return text if _BARE_WORD.fullmatch(text) else "'" + text.replace("'", "''") + "'"
