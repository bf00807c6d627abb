import logging

import pytest
from smtp_harness import user

from m365proxy.smtp import replies
from m365proxy.smtp.refusals import RefusalLog

OTHER = replies.domain_refused("example.net")
POLICY = replies.domain_refused("example.org")


@pytest.mark.parametrize(
    "said, logged",
    [
        ([replies.OK, replies.UNKNOWN_COMMAND, replies.NO_ROOM, replies.LOGIN_REFUSED], 0),
        ([POLICY, POLICY, replies.OK, POLICY], 1),  # what is no refusal does not count
        ([POLICY, OTHER, POLICY], 3),
        ([replies.TOO_MANY_RECIPIENTS] * 2, 1),
        ([replies.LOGIN_NEEDED, POLICY, replies.LOGIN_NEEDED], 2),  # about the login: once a session
        ([replies.BAD_BASE64, replies.AUTH_SYNTAX, replies.AUTH_LINE_TOO_LONG, replies.BAD_BASE64], 3),
    ],
)
def test_what_is_logged(said, logged, caplog):
    caplog.set_level(logging.INFO)
    refusals = RefusalLog("192.0.2.7")
    for reply in said:
        refusals.note(reply, None)
    assert len(caplog.records) == logged


def test_the_line_names_the_client_and_its_mailbox(caplog):
    caplog.set_level(logging.INFO)
    refusals = RefusalLog("192.0.2.7")
    refusals.note(POLICY, user())
    refusals.note(replies.LOGIN_NEEDED_TLS, None)
    assert [record.getMessage() for record in caplog.records] == [
        "refused from 192.0.2.7 (scanner@contoso.com): 550 Mail to example.org is not allowed here (allowed_domains)",
        "refused from 192.0.2.7: 530 Log in first: set TLS (STARTTLS), user name and password on the device",
    ]
