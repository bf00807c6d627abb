"""The password of the status page."""

import base64
import threading

import pytest
from web_harness import guard

from m365proxy.errors import Temporary
from m365proxy.logins.passwords import hash_password
from m365proxy.logins.verifier import Verifier
from m365proxy.web import gate as module
from m365proxy.web.gate import Gate

PEER = "192.0.2.7"
PASSWORD = "a drawer: full of dévices"


def basic(password, user="admin", scheme="Basic"):
    return f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def gate(password=PASSWORD, **more):
    made = Gate(guard(**more))
    made.set_password(password)
    return made


def status(made, authorization, peer=PEER):
    found = made.refusal(authorization, peer)
    return 200 if found is None else found.status


def test_without_a_password_everybody_may_come_in():
    assert status(gate(None), "") == 200


@pytest.mark.parametrize("stored", [str, hash_password])
def test_any_user_name_goes_with_the_password(stored):
    made = gate(stored(PASSWORD))
    for authorization in (basic(PASSWORD), basic(PASSWORD, ""), basic(PASSWORD, "scanner@contoso.com", "BASIC")):
        assert status(made, authorization) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic(""),
        basic(PASSWORD[:-1]),
        basic(PASSWORD + "x"),
        basic(PASSWORD, scheme="Bearer"),
        PASSWORD,
        "Basic",
        "Basic !",
        "Basic " + base64.b64encode(PASSWORD.encode("latin-1")).decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Basic " + base64.b64encode(b"no colon").decode(),
    ],
)
def test_nothing_else_does(authorization):
    found = gate(failures=100).refusal(authorization, PEER)
    assert found.status == 401
    assert dict(found.headers)["WWW-Authenticate"].startswith("Basic ")
    assert PASSWORD.encode() not in found.body


def test_guessing_is_blocked_and_logged_in_the_words_that_fail2ban_knows(caplog):
    made = gate()
    for _ in range(3):
        assert status(made, basic("wrong one", 'ad"min')) == 401
    assert status(made, basic(PASSWORD)) == 401
    assert status(made, basic(PASSWORD), "192.0.2.8") == 200
    assert [record.getMessage() for record in caplog.records] == [
        *[f'login failed from {PEER} user "ad\\"min": wrong password'] * 3,
        f'login failed from {PEER} user "admin": blocked for a while after too many failures from there',
    ]
    assert PASSWORD not in caplog.text and "wrong one" not in caplog.text
    assert {(record.event["event"], record.event["service"]) for record in caplog.records} == {
        ("login failed", "status")
    }
    assert "wrong one" not in str([record.event for record in caplog.records])


def test_a_browser_that_has_not_asked_for_the_password_yet_has_not_failed(caplog):
    made = gate()
    assert [status(made, "") for _ in range(20)] == [401] * 20
    assert status(made, basic(PASSWORD)) == 200
    assert caplog.text == ""


def test_many_guesses_at_once_leave_threads_for_others(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    made = gate()
    begun, go_on = threading.Event(), threading.Event()

    def slow(self, name, password, stored):
        begun.set()
        go_on.wait(20)
        return False

    monkeypatch.setattr(Verifier, "is_right", slow)
    thread = threading.Thread(target=status, args=(made, basic("wrong one")))
    thread.start()
    try:
        assert begun.wait(20)
        assert status(made, basic("another"), "192.0.2.8") == 503
    finally:
        go_on.set()
        thread.join()
    assert status(made, basic("another"), "192.0.2.8") == 401  # the turn was given back


def test_too_busy_is_no_wrong_password(monkeypatch, caplog):
    made = gate()

    def busy(self, name, password, stored):
        raise Temporary("Too many devices are logging in at once; try again in a minute.")

    monkeypatch.setattr(Verifier, "is_right", busy)
    assert status(made, basic(PASSWORD)) == 503
    assert caplog.text == ""


def test_a_password_that_was_changed_is_not_remembered():
    made = gate()
    assert status(made, basic(PASSWORD)) == 200
    made.set_password("another one")
    assert [status(made, basic(password)) for password in (PASSWORD, "another one")] == [401, 200]
