"""Every refusal Graph is known for has a sentence with a next step, for whoever tried whatever."""

import pathlib
import re

import pytest
from cases import each

from m365proxy.delivery import outcome
from m365proxy.graph import refusals

USER, APP = "relay@contoso.com", "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"
SHARED = "scanner@contoso.com"

# Status and error.code, as Graph's and Exchange's documentation and reports have them; "" is an answer without.
KNOWN = [
    (400, "ErrorInvalidRecipients"),
    (400, "ErrorMimeContentInvalidBase64String"),
    (400, "ErrorMimeContentInvalid"),
    (400, "BadRequest"),
    (400, "ErrorMessageSizeExceeded"),
    (413, "ErrorMessageSizeExceeded"),
    (400, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"),
    (400, "InvalidInternetMessageHeader"),
    (400, "InvalidInternetMessageHeaderCollection"),
    (400, "RequestBodyRead"),
    (400, "UnableToDeserializePostBody"),
    (400, "InefficientFilter"),
    (400, "ErrorInvalidRestriction"),
    (400, "ErrorInvalidIdMalformed"),
    (401, "InvalidAuthenticationToken"),
    (401, "AuthenticationError"),
    (401, ""),
    (403, "ErrorAccessDenied"),
    (403, "ErrorSendAsDenied"),
    (403, "Authorization_RequestDenied"),
    (403, "ErrorQuotaExceeded"),
    (403, "ErrorMessageSubmissionBlocked"),
    (403, "ErrorAccountSuspend"),
    (403, "ErrorCannotDeleteObject"),
    (403, ""),
    (404, "ErrorItemNotFound"),
    (404, "ErrorInvalidMailboxItemId"),
    (404, "ErrorInvalidUser"),
    (404, "Request_ResourceNotFound"),
    (404, "ResourceNotFound"),
    (404, "MailboxNotEnabledForRESTAPI"),
    (404, ""),
    (405, ""),
    (409, "ErrorFolderExists"),
    (409, "Conflict"),
    (410, "resyncRequired"),
    (410, "syncStateNotFound"),
    (411, ""),
    (412, "ErrorIrresolvableConflict"),
    (413, "RequestEntityTooLarge"),
    (413, ""),
    (415, "RequestBodyRead"),
    (416, "invalidRange"),
    (423, ""),
    (424, ""),
    (429, "ApplicationThrottled"),
    (429, "TooManyRequests"),
    (429, "activityLimitReached"),
    (429, ""),
    (507, "quotaLimitReached"),
    (507, "insufficientStorage"),
    (509, ""),
]
TROUBLE = [
    (500, "ErrorInternalServerError"),
    (500, "UnknownError"),
    (500, "generalException"),
    (500, "ErrorCorruptData"),
    (503, "ErrorServerBusy"),
    (500, "ErrorMailboxStoreUnavailable"),
    (503, "ErrorMailboxMoveInProgress"),
    (500, "ErrorTimeoutExpired"),
    (502, "BadGateway"),
    (503, "serviceNotAvailable"),
    (504, "GatewayTimeout"),
]
WHO = {
    "own mailbox": {"mailbox": USER, "user": USER, "app": APP},
    "shared mailbox": {"mailbox": SHARED, "user": USER, "app": APP},
    "app": {"mailbox": SHARED, "user": "", "app": APP},
}
NEXT_STEP = re.compile(
    r"\b(?:Grant|Check|Run|Make room|Unblock|Let|Look up the code|Set the|give the right|To allow|run|tried again)\b"
)


def check(sentence, who):
    names = WHO[who]
    assert names["mailbox"] in sentence and NEXT_STEP.search(sentence), sentence
    assert sentence[0].isupper() or sentence.startswith((names["mailbox"], USER))
    assert "{" not in sentence and "  " not in sentence and "None" not in sentence
    if who == "app":
        # Rights of the app are given in Exchange, where they have a scope; never in Entra for the whole tenant.
        assert not re.search(r"Entra|consent|application permission|delegated|m365proxy login", sentence)
        assert "-User" not in sentence and "-Trustee" not in sentence
        assert not re.search(r"(?<!Application )Mail\.(?:Send|ReadWrite)", sentence)
    else:
        assert "-App" not in sentence
    if who == "own mailbox":
        assert "-User" not in sentence and "-Trustee" not in sentence  # nobody is given rights to what is his own


@each("tried", [refusals.SEND, refusals.READ, refusals.LARGE])
@each("http,code", KNOWN)
def test_every_refusal_says_what_to_do(http, code, tried):
    for who, words in WHO.items():
        check(refusals.sentence(tried, http=http, code=code, **words), who)


@each("http,code", KNOWN + TROUBLE)
def test_every_verdict_says_what_to_do(http, code):
    for who, words in WHO.items():
        check(outcome.of_answer(http, code, True, host="graph.microsoft.com", **words).sentence, who)


@pytest.mark.parametrize(
    "tried,role",
    [
        (refusals.SEND, "Application Mail.Send"),
        (refusals.READ, "Application Mail.ReadWrite"),
        (refusals.LARGE, "Application Mail.ReadWrite"),
    ],
)
def test_the_app_gets_its_rights_in_exchange(tried, role):
    text = refusals.sentence(tried, http=403, code="ErrorAccessDenied", **WHO["app"])
    assert f'New-ManagementRoleAssignment -App {APP} -Role "{role}" -CustomResourceScope m365proxy' in text
    assert f"Test-ServicePrincipalAuthorization {APP} -Resource {SHARED}" in text
    assert "RBAC for Applications" in text and "management scope" in text and "normal for about two hours" in text


def test_an_account_is_told_of_the_right_for_what_it_tried():
    texts = {
        tried: refusals.sentence(tried, http=403, code="ErrorAccessDenied", **WHO["shared mailbox"])
        for tried in (refusals.SEND, refusals.READ, refusals.LARGE)
    }
    assert f"Add-RecipientPermission {SHARED} -Trustee {USER} -AccessRights SendAs" in texts[refusals.SEND]
    for tried in (refusals.READ, refusals.LARGE):
        assert f"Add-MailboxPermission {SHARED} -User {USER} -AccessRights FullAccess" in texts[tried]


@each(
    "address,word",
    [
        ("scanner@contoso.com", "scanner@contoso.com"),
        ("a.b-c_d+e@x-y.com", "a.b-c_d+e@x-y.com"),
        ("o'brien@contoso.com", "'o''brien@contoso.com'"),
        ("$x@contoso.com", "'$x@contoso.com'"),
        ("a&b@contoso.com", "'a&b@contoso.com'"),
        ("-x@contoso.com", "'-x@contoso.com'"),
        ("#1@x.com", "'#1@x.com'"),
        ("{a}@x.com", "'{a}@x.com'"),
        ("a`b@x.com", "'a`b@x.com'"),
    ],
)
def test_commands_can_be_copied_whatever_the_address(address, word):
    assert refusals.powershell_word(address) == word
    for tried, http, code in (
        (refusals.SEND, 403, "ErrorAccessDenied"),
        (refusals.SEND, 403, "ErrorSendAsDenied"),
        (refusals.READ, 403, "ErrorAccessDenied"),
        (refusals.SEND, 400, "ErrorMessageSizeExceeded"),
    ):
        text = refusals.sentence(tried, http=http, code=code, mailbox=address, user="d'arc@contoso.com")
        command = re.search(r"`((?:Add|Set|Test)-[^ ]+ .*?[a-z0-9A-Z])`(?:[ .]|$)", text).group(1)
        assert command.split(" ")[1] == word
        assert "-User" not in command or "-User 'd''arc@contoso.com' " in command
        assert "-Trustee" not in command or "-Trustee 'd''arc@contoso.com' " in command


def test_the_manual_gives_the_app_no_right_in_the_whole_tenant():
    """Wherever the documentation speaks of the app's own rights, it is by a scope in Exchange."""
    root = pathlib.Path(__file__).resolve().parents[3]
    for page in [*root.glob("docs/*.md"), *root.glob("*.md"), *root.glob("m365proxy/*.py"), *root.glob("debian/*.py")]:
        text = " ".join(page.read_text("utf-8").split())
        assert not re.search(r"(?:Grant|Give) (?:it|the app)[^.]{0,60}application permission", text), page
        assert not re.search(r"Grant the app Mail\.", text), page
