import logging

import pytest
from smtp_harness import user

from m365proxy.smtp import replies
from m365proxy.smtp.refusals import RefusalLog

OTHER = replies.domain_refused("example.net")
POLICY = replies.domain_refused("example.org")
TOO_LARGE = replies.too_large("too large")
BROKEN = replies.message_refused("broken")


@pytest.fixture
def refusals(caplog):
    """A session's log; `refusals.lines()` are what it wrote."""
    caplog.set_level(logging.INFO)
    log = RefusalLog("192.0.2.7")
    log.lines = lambda: [record.getMessage() for record in caplog.records]
    return log


@pytest.mark.parametrize(
    "said, logged",
    [
        ([replies.OK, replies.UNKNOWN_COMMAND, replies.NO_ROOM, replies.LOGIN_REFUSED, replies.SENDER_FIRST], 0),
        ([BROKEN, BROKEN, replies.OK, BROKEN], 1),  # what is no refusal does not count
        ([BROKEN, TOO_LARGE, BROKEN], 3),
        ([replies.LOGIN_NEEDED, BROKEN, replies.LOGIN_NEEDED], 2),  # about the login: once a session
        ([replies.BAD_BASE64, replies.AUTH_SYNTAX, replies.AUTH_LINE_TOO_LONG, replies.BAD_BASE64], 3),
    ],
)
def test_what_is_logged(said, logged, refusals):
    for reply in said:
        refusals.note(reply, None, "DATA", "")
    assert len(refusals.lines()) == logged


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
@pytest.mark.parametrize(
    "reply, logged",
    [
        (replies.SENDER_OK, 0),
        (replies.RECIPIENT_OK, 0),
        (replies.LOGIN_NEEDED, 1),  # of the login
        (replies.RIGHT_LOST, 0),  # the end of the session is a line of its own
        (replies.recipient_syntax("x"), 2),
        (replies.recipient_refused("x", "it has no domain"), 2),
        (replies.NOTIFY_SYNTAX, 2),
        (replies.SENDER_FIRST, 2),
        (replies.TOO_MANY_RECIPIENTS, 2),
        (replies.not_ascii("x"), 2),
        (POLICY, 2),
    ],
)
def test_each_refused_sender_and_recipient_is_a_line(verb, reply, logged, refusals):
    for _ in range(2):
        refusals.note(reply, None, verb, "TO:<x>")
    assert len(refusals.lines()) == logged


def test_the_line_names_the_client_its_mailbox_and_the_address(refusals):
    refusals.note(POLICY, user(), "RCPT", 'TO:"M\xfcller" <a@example.org>')
    refusals.note(replies.sender_syntax("FROM:\t\udcff"), user(), "MAIL", "FROM:\t\udcff auth=s3cret")
    refusals.note(BROKEN, user(), "DATA", "")
    refusals.note(replies.LOGIN_NEEDED_TLS, None, "MAIL", "FROM:<x>")
    refusals.close(None)
    assert refusals.lines() == [
        'refused from 192.0.2.7 (scanner@contoso.com): "RCPT TO:\\"M\xfcller\\" <a@example.org>": '
        "550 Mail to example.org is not allowed here (allowed_domains)",
        'refused from 192.0.2.7 (scanner@contoso.com): "MAIL FROM:\\\\x09\\\\udcff auth=...": '
        "501 Use MAIL FROM:<address>, not FROM:??",
        "refused from 192.0.2.7 (scanner@contoso.com): 554 broken",
        "refused from 192.0.2.7: 530 Log in first: set TLS (STARTTLS), user name and password on the device",
    ]


def test_of_many_the_first_are_named_and_the_rest_counted(refusals):
    for number in range(500):
        refusals.note(replies.TOO_MANY_RECIPIENTS, user(), "RCPT", f"TO:<r{number}@contoso.com>")
    refusals.close(user())
    lines = refusals.lines()
    assert [f"r{number}@contoso.com" in line for number, line in enumerate(lines)] == [True] * 10 + [False]
    assert lines[-1] == "refused from 192.0.2.7 (scanner@contoso.com): 490 more senders and recipients"


@pytest.mark.parametrize("reply, level", [(POLICY, "WARNING"), (replies.TOO_MANY_RECIPIENTS, "INFO")])
def test_what_will_be_refused_the_next_time_too_is_a_warning(refusals, caplog, reply, level):
    refusals.note(reply, user(), "RCPT", "TO:<x@example.org>")
    assert [record.levelname for record in caplog.records] == [level]
