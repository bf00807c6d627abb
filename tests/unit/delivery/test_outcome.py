import pytest
from cases import each

from m365proxy.delivery import outcome
from m365proxy.delivery.outcome import Outcome, Then

SENT, NOT_SENT, AMBIGUOUS = Outcome
TRANSIENT, PERMANENT, ADMINISTRATOR = Then

NAMES = {"mailbox": "alerts@contoso.com", "user": "relay@contoso.com", "host": "graph.microsoft.com"}


@each(
    "http,code,from_graph,sent,then",
    [
        (202, "", True, SENT, PERMANENT),
        (202, "", False, AMBIGUOUS, ADMINISTRATOR),
        (200, "", True, AMBIGUOUS, ADMINISTRATOR),
        (200, "", False, AMBIGUOUS, ADMINISTRATOR),
        (204, "", True, AMBIGUOUS, ADMINISTRATOR),
        (302, "", False, AMBIGUOUS, ADMINISTRATOR),
        (400, "ErrorInvalidRecipients", True, NOT_SENT, PERMANENT),
        (400, "errorinvalidrecipients", True, NOT_SENT, PERMANENT),
        (400, "ErrorMimeContentInvalidBase64String", True, NOT_SENT, PERMANENT),
        (400, "BadRequest", True, NOT_SENT, ADMINISTRATOR),
        (400, "SomethingNew", True, NOT_SENT, ADMINISTRATOR),
        (401, "InvalidAuthenticationToken", True, NOT_SENT, ADMINISTRATOR),
        (403, "ErrorSendAsDenied", True, NOT_SENT, PERMANENT),
        (403, "ErrorAccessDenied", True, NOT_SENT, ADMINISTRATOR),
        (403, "ErrorQuotaExceeded", True, NOT_SENT, ADMINISTRATOR),
        (403, "", False, AMBIGUOUS, ADMINISTRATOR),
        (403, "ErrorSendAsDenied", False, AMBIGUOUS, ADMINISTRATOR),
        (404, "ErrorInvalidUser", True, NOT_SENT, ADMINISTRATOR),
        (407, "", False, AMBIGUOUS, ADMINISTRATOR),
        (413, "RequestEntityTooLarge", True, NOT_SENT, PERMANENT),
        (413, "", True, NOT_SENT, ADMINISTRATOR),
        (413, "NeverHeardOf", True, NOT_SENT, ADMINISTRATOR),
        (429, "ApplicationThrottled", True, NOT_SENT, TRANSIENT),
        (429, "", True, NOT_SENT, TRANSIENT),
        (500, "ErrorInternalServerError", True, AMBIGUOUS, TRANSIENT),
        (502, "", False, AMBIGUOUS, TRANSIENT),
        (503, "ErrorServerBusy", True, AMBIGUOUS, TRANSIENT),
        (504, "UnknownError", True, AMBIGUOUS, TRANSIENT),
        (507, "quotaLimitReached", True, NOT_SENT, ADMINISTRATOR),
    ],
)
def test_the_table(http, code, from_graph, sent, then):
    verdict = outcome.of_answer(http, code, from_graph, **NAMES)
    assert (verdict.outcome, verdict.then) == (sent, then)
    if sent != SENT:
        assert verdict.sentence and "{" not in verdict.sentence


def test_only_graphs_own_words_are_permanent():
    for http in range(200, 600):
        for code in ("", "Nonsense", "ErrorInvalidRecipients"):
            verdict = outcome.of_answer(http, code, False, **NAMES)
            assert verdict.outcome is AMBIGUOUS and verdict.then != PERMANENT


@each(
    "http,from_graph,words",
    [
        (200, True, "200 instead of 202"),
        (200, False, "not from Graph"),
        (202, False, "not from Graph"),
        (204, True, "not from Graph"),
        (204, False, "not from Graph"),
    ],
)
def test_the_sentence_for_a_success_that_is_none(http, from_graph, words):
    sentence = outcome.of_answer(http, "", from_graph, **NAMES).sentence
    assert words in sentence


def test_a_permanent_verdict_takes_its_tries_and_its_grace():
    bad = outcome.of_answer(400, "ErrorInvalidRecipients", True, **NAMES)
    assert not bad.final(1, 1e9)
    assert bad.final(2, 0)
    denied = outcome.of_answer(403, "ErrorSendAsDenied", True, **NAMES)
    assert not denied.final(50, 7199)
    assert denied.final(1, 7200)


def test_a_200_is_explained_for_what_it_is():
    swallowed = outcome.of_answer(200, "", True, **NAMES).sentence
    assert "200 instead of 202 for alerts@contoso.com" in swallowed and "attachment_limit_mb" in swallowed
    foreign = outcome.of_answer(200, "", False, **NAMES).sentence
    assert "HTTP 200 came, but not from Graph" in foreign and "graph.microsoft.com unfiltered" in foreign


def test_sentences_name_the_powershell_line():
    denied = outcome.of_answer(403, "ErrorSendAsDenied", True, **NAMES)
    assert "Add-RecipientPermission alerts@contoso.com -Trustee relay@contoso.com" in denied.sentence


@each(
    "attempts,interval,wait,delay",
    [
        (1, 300, 0, 5),
        (2, 300, 0, 15),
        (3, 300, 0, 60),
        (4, 300, 0, 300),
        (99, 300, 0, 300),
        (1, 2, 0, 2),
        (1, 300, 900, 900),
        (5, 300, 10, 300),
    ],
)
def test_retry_delay(attempts, interval, wait, delay):
    assert outcome.retry_delay(attempts, interval, 0.0, wait) == delay
    assert outcome.retry_delay(attempts, interval, 1.0, wait) == pytest.approx(delay * 1.1)


@pytest.mark.parametrize("maybe,sent", [(True, AMBIGUOUS), (False, NOT_SENT)])
def test_failures_without_an_answer(maybe, sent):
    verdict = outcome.of_failure("gone", maybe)
    assert (verdict.outcome, verdict.then) == (sent, TRANSIENT)


@each("http, from_graph", [(200, True), (503, True), (302, True), (502, False), (407, False)])
def test_what_only_makes_a_draft_sent_nothing(http, from_graph):
    assert outcome.of_answer(http, "", from_graph, **NAMES).outcome is Outcome.AMBIGUOUS
    before = outcome.of_answer(http, "", from_graph, sends=False, **NAMES)
    assert before.outcome is Outcome.NOT_SENT
    assert http != 503 or before.sentence.endswith("; nothing was sent. It is tried again.")
