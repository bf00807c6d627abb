"""Handing out and renewing access tokens, with the real msal against the stand-in tenant over HTTPS."""

from __future__ import annotations

import json
import logging
import os
import threading

import entra_harness
import pytest
from entra_harness import USER, sentence_of

from m365proxy.entra.http import HttpClient, Misconfigured
from m365proxy.entra.tokenfile import TokenFileDamaged
from m365proxy.errors import CannotCreate, ProxyError, SignInNeeded, Temporary
from m365proxy.system import files

harness = entra_harness.harness

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


# Signing in and out


def test_login_that_cannot_be_stored(harness, monkeypatch):
    harness.signed_in()
    kept = harness.content()

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    with pytest.raises(CannotCreate, match="No space left"):
        harness.signed_in()
    monkeypatch.undo()
    assert harness.content() == kept


def test_login_replaces_what_is_damaged(harness):
    harness.signed_in()
    files.replace(harness.file.path, b"garbage")
    with pytest.raises(TokenFileDamaged):
        harness.tokens().access_token()
    harness.signed_in()
    assert harness.tokens().access_token()
    with open(harness.file.path + ".bad", "rb") as file:
        assert file.read() == b"garbage"


def test_logout(harness):
    tokens = harness.signed_in()
    tokens.access_token()
    assert tokens.logout() is True and tokens.logout() is False
    with pytest.raises(SignInNeeded, match="Nobody is signed in") as error:
        tokens.access_token()
    assert error.value.exit_status == 77


# Handing out


def test_nobody_signed_in_asks_nobody(harness):
    with pytest.raises(SignInNeeded, match="`m365proxy login`"):
        harness.tokens().access_token()
    assert harness.sandbox.requests == []


def test_stored_token_is_used_again(harness):
    token = harness.signed_in().access_token()
    unchanged = harness.file.identity()
    assert harness.tokens().access_token() == token
    assert harness.refreshes() == 0
    assert harness.file.identity() == unchanged


