"""What keeps a client from sending, found in the steps that the program itself makes."""

import logging

import pytest
from cases import each
from smtp_harness import user

from m365proxy.logins.guard import Guard
from m365proxy.logins.users import LoginRefused, Users
from m365proxy.monitoring.troubles import WORDS, Trouble, trouble_in
from m365proxy.server import handshake
from m365proxy.server.connection import Closed
from m365proxy.server.quirks import Habit, Quirks
from m365proxy.smtp import advice, replies
from m365proxy.smtp.refusals import RefusalLog
from m365proxy.system import events

CLIENT = "192.0.2.7"


@pytest.fixture
def steps(caplog):
    """steps(): those that were logged."""
    caplog.set_level(logging.INFO)
    return lambda: [record.event for record in caplog.records if hasattr(record, "event")]


def test_each_trouble_has_words():
    assert set(WORDS) == set(Trouble)


@pytest.mark.parametrize(
    "reply, trouble",
    [
        (replies.LOGIN_NEEDED, Trouble.NO_LOGIN),
        (replies.LOGIN_NEEDED_TLS, Trouble.LOGIN_WITHOUT_TLS),
        (replies.LOGIN_NEEDED_CERTIFICATE, Trouble.LOGIN_WITHOUT_TLS),
        (replies.LOGIN_NEEDS_TLS, Trouble.LOGIN_WITHOUT_TLS),
        (replies.LOGIN_NEEDS_CERTIFICATE, Trouble.LOGIN_WITHOUT_TLS),
        (replies.TLS_FIRST, Trouble.TLS_REQUIRED),
        (replies.UNKNOWN_MECHANISM, Trouble.MECHANISM),
        (replies.domain_refused("fabrikam.example"), Trouble.DOMAIN),
        (advice.sender_refused("boss@contoso.com", user()), Trouble.SENDER),
        (replies.TOO_LARGE, Trouble.TOO_LARGE),
        (replies.message_refused("it is broken"), Trouble.REFUSED),
    ],
)
def test_a_refusal(reply, trouble, steps):
    RefusalLog(CLIENT).note(reply, None, "DATA", "")
    assert [trouble_in(step) for step in steps()] == [trouble]


@pytest.mark.parametrize(
    "code, trouble",
    [
        ("UNSUPPORTED_PROTOCOL", Trouble.OLD_TLS),
        ("NO_SHARED_CIPHER", Trouble.OLD_TLS),
        ("TLSV1_ALERT_UNKNOWN_CA", Trouble.UNTRUSTED),
        ("WRONG_VERSION_NUMBER", Trouble.NO_TLS),
        ("HTTP_REQUEST", Trouble.NOT_SMTP),
        ("", Trouble.TLS_BROKEN),
    ],
)
def test_a_handshake(code, trouble, steps):
    handshake.log_failure("smtp", CLIENT, Closed(code))
    assert [trouble_in(step) for step in steps()] == [trouble]


@pytest.mark.parametrize(
    "habit, trouble",
    [
        (Habit.BARE_LF, Trouble.BARE_LF),
        (Habit.NO_AUTH, Trouble.LOGIN_WITHOUT_TLS),
        (Habit.TLS_AT_ONCE, Trouble.TLS_AT_ONCE),
        (Habit.LF_ONLY, None),
        (Habit.OLD_TLS, None),
        (None, None),
    ],
)
def test_a_peculiarity(habit, trouble, steps):
    Quirks().note(CLIENT, "it does so", habit=habit)
    assert [trouble_in(step) for step in steps()] == [trouble]


@each(
    "reason, trouble",
    [
        (Users._refusal(None, "smtp", CLIENT), Trouble.UNKNOWN_LOGIN),
        ("wrong password", Trouble.WRONG_PASSWORD),
        ("user name and password are empty", Trouble.EMPTY_LOGIN),
        ("the user name is not for this network", Trouble.LOGIN_ELSEWHERE),
        ("the user name is not for smtp", Trouble.LOGIN_OTHERWISE),
    ],
)
def test_a_login(reason, trouble):
    assert trouble_in(events.step("login failed", client=CLIENT, reason=reason)["event"]) is trouble


def test_a_blocked_login():
    class Nobody:
        def name(self, login, service):
            return login

        def check(self, *_):
            raise LoginRefused("wrong password")

    guard = Guard(Nobody(), 1, 60.0, (), sleep=lambda seconds: None)
    for _ in range(2):
        with pytest.raises(LoginRefused) as refused:
            guard.check("mfp-1", "x", "smtp", CLIENT)
    assert trouble_in(events.step("login failed", reason=refused.value.reason)["event"]) is Trouble.LOGIN_BLOCKED


@each(
    "fields, trouble",
    [
        ({"event": "refused", "reason": "it is not in allowed_networks"}, Trouble.NOT_ALLOWED),
        ({"event": "refused", "reason": "500 connections are open (limits.connections)"}, Trouble.TOO_MANY_CONNECTIONS),
        ({"event": "refused", "reply": "452", "reason": "The disk is full."}, None),
        ({"event": "session ended", "reason": replies.NOT_SMTP.lines[0]}, Trouble.NOT_SMTP),
        ({"event": "session ended", "reason": "Nothing came for too long, closing"}, None),
        ({"event": "accepted"}, None),
        ({"event": "delivered"}, None),
    ],
)
def test_others(fields, trouble):
    assert trouble_in(fields) is trouble