def test_token_in_memory_asks_nobody(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.forget()
    harness.time.now += 3900 - 300 - 10
    assert tokens.access_token() == token
    assert harness.sandbox.requests == []


def test_token_is_renewed_before_its_end(harness):
    tokens = harness.signed_in()
    tokens.refresh_daily()
    token, refresh = tokens.access_token(), harness.content()
    harness.time.now += 3900 - 300
    # msal goes by its own clock, for which the token has just begun.
    assert tokens.access_token(refused=token) not in ("", token)
    assert harness.content() != refresh
    assert harness.refreshes() == 2


def test_life_of_a_token_has_a_limit(harness):
    harness.sandbox.entra.token_seconds = 10**9
    tokens = harness.signed_in()
    tokens.refresh_daily()
    harness.sandbox.forget()
    harness.time.now += 24 * 3600
    tokens.access_token()
    assert harness.sandbox.requests


def test_short_token_is_not_renewed_at_every_call(harness):
    harness.sandbox.entra.token_seconds = 200
    tokens = harness.signed_in()
    assert tokens.access_token() == tokens.access_token()
    assert harness.refreshes() == 1


def test_refused_token_is_renewed_once(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.revoke_access()
    fresh = tokens.access_token(refused=token)
    assert harness.accepts(fresh) == USER
    assert tokens.access_token(refused=token) == fresh  # others were refused the old one as well
    assert tokens.access_token() == fresh
    assert harness.refreshes() == 1


def test_token_just_issued_is_not_renewed_again(harness):
    tokens = harness.signed_in()
    tokens.refresh_daily()
    token = tokens.access_token()
    with pytest.raises(Temporary, match="only just issued"):
        tokens.access_token(refused=token)
    assert harness.refreshes() == 1
    harness.time.now += 61
    assert tokens.access_token(refused=token) != token


def test_refused_token_does_not_come_back(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.refuse("refresh_token", "temporarily_unavailable", times=1)
    for call in (lambda: tokens.access_token(refused=token), tokens.access_token):
        with pytest.raises(Temporary):
            call()
    harness.time.now += 10
    assert tokens.access_token(refused=token) != token


@pytest.mark.parametrize("refused", [False, True])
def test_one_refresh_for_all_threads(harness, wait_until, refused):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.revoke_access()
    hanging = harness.sandbox.faults.add("hang", path="/token")
    if refused:
        harness.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053)
    found = []

    def ask():
        try:
            found.append(tokens.access_token(refused=token))
        except SignInNeeded as error:
            found.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: hanging.hits == 1)
    hanging.release()
    for thread in threads:
        thread.join(10)
    assert len(found) == 20 and len(set(found)) == 1
    assert "AADSTS50053" in found[0] if refused else harness.accepts(found[0]) == USER
    assert harness.refreshes() == 1


def test_lock_is_not_held_while_entra_is_asked(harness, wait_until):
    tokens = harness.signed_in()
    tokens.access_token()
    hanging = harness.sandbox.faults.add("hang", path="/token")
    thread = threading.Thread(target=tokens.refresh_daily)
    thread.start()
    wait_until(lambda: hanging.hits == 1)
    assert tokens.access_token()
    assert tokens.state()["user"] == USER
    hanging.release()
    thread.join(10)


# Refusals


def test_refusal_is_remembered(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.revoke(50173)

    def ask():
        with pytest.raises(SignInNeeded) as error:
            tokens.access_token(refused=token)
        return sentence_of(error)

    assert "password" in ask() and "AADSTS50173" in ask()
    assert harness.refreshes() == 1
    for wait, refreshes in ((29, 1), (1, 2), (59, 2), (1, 3)):
        harness.time.now += wait
        ask()
        assert harness.refreshes() == refreshes, wait
    for _ in range(6):
        harness.time.now += 900
        ask()
    assert harness.refreshes() == 9  # 15 minutes are the most


def test_new_sign_in_of_another_process_is_noticed(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    harness.signed_in()
    assert harness.accepts(tokens.access_token()) == USER
    assert tokens.state()["error"] == ""


def test_first_sign_in_of_another_process_is_noticed(harness):
    tokens = harness.tokens()
    with pytest.raises(SignInNeeded):
        tokens.access_token()
    harness.signed_in()
    assert harness.accepts(tokens.access_token()) == USER


PASSING = {
    "server_error": lambda h: h.sandbox.entra.refuse("refresh_token", "server_error", 90006, status=400),
    "unavailable": lambda h: h.sandbox.entra.refuse("refresh_token", "temporarily_unavailable"),
    "passing number": lambda h: h.sandbox.entra.refuse("refresh_token", "invalid_grant", 50087),
    "unknown error": lambda h: h.sandbox.entra.refuse("refresh_token", "brand_new_error", 999999),
    "500": lambda h: h.sandbox.faults.add("answer", path="/token", status=500),
    "503 page": lambda h: h.sandbox.entra.refuse("refresh_token", status=503, html=True),
    "429": lambda h: h.sandbox.faults.add("answer", path="/token", status=429, retry_after=7),
    "429 with words": lambda h: h.sandbox.faults.add("answer", path="/token", status=429, retry_after="2.5"),
    "portal": lambda h: h.sandbox.faults.add("portal", path="/token"),
    "403 page": lambda h: h.sandbox.faults.add("portal", path="/token", status=403),
    "redirect": lambda h: h.sandbox.faults.add("answer", path="/token", status=302, headers={"Location": "/x"}),
    "cut": lambda h: h.sandbox.faults.add("cut", path="/token"),
    "cut in the answer": lambda h: h.sandbox.faults.add("cut_answer", path="/token"),
    "discovery fails": lambda h: h.sandbox.faults.add("answer", path="openid-configuration", status=500),
    "discovery is a page": lambda h: h.sandbox.faults.add("portal", path="openid-configuration"),
    "offline": lambda h: h.sandbox.offline(),
}


@pytest.mark.parametrize("name", PASSING)
def test_trouble_that_passes(harness, name):
    tokens = harness.signed_in()
    token = tokens.access_token()
    before = harness.content()
    PASSING[name](harness)
    with pytest.raises(Temporary) as error:
        tokens.access_token(refused=token)
    sentence_of(error)
    assert error.value.exit_status == 69 and not tokens.state()["needs_sign_in"]
    assert harness.content() == before or name == "cut in the answer"
    if name == "offline":
        harness.sandbox.online()
    harness.sandbox.forget()
    with pytest.raises(Temporary):
        tokens.access_token()
    assert harness.sandbox.requests == []  # for a second, or as long as Retry-After says
    harness.time.now += 10
    assert harness.accepts(tokens.access_token()) == USER


def test_retry_after_is_kept(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.faults.add("answer", path="/token", status=429, retry_after=120)
    harness.sandbox.forget()
    for wait, requests in ((0, 2), (119, 2)):
        harness.time.now += wait
        with pytest.raises(Temporary):
            tokens.access_token(refused=token)
        assert len(harness.sandbox.requests) == requests
    harness.time.now += 1
    assert tokens.access_token(refused=token) != token


def test_outage_is_over_within_seconds(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    fault = harness.sandbox.faults.add("answer", path="/token", status=503, times=None)
    waits = []
    for _ in range(6):
        hits = fault.hits
        start = harness.time.now
        while fault.hits == hits:
            with pytest.raises(Temporary):
                tokens.access_token(refused=token)
            harness.time.now += 0.5
        waits.append(harness.time.now - start - 0.5)
    assert waits == [0, 1, 2, 4, 8, 10] or waits == [0, 0.5, 1.5, 3.5, 7.5, 9.5]


def test_ageing_token_serves_while_entra_is_down(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.offline()
    harness.time.now += 3900 - 300
    assert tokens.access_token() == token
    assert tokens.state()["error"]
    harness.time.now += 300 - 40
    assert tokens.access_token() == token
    harness.time.now += 10
    with pytest.raises(Temporary):
        tokens.access_token()


# Only a renewal proves that a sign-in is good


def refused_by_graph(harness, tokens):
    """Graph does not take the token any more."""
    token = tokens.access_token()
    harness.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    return tokens


def refused_at_a_start(harness, tokens):
    """Another run begins with the daily renewal, and the stored access token has still time left."""
    harness.sandbox.entra.revoke()
    again = harness.tokens()
    again.refresh_daily()
    return again


def refused_by_graph_while_entra_is_away(harness, tokens):
    token = tokens.access_token()
    harness.sandbox.entra.refuse("refresh_token", "temporarily_unavailable")
    harness.sandbox.entra.revoke()
    with pytest.raises(Temporary):
        tokens.access_token(refused=token)
    return tokens


@pytest.mark.parametrize(
    "begin", [refused_by_graph, refused_at_a_start, refused_by_graph_while_entra_is_away], ids=lambda b: b.__name__
)
def test_a_revoked_sign_in_is_not_back_before_a_new_one(harness, caplog, begin):
    caplog.set_level(logging.INFO, "m365proxy")
    tokens = begin(harness, harness.signed_in())
    harness.time.now += 10
    for _ in range(30):  # as the probe asks: a quarter of an hour
        with pytest.raises(SignInNeeded):
            tokens.access_token()
        assert tokens.state()["needs_sign_in"] and "`m365proxy login`" in tokens.state()["error"]
        harness.time.now += 31
    assert "is back" not in caplog.text
    harness.signed_in()
    assert harness.accepts(tokens.access_token()) == USER
    assert tokens.state()["error"] == "" and caplog.text.count("is back") == 1


def test_a_renewal_that_is_asked_for_is_not_answered_from_what_is_stored(harness):
    harness.signed_in()
    tokens = harness.tokens()
    tokens.renew()
    assert harness.refreshes() == 1
    tokens.renew()
    assert harness.refreshes() == 2
    assert harness.accepts(tokens.access_token()) == USER
    harness.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded, match="`m365proxy login`"):
        tokens.renew()
    assert tokens.state()["needs_sign_in"]


def test_a_network_error_is_no_revocation(harness):
    tokens = harness.signed_in()
    harness.sandbox.offline()
    with pytest.raises(Temporary):
        tokens.renew()
    assert tokens.state()["error"] and not tokens.state()["needs_sign_in"]


def test_a_renewal_of_the_app_asks_entra_anew(harness):
    tokens = harness.tokens(client_secret="sandbox-secret", user=None)
    tokens.access_token()
    tokens.renew()
    assert harness.sandbox.entra.counts["client_credentials"] == 2
    harness.sandbox.tenant.client_secrets.clear()
    with pytest.raises(Misconfigured):
        tokens.renew()


# Several programs, one file


def test_two_programs_refresh_one_sign_in(harness):
    one, other = harness.signed_in(), harness.tokens()
    token = one.access_token()
    assert other.access_token() == token
    first = one.access_token(refused=token)
    second = other.access_token(refused=token)
    # The other one found in the file what the first had brought.
    assert harness.accepts(first) == harness.accepts(second) == USER
    assert one.access_token() in (first, second) and other.access_token() == second
    assert harness.tokens().access_token() in (first, second)


def meanwhile(harness, monkeypatch, act):
    """Do something while the first refresh is with Entra."""
    whole = HttpClient.post
    acts = [act]

    def post(self, url, data=None, **more):
        reply = whole(self, url, data=data, **more)
        if acts and (data or {}).get("grant_type") == "refresh_token":
            acts.pop()()
        return reply

    monkeypatch.setattr(HttpClient, "post", post)


def test_sign_in_during_a_refresh_wins(harness, monkeypatch):
    tokens = harness.signed_in()
    token = tokens.access_token()
    stored = []

    def sign_in():
        harness.signed_in()
        stored.append((harness.content(), harness.file.load().generation))

    meanwhile(harness, monkeypatch, sign_in)
    fresh = tokens.access_token(refused=token)
    assert harness.accepts(fresh) == USER
    assert harness.file.load().generation == stored[0][1]
    assert harness.refreshes() == 2  # once for the sign-in that was replaced, once for the new one


def test_logout_during_a_refresh_stays(harness, monkeypatch):
    tokens = harness.signed_in()
    token = tokens.access_token()
    meanwhile(harness, monkeypatch, harness.file.remove)
    with pytest.raises(SignInNeeded, match="Nobody is signed in"):
        tokens.access_token(refused=token)
    assert harness.file.load() is None


def test_refresh_that_cannot_be_stored_serves_all_the_same(harness, monkeypatch, caplog):
    tokens = harness.signed_in()
    token = tokens.access_token()
    before = harness.content()

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    fresh = tokens.access_token(refused=token)
    assert harness.accepts(fresh) == USER and tokens.access_token() == fresh
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert harness.content() == before


# What does not fit the config


@pytest.mark.parametrize(
    "other, words",
    [
        ({"user": "alerts@contoso.com"}, "user is alerts@contoso.com"),
        ({"tenant_id": "11111111-2222-3333-4444-555555555555"}, "another tenant"),
        ({"client_id": "11111111-2222-3333-4444-555555555555"}, "another client_id"),
    ],
)
def test_sign_in_of_another_config_is_not_used(harness, other, words):
    harness.signed_in()
    kept = harness.content()
    tokens = harness.tokens(**other)
    with pytest.raises(SignInNeeded, match="`m365proxy login`") as error:
        tokens.access_token()
    assert words in sentence_of(error) and harness.content() == kept
    assert tokens.state()["needs_sign_in"] is True


# The daily renewal


def test_daily_renewal_rolls_the_refresh_token(harness):
    tokens = harness.signed_in()
    token, refresh = tokens.access_token(), harness.content()
    tokens.refresh_daily()
    assert harness.refreshes() == 1
    assert harness.content() != refresh and tokens.access_token() != token
    os.utime(harness.file.path, (4_000_000, 4_000_000))
    assert tokens.state()["last_refresh"] == 5_000_000.0
    os.utime(harness.file.path, (6_000_000, 6_000_000))  # another program has renewed it, as one before a restart
    assert tokens.state()["last_refresh"] == 6_000_000.0


def test_daily_renewal_is_not_held_up_by_an_old_refusal(harness):
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053)
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    tokens.refresh_daily()
    assert harness.accepts(tokens.access_token()) == USER


@pytest.mark.parametrize(
    "arrange", [lambda h: h.sandbox.offline(), lambda h: h.sandbox.entra.revoke(), lambda h: h.file.remove()]
)
def test_daily_renewal_logs_what_fails(harness, caplog, arrange):
    tokens = harness.signed_in()
    arrange(harness)
    tokens.refresh_daily()
    tokens.refresh_daily()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2 and all(text.startswith("no access to Microsoft: ") for text in errors)


def test_same_trouble_is_logged_once(harness, caplog):
    caplog.set_level(logging.INFO, "m365proxy")
    tokens = harness.signed_in()
    token = tokens.access_token()
    harness.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053, times=3)
    for _ in range(3):
        with pytest.raises(SignInNeeded):
            tokens.access_token(refused=token)
        harness.time.now += 900
    for _ in range(3):
        harness.time.now += 900
        token = tokens.access_token(refused=token)
    texts = [record.getMessage() for record in caplog.records if record.name == "m365proxy.oauth"]
    assert [text.partition(":")[0] for text in texts] == ["no access to Microsoft", "access to Microsoft is back"]


# For `status`


def test_state(harness):
    tokens = harness.tokens()
    state = tokens.state()
    assert state["user"] == "" and state["needs_sign_in"] and "`m365proxy login`" in state["error"]
    harness.signed_in()
    os.utime(harness.file.path, (5_000_000, 5_000_000))
    assert tokens.state() == {
        "user": USER,
        "signed_in_at": 5_000_000.0,
        "last_refresh": 5_000_000.0,
        "error": "",
        "needs_sign_in": False,
        "exit_status": 0,
    }
    json.dumps(tokens.state())
    files.replace(harness.file.path, b"garbage")
    state = tokens.state()
    assert state["needs_sign_in"] and "cannot be decrypted" in state["error"]
    asked = harness.sandbox.requests
    tokens.state()
    assert harness.sandbox.requests == asked


# Secrets


def test_no_secret_is_told(harness, caplog, capsys):
    texts = []
    with caplog.at_level(logging.DEBUG):
        tokens = harness.signed_in()
        token = tokens.access_token()
        secrets = {token, harness.content()}
        secrets.update(harness.sandbox.entra._flows, harness.sandbox.entra._refresh)
        for error in ("invalid_grant", "invalid_client", "server_error"):
            harness.sandbox.entra.refuse("refresh_token", error, text="S3cret")
        harness.sandbox.faults.add("portal", path="/token")
        for _ in range(4):
            harness.time.now += 900
            try:
                tokens.access_token(refused=token)
            except ProxyError as error:
                texts += [str(error), repr(error)]
        with pytest.raises(Misconfigured):
            harness.tokens(client_secret="S3cret").access_token()
        tokens.refresh_daily()
        secrets.add(harness.content())
    loud = [r.getMessage() for r in caplog.records if r.name.startswith("m365proxy") or r.levelno >= logging.WARNING]
    texts += loud + harness.shown + [repr(tokens), repr(harness.file.load()), *capsys.readouterr()]
    assert len(texts) > 10 and len(secrets) > 2
    for secret in (*secrets, "S3cret"):
        assert not any(secret in text for text in texts)
