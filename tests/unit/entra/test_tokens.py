"""Signing in and renewing, by the real msal against the stand-in tenant over HTTPS."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from m365proxy.entra import http
from m365proxy.entra.http import Busy, HttpClient, Misconfigured, refusal
from m365proxy.entra.tokenfile import TokenFile, TokenFileDamaged
from m365proxy.entra.tokens import Tokens, endpoints
from m365proxy.errors import CannotCreate, ProxyError, SignInNeeded, Temporary
from m365proxy.sandbox import Sandbox
from m365proxy.system import files
from m365proxy.system.outbound import Outbound

USER = "relay@contoso.com"

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


class Time:
    """A clock that only moves when it is told to, or when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class House:
    """A stand-in tenant, a state directory, and Tokens made for them."""

    def __init__(self, sandbox, directory):
        self.sandbox = sandbox
        self.directory = directory
        self.time = Time()
        self.shown = []
        self.file = TokenFile(directory, {})

    def tokens(self, **other):
        sandbox = self.sandbox
        settings = {
            "client_id": sandbox.client_id,
            "tenant_id": sandbox.tenant_id,
            "user": USER,
            "permissions": "full",
            "token_file": TokenFile(self.directory, {}),
            "outbound": Outbound(ca_file=sandbox.ca_file, direct=True),
            "authority_url": sandbox.authority_url,
            "graph_url": sandbox.graph_url,
            "resource": sandbox.graph_url,
            "clock": lambda: 5_000_000.0,
            "monotonic": self.time.monotonic,
            "sleep": self.time.sleep,
        }
        return Tokens(**{**settings, **other})

    def signed_in(self, **other):
        tokens = self.tokens(**other)
        tokens.login(self.shown.append)
        return tokens

    def refreshes(self):
        return self.sandbox.entra.counts["refresh_token"]

    def content(self):
        """The stored refresh token, or None."""
        stored = self.file.load()
        if stored is None:
            return None
        (entry,) = json.loads(stored.cache)["RefreshToken"].values()
        return entry["secret"]

    def accepts(self, token):
        """Whether Graph takes the token."""
        with contextlib.suppress(Exception):
            return self.sandbox.entra.actor({"authorization": "Bearer " + token}).user
        return None


@pytest.fixture
def house(tmp_path):
    with Sandbox() as sandbox:
        yield House(sandbox, str(tmp_path))


def sentence_of(error):
    """The text, if it is fit for an administrator."""
    text = str(error.value)
    assert text[0].isupper() or text.startswith(("client_", "relay@", "alerts@", "msal ", "127.0.0.1 ")), text
    assert text.endswith((".", "?", ")")), text
    assert "\n" not in text and "http" not in text.lower().replace("(http status", "").replace("https or", ""), text
    return text


# Where to go


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            ("global",),
            ("https://login.microsoftonline.com", "https://graph.microsoft.com", "https://graph.microsoft.com"),
        ),
        (
            ("usgov-high",),
            ("https://login.microsoftonline.us", "https://graph.microsoft.us", "https://graph.microsoft.us"),
        ),
        (
            ("usgov-dod", None, None),
            ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "https://dod-graph.microsoft.us"),
        ),
        (
            ("china",),
            (
                "https://login.partner.microsoftonline.cn",
                "https://microsoftgraph.chinacloudapi.cn",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
        ),
        (  # another way to the cloud's own Graph
            ("global", "https://front.contoso.com/"),
            ("https://login.microsoftonline.com", "https://front.contoso.com", "https://graph.microsoft.com"),
        ),
        (  # a cloud of its own
            ("global", "https://graph.example/", "https://login.example/"),
            ("https://login.example", "https://graph.example", "https://graph.example"),
        ),
        (
            ("global", None, "https://login.example"),
            ("https://login.example", "https://graph.microsoft.com", "https://graph.microsoft.com"),
        ),
    ],
)
def test_endpoints(arguments, expected):
    assert endpoints(*arguments) == expected


# Signing in


def test_login(house):
    assert house.signed_in().access_token()
    (line,) = house.shown
    assert "https://microsoft.com/devicelogin" in line and f"as {USER}" in line and "15 minutes" in line
    stored = house.file.load()
    assert (stored.user, stored.tenant, stored.signed_in_at) == (USER, house.sandbox.tenant_id, 5_000_000.0)
    assert house.content().startswith("0.AX")
    assert house.time.slept == []


def test_login_needs_nothing_beyond_the_authority_and_graph(house):
    house.signed_in().access_token()
    assert house.sandbox.seen("discovery/instance") == []
    assert {request.path.split("/")[1] for request in house.sandbox.requests} == {house.sandbox.tenant_id, "v1.0"}


@pytest.mark.parametrize("user", [USER, "Relay@Contoso.com"])
def test_login_by_domain_and_in_any_case(house, user):
    tokens = house.signed_in(tenant_id="contoso.com", user=user)
    assert house.file.load().tenant == house.sandbox.tenant_id
    assert house.accepts(tokens.access_token()) == USER


@pytest.mark.parametrize("which", ["userPrincipalName", "mail"])
def test_either_name_of_the_account_will_do(house, which):
    house.sandbox.tenant.upns[USER] = "svc-relay@contoso.onmicrosoft.com"
    user = USER if which == "mail" else "svc-relay@contoso.onmicrosoft.com"
    house.signed_in(user=user)
    assert house.file.load().user == user


def test_login_waits_for_the_person(house):
    house.sandbox.approve_after = 3
    house.signed_in()
    assert house.time.slept == [1, 1, 1]


def test_login_slows_down_when_asked(house):
    house.sandbox.entra.refuse("device_code", "slow_down")
    house.signed_in()
    assert house.time.slept == [6]


def test_login_with_an_interval_of_nothing(house):
    house.sandbox.entra.interval = 0
    house.sandbox.approve_after = 2
    house.signed_in()
    assert house.time.slept == [1, 1]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "times": 3},
        {"kind": "answer", "status": 503, "times": 3},
        {"kind": "answer", "status": 429, "retry_after": "soon", "times": 3},
        {"kind": "portal", "times": 3},
    ],
)
def test_login_survives_trouble_while_it_waits(house, fault):
    house.sandbox.faults.add(path="/token$", **fault)
    house.signed_in()
    assert house.time.slept == [1, 1, 1]
    assert house.content()


@pytest.mark.parametrize("path", ["openid-configuration", "/v1.0/me"])
def test_login_tries_its_questions_thrice(house, path):
    fault = house.sandbox.faults.add("answer", path=path, status=503, times=2)
    house.signed_in(tenant_id="contoso.com")
    assert fault.hits == 2 and house.content()


def test_only_graph_says_who_signed_in(house):
    me = b'{"userPrincipalName": "%s", "mail": null}' % USER.encode()
    fault = house.sandbox.faults.add("stranger", path="/v1.0/me", status=200, body=me, times=None)
    with pytest.raises(Temporary, match="is not Microsoft"):
        house.signed_in()
    assert fault.hits == 3 and not house.content()


@pytest.mark.parametrize("body", [b"{}", b'{"value": []}', b'{"error": "blocked"}', None])
def test_a_stranger_gives_no_token_and_ends_no_sign_in(house, body):
    tokens = house.signed_in()
    before = house.content()
    house.sandbox.faults.add("stranger", path="/token$", status=200, body=body)
    with pytest.raises(Temporary):
        tokens.renew()
    assert house.content() == before
    tokens.renew()


def test_send_permissions_ask_for_less(house):
    house.sandbox.tenant.granted_scopes = {"User.Read", "Mail.Send", "Mail.Send.Shared"}
    tokens = house.signed_in(permissions="send")
    assert house.accepts(tokens.access_token()) == USER


def after(house, **changes):
    for name, value in changes.items():
        setattr(house.sandbox.tenant, name, value)


REFUSED_LOGINS = {
    # name: (what is wrong, exit status, words of the sentence)
    "another user": (
        lambda h: after(h, signs_in_as="alerts@contoso.com"),
        77,
        "alerts@contoso.com signed in, but user is relay@",
    ),
    "another tenant": (
        lambda h: after(h, signs_in_tenant="11111111-2222-3333-4444-555555555555"),
        77,
        "belongs to another tenant",
    ),
    "scope missing": (
        lambda h: after(h, granted_scopes={"User.Read", "Mail.Send", "Mail.Send.Shared"}),
        77,
        "did not grant Mail.ReadWrite, Mail.ReadWrite.Shared.",
    ),
    "no consent": (lambda h: after(h, granted_scopes=set()), 77, "grant consent"),
    "declined": (lambda h: h.sandbox.entra.refuse("device_code", "authorization_declined"), 77, "was declined"),
    "expired": (lambda h: h.sandbox.entra.refuse("device_code", "expired_token", 70019), 77, "expired before"),
    "wrong code": (
        lambda h: h.sandbox.entra.refuse("device_code", "bad_verification_code", 70018),
        77,
        "not valid any more",
    ),
    "policy": (lambda h: h.sandbox.entra.refuse("device_code", "invalid_grant", 53003), 77, "Conditional Access"),
    "not public": (lambda h: setattr(h.sandbox.entra, "public_client_allowed", False), 78, "public client flows"),
    "client": (lambda h: setattr(h.sandbox.tenant, "client_id", "other"), 78, "client_id and tenant_id"),
    "tenant": (lambda h: setattr(h.sandbox.tenant, "tenant_id", "other"), 78, "no such tenant"),
    "nobody comes": (lambda h: setattr(h.sandbox, "approve_after", None), 77, "before the code expired"),
    "Graph refuses": (lambda h: h.sandbox.faults.add("answer", path="/me", status=403), 77, "User.Read"),
    "Graph is down": (
        lambda h: h.sandbox.faults.add("answer", path="/me", status=503, times=None),
        69,
        "cannot answer now",
    ),
    "Entra is down": (lambda h: h.sandbox.offline(), 69, "Connection refused"),
    "start refused": (lambda h: h.sandbox.entra.refuse("devicecode", "invalid_scope", 70011), 78, "app registration"),
    "page at the start": (lambda h: h.sandbox.faults.add("portal", path="devicecode"), 69, "is not Microsoft"),
    "Entra goes away": (lambda h: h.sandbox.faults.add("cut", path="/token", times=None), 69, "closed before"),
}


@pytest.mark.parametrize("name", REFUSED_LOGINS)
@pytest.mark.parametrize("before", [False, True])
def test_refused_login_stores_nothing(house, name, before):
    if before:
        house.signed_in()
    kept = house.content()
    house.sandbox.entra.code_seconds = 30
    arrange, status, words = REFUSED_LOGINS[name]
    arrange(house)
    with pytest.raises(ProxyError) as error:
        house.signed_in()
    assert error.value.exit_status == status
    assert words in sentence_of(error)
    assert house.content() == kept


def test_nobody_comes_within_the_life_of_the_code(house):
    house.sandbox.approve_after = None
    house.sandbox.entra.code_seconds = 60
    with pytest.raises(SignInNeeded):
        house.signed_in()
    assert house.time.slept == [1] * 60


def test_answer_without_tenant_is_refused(house, monkeypatch):
    monkeypatch.setattr(house.sandbox.entra, "_id_token", lambda user, tid: "e30." + "e30" + ".x")
    with pytest.raises((SignInNeeded, Temporary)):
        house.signed_in()
    assert house.content() is None


def test_login_that_cannot_be_stored(house, monkeypatch):
    house.signed_in()
    kept = house.content()

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    with pytest.raises(CannotCreate, match="No space left"):
        house.signed_in()
    monkeypatch.undo()
    assert house.content() == kept


def test_login_replaces_what_is_damaged(house):
    house.signed_in()
    files.replace(house.file.path, b"garbage")
    with pytest.raises(TokenFileDamaged):
        house.tokens().access_token()
    house.signed_in()
    assert house.tokens().access_token()
    with open(house.file.path + ".bad", "rb") as file:
        assert file.read() == b"garbage"


def test_logout(house):
    tokens = house.signed_in()
    tokens.access_token()
    assert tokens.logout() is True and tokens.logout() is False
    with pytest.raises(SignInNeeded, match="Nobody is signed in") as error:
        tokens.access_token()
    assert error.value.exit_status == 77


# Handing out


def test_nobody_signed_in_asks_nobody(house):
    with pytest.raises(SignInNeeded, match="`m365proxy login`"):
        house.tokens().access_token()
    assert house.sandbox.requests == []


def test_stored_token_is_used_again(house):
    token = house.signed_in().access_token()
    unchanged = house.file.identity()
    assert house.tokens().access_token() == token
    assert house.refreshes() == 0
    assert house.file.identity() == unchanged


def test_token_in_memory_asks_nobody(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.forget()
    house.time.now += 3900 - 300 - 10
    assert tokens.access_token() == token
    assert house.sandbox.requests == []


def test_token_is_renewed_before_its_end(house):
    tokens = house.signed_in()
    tokens.refresh_daily()
    token, refresh = tokens.access_token(), house.content()
    house.time.now += 3900 - 300
    # msal goes by its own clock, for which the token has just begun.
    assert tokens.access_token(refused=token) not in ("", token)
    assert house.content() != refresh
    assert house.refreshes() == 2


def test_life_of_a_token_has_a_limit(house):
    house.sandbox.entra.token_seconds = 10**9
    tokens = house.signed_in()
    tokens.refresh_daily()
    house.sandbox.forget()
    house.time.now += 24 * 3600
    tokens.access_token()
    assert house.sandbox.requests


def test_short_token_is_not_renewed_at_every_call(house):
    house.sandbox.entra.token_seconds = 200
    tokens = house.signed_in()
    assert tokens.access_token() == tokens.access_token()
    assert house.refreshes() == 1


def test_refused_token_is_renewed_once(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.revoke_access()
    fresh = tokens.access_token(refused=token)
    assert house.accepts(fresh) == USER
    assert tokens.access_token(refused=token) == fresh  # others were refused the old one as well
    assert tokens.access_token() == fresh
    assert house.refreshes() == 1


def test_token_just_issued_is_not_renewed_again(house):
    tokens = house.signed_in()
    tokens.refresh_daily()
    token = tokens.access_token()
    with pytest.raises(Temporary, match="only just issued"):
        tokens.access_token(refused=token)
    assert house.refreshes() == 1
    house.time.now += 61
    assert tokens.access_token(refused=token) != token


def test_refused_token_does_not_come_back(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.refuse("refresh_token", "temporarily_unavailable", times=1)
    for call in (lambda: tokens.access_token(refused=token), tokens.access_token):
        with pytest.raises(Temporary):
            call()
    house.time.now += 10
    assert tokens.access_token(refused=token) != token


@pytest.mark.parametrize("refused", [False, True])
def test_one_refresh_for_all_threads(house, wait_until, refused):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.revoke_access()
    hanging = house.sandbox.faults.add("hang", path="/token")
    if refused:
        house.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053)
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
    assert "AADSTS50053" in found[0] if refused else house.accepts(found[0]) == USER
    assert house.refreshes() == 1


def test_lock_is_not_held_while_entra_is_asked(house, wait_until):
    tokens = house.signed_in()
    tokens.access_token()
    hanging = house.sandbox.faults.add("hang", path="/token")
    thread = threading.Thread(target=tokens.refresh_daily)
    thread.start()
    wait_until(lambda: hanging.hits == 1)
    assert tokens.access_token()
    assert tokens.state()["user"] == USER
    hanging.release()
    thread.join(10)


# Refusals


def test_refusal_is_remembered(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.revoke(50173)

    def ask():
        with pytest.raises(SignInNeeded) as error:
            tokens.access_token(refused=token)
        return sentence_of(error)

    assert "password" in ask() and "AADSTS50173" in ask()
    assert house.refreshes() == 1
    for wait, refreshes in ((29, 1), (1, 2), (59, 2), (1, 3)):
        house.time.now += wait
        ask()
        assert house.refreshes() == refreshes, wait
    for _ in range(6):
        house.time.now += 900
        ask()
    assert house.refreshes() == 9  # 15 minutes are the most


def test_new_sign_in_of_another_process_is_noticed(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    house.signed_in()
    assert house.accepts(tokens.access_token()) == USER
    assert tokens.state()["error"] == ""


def test_first_sign_in_of_another_process_is_noticed(house):
    tokens = house.tokens()
    with pytest.raises(SignInNeeded):
        tokens.access_token()
    house.signed_in()
    assert house.accepts(tokens.access_token()) == USER


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
def test_trouble_that_passes(house, name):
    tokens = house.signed_in()
    token = tokens.access_token()
    before = house.content()
    PASSING[name](house)
    with pytest.raises(Temporary) as error:
        tokens.access_token(refused=token)
    sentence_of(error)
    assert error.value.exit_status == 69 and not tokens.state()["needs_sign_in"]
    assert house.content() == before or name == "cut in the answer"
    if name == "offline":
        house.sandbox.online()
    house.sandbox.forget()
    with pytest.raises(Temporary):
        tokens.access_token()
    assert house.sandbox.requests == []  # for a second, or as long as Retry-After says
    house.time.now += 10
    assert house.accepts(tokens.access_token()) == USER


def test_retry_after_is_kept(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.faults.add("answer", path="/token", status=429, retry_after=120)
    house.sandbox.forget()
    for wait, requests in ((0, 2), (119, 2)):
        house.time.now += wait
        with pytest.raises(Temporary):
            tokens.access_token(refused=token)
        assert len(house.sandbox.requests) == requests
    house.time.now += 1
    assert tokens.access_token(refused=token) != token


def test_outage_is_over_within_seconds(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    fault = house.sandbox.faults.add("answer", path="/token", status=503, times=None)
    waits = []
    for _ in range(6):
        hits = fault.hits
        start = house.time.now
        while fault.hits == hits:
            with pytest.raises(Temporary):
                tokens.access_token(refused=token)
            house.time.now += 0.5
        waits.append(house.time.now - start - 0.5)
    assert waits == [0, 1, 2, 4, 8, 10] or waits == [0, 0.5, 1.5, 3.5, 7.5, 9.5]


def test_ageing_token_serves_while_entra_is_down(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.offline()
    house.time.now += 3900 - 300
    assert tokens.access_token() == token
    assert tokens.state()["error"]
    house.time.now += 300 - 40
    assert tokens.access_token() == token
    house.time.now += 10
    with pytest.raises(Temporary):
        tokens.access_token()


KINDS = [
    ("invalid_grant", 700082, SignInNeeded, 77, "90 days"),
    ("invalid_grant", 50173, SignInNeeded, 77, "password"),
    ("invalid_grant", 0, SignInNeeded, 77, "new sign-in"),
    ("invalid_grant", 123456, SignInNeeded, 77, "AADSTS123456"),
    ("interaction_required", 50076, SignInNeeded, 77, "multi-factor"),
    ("interaction_required", 53003, SignInNeeded, 77, "Conditional Access"),
    ("consent_required", 65001, SignInNeeded, 77, "consent"),
    ("invalid_grant", 50057, SignInNeeded, 77, "disabled"),
    ("invalid_grant", 50196, Temporary, 69, "pause"),
    ("invalid_client", 7000218, Misconfigured, 78, "public client flows"),
    ("unauthorized_client", 700016, Misconfigured, 78, "client_id"),
    ("invalid_request", 90002, Misconfigured, 78, "tenant"),
    ("invalid_request", 0, Misconfigured, 78, "app registration"),
    ("temporarily_unavailable", 0, Temporary, 69, "for now"),
    ("something_else", 0, Temporary, 69, "something_else"),
]


@pytest.mark.parametrize("error, number, kind, status, words", KINDS)
def test_kinds_of_refusals(house, error, number, kind, status, words):
    tokens = house.signed_in()
    token = tokens.access_token()
    before = house.content()
    house.sandbox.entra.refuse("refresh_token", error, number)
    with pytest.raises(kind) as caught:
        tokens.access_token(refused=token)
    assert caught.value.exit_status == status and words in sentence_of(caught)
    assert isinstance(caught.value, (SignInNeeded, Temporary))  # what callers of Graph know
    assert house.content() == before
    assert tokens.state()["error"] == str(caught.value)
    assert tokens.state()["needs_sign_in"] is (kind is not Temporary)
    house.time.now += 900
    assert house.accepts(tokens.access_token()) == USER
    assert tokens.state()["error"] == ""


def test_every_number_of_the_fact_sheet_has_a_sentence():
    numbers = (
        70018,
        70019,
        70008,
        700082,
        50173,
        50132,
        50133,
        50076,
        50079,
        50072,
        50074,
        50055,
        50144,
        50057,
        50053,
        50105,
        50126,
        50020,
        50034,
        53000,
        53001,
        53003,
        530003,
        50158,
        50196,
        65001,
        90094,
        65004,
        7000218,
        7000215,
        7000222,
        70002,
        700016,
        70001,
        90002,
        50059,
        50134,
        50033,
        50087,
        90006,
    )
    general = str(refusal({"error": "invalid_grant"})).partition("(")[0]
    for number in numbers:
        text = str(refusal({"error": "invalid_grant", "error_codes": [number]}))
        assert text.endswith(f". (invalid_grant, AADSTS{number})"), text
        assert not text.startswith(general), text


@pytest.mark.parametrize(
    "answer, expected",
    [
        ({}, "Microsoft refuses to sign us in for now. (no reason given)"),
        ({"error": {"code": "x"}}, "Microsoft refuses to sign us in for now."),
        ({"error": "invalid_client", "error_codes": "x"}, "Microsoft refuses the app registration."),
        ({"error": "invalid_client", "error_codes": [None, "7000215", 7000215]}, "client_secret is wrong."),
        ({"error": "invalid_client", "error_description": "AADSTS7000222: The keys"}, "The client secret has expired."),
        ({"error": "a\r\nb" + "c" * 99}, "Microsoft refuses to sign us in for now. (a\\x0d\\x0abccc"),
    ],
)
def test_odd_refusals(answer, expected):
    text = str(refusal(answer))
    assert text.startswith(expected) and len(text) < 400 and "\n" not in text


def test_description_is_not_passed_on():
    answer = {"error": "invalid_grant", "error_description": "AADSTS1: S3cret", "suberror": "S3cret"}
    assert "S3cret" not in str(refusal(answer))


ODD_ANSWERS = [
    "[]",
    "null",
    '"text"',
    "{",
    "",
    "{}",
    '{"access_token": 1}',
    '{"access_token": "x"}',
    '{"access_token": "x", "expires_in": "soon"}',
    '{"access_token": "x", "expires_in": 3600, "id_token": "x"}',
    '{"access_token": "x", "expires_in": 3600, "id_token": 5}',
    '{"access_token": "x", "expires_in": 3600, "client_info": "%%"}',
    '{"access_token": "x", "expires_in": 3600, "client_info": 7}',
    '{"error": null}',
    '{"error": ["x"]}',
    '{"error": 5}',
    '{"access_token": "x", "expires_in": 3600, "scope": 5}',
    '{"access_token": "x", "expires_in": null}',
]


@pytest.mark.parametrize("body", ODD_ANSWERS)
def test_odd_answers_end_in_a_sentence(house, body):
    """No answer of a server is a crash, or harms what is stored."""
    tokens = house.signed_in()
    token = tokens.access_token()
    before = house.content()
    with spoiled(body), contextlib.suppress(Temporary, SignInNeeded):
        tokens.access_token(refused=token)
    assert house.content() == before
    house.time.now += 900
    assert house.accepts(tokens.access_token(refused="x")) == USER


@contextlib.contextmanager
def spoiled(body):
    """Token requests are answered with this body, whatever the server says."""
    whole = HttpClient.exchange

    def exchange(self, method, url, **request):
        if not url.endswith("/token"):
            return whole(self, method, url, **request)
        self._session.request = lambda *_args, **_more: Canned(body)
        return whole(self, method, url, **request)

    HttpClient.exchange = exchange
    try:
        yield
    finally:
        HttpClient.exchange = whole


class Canned:
    """A response of requests, as far as HttpClient looks at one."""

    def __init__(self, body, status=200, headers=None):
        self.status_code = status
        self.headers = headers or {}
        self._body = body

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def iter_content(self, _size):
        yield self._body.encode() if isinstance(self._body, str) else self._body


# The HTTP client


class Endless(Canned):
    def iter_content(self, size):
        while True:
            yield b"x" * size


class CannedOutbound:
    """An Outbound whose sessions answer with one response."""

    plain = staticmethod(Outbound.plain)

    def __init__(self, response):
        self._response = response
        self.requests = []

    def session(self):
        def request(method, url, **more):
            self.requests.append((method, url, more))
            return self._response

        return SimpleNamespace(request=request, close=lambda: None)


def test_answers_have_a_limit():
    with HttpClient(CannedOutbound(Endless(""))) as client, pytest.raises(Temporary):
        client.get("https://login.test/x")


@pytest.mark.parametrize("kind", ["drip", "drip_head"])
def test_answers_have_a_time_limit_however_they_drip(house, monkeypatch, kind):
    house.sandbox.faults.add(kind, path="/token", seconds=0.01)
    outbound = Outbound(ca_file=house.sandbox.ca_file, direct=True)
    url = f"{house.sandbox.authority_url}/{house.sandbox.tenant_id}/oauth2/v2.0/token"
    monkeypatch.setattr(http, "_ANSWER_SECONDS", 0.3)
    with HttpClient(outbound) as client:
        with pytest.raises(Temporary, match="gave no whole answer in time"):
            client.post(url)
        monkeypatch.undo()
        assert client.post(url).status_code == 400, "the client is of use afterwards"


@pytest.mark.parametrize("status", [301, 302, 304, 307])
def test_redirect_is_no_answer(status):
    with HttpClient(CannedOutbound(Canned("{}", status))) as client, pytest.raises(Temporary, match="is not Microsoft"):
        client.post("https://login.test/x")


def test_every_request_has_time_limits_and_no_redirects():
    out = CannedOutbound(Canned('{"access_token": "t"}'))
    with HttpClient(out) as client:
        client.get("https://login.test/x", params={"a": "b"}, headers={"h": "v"})
        client.post("https://login.test/y", data={"c": "d"})
    assert [request[:2] for request in out.requests] == [
        ("GET", "https://login.test/x"),
        ("POST", "https://login.test/y"),
    ]
    for _, _, more in out.requests:
        assert more["timeout"] == (10.0, 30.0) and more["allow_redirects"] is False


@pytest.mark.parametrize("status", [408, 429, 500, 503, 599])
@pytest.mark.parametrize("header, seconds", [("17", 17.0), ("2.5", 0.0), ("-1", 0.0), ("", 0.0), ("9" * 40, 0.0)])
def test_busy(status, header, seconds):
    out = CannedOutbound(Canned('{"error": "invalid_grant"}', status, {"Retry-After": header}))
    with HttpClient(out) as client, pytest.raises(Busy) as error:
        client.post("https://login.test/x")
    assert error.value.seconds == seconds


# Only a renewal proves that a sign-in is good


def refused_by_graph(house, tokens):
    """Graph does not take the token any more."""
    token = tokens.access_token()
    house.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    return tokens


def refused_at_a_start(house, tokens):
    """Another run begins with the daily renewal, and the stored access token has still time left."""
    house.sandbox.entra.revoke()
    again = house.tokens()
    again.refresh_daily()
    return again


def refused_by_graph_while_entra_is_away(house, tokens):
    token = tokens.access_token()
    house.sandbox.entra.refuse("refresh_token", "temporarily_unavailable")
    house.sandbox.entra.revoke()
    with pytest.raises(Temporary):
        tokens.access_token(refused=token)
    return tokens


@pytest.mark.parametrize(
    "begin", [refused_by_graph, refused_at_a_start, refused_by_graph_while_entra_is_away], ids=lambda b: b.__name__
)
def test_a_revoked_sign_in_is_not_back_before_a_new_one(house, caplog, begin):
    caplog.set_level(logging.INFO, "m365proxy")
    tokens = begin(house, house.signed_in())
    house.time.now += 10
    for _ in range(30):  # as the probe asks: a quarter of an hour
        with pytest.raises(SignInNeeded):
            tokens.access_token()
        assert tokens.state()["needs_sign_in"] and "`m365proxy login`" in tokens.state()["error"]
        house.time.now += 31
    assert "is back" not in caplog.text
    house.signed_in()
    assert house.accepts(tokens.access_token()) == USER
    assert tokens.state()["error"] == "" and caplog.text.count("is back") == 1


def test_a_renewal_that_is_asked_for_is_not_answered_from_what_is_stored(house):
    house.signed_in()
    tokens = house.tokens()
    tokens.renew()
    assert house.refreshes() == 1
    tokens.renew()
    assert house.refreshes() == 2
    assert house.accepts(tokens.access_token()) == USER
    house.sandbox.entra.revoke()
    with pytest.raises(SignInNeeded, match="`m365proxy login`"):
        tokens.renew()
    assert tokens.state()["needs_sign_in"]


def test_a_network_error_is_no_revocation(house):
    tokens = house.signed_in()
    house.sandbox.offline()
    with pytest.raises(Temporary):
        tokens.renew()
    assert tokens.state()["error"] and not tokens.state()["needs_sign_in"]


def test_a_renewal_of_the_app_asks_entra_anew(house):
    tokens = house.tokens(client_secret="sandbox-secret", user=None)
    tokens.access_token()
    tokens.renew()
    assert house.sandbox.entra.counts["client_credentials"] == 2
    house.sandbox.tenant.client_secrets.clear()
    with pytest.raises(Misconfigured):
        tokens.renew()


# Several programs, one file


def test_two_programs_refresh_one_sign_in(house):
    one, other = house.signed_in(), house.tokens()
    token = one.access_token()
    assert other.access_token() == token
    first = one.access_token(refused=token)
    second = other.access_token(refused=token)
    # The other one found in the file what the first had brought.
    assert house.accepts(first) == house.accepts(second) == USER
    assert one.access_token() in (first, second) and other.access_token() == second
    assert house.tokens().access_token() in (first, second)


def meanwhile(house, monkeypatch, act):
    """Do something while the first refresh is with Entra."""
    whole = HttpClient.post
    acts = [act]

    def post(self, url, data=None, **more):
        reply = whole(self, url, data=data, **more)
        if acts and (data or {}).get("grant_type") == "refresh_token":
            acts.pop()()
        return reply

    monkeypatch.setattr(HttpClient, "post", post)


def test_sign_in_during_a_refresh_wins(house, monkeypatch):
    tokens = house.signed_in()
    token = tokens.access_token()
    stored = []

    def sign_in():
        house.signed_in()
        stored.append((house.content(), house.file.load().generation))

    meanwhile(house, monkeypatch, sign_in)
    fresh = tokens.access_token(refused=token)
    assert house.accepts(fresh) == USER
    assert house.file.load().generation == stored[0][1]
    assert house.refreshes() == 2  # once for the sign-in that was replaced, once for the new one


def test_logout_during_a_refresh_stays(house, monkeypatch):
    tokens = house.signed_in()
    token = tokens.access_token()
    meanwhile(house, monkeypatch, house.file.remove)
    with pytest.raises(SignInNeeded, match="Nobody is signed in"):
        tokens.access_token(refused=token)
    assert house.file.load() is None


def test_refresh_that_cannot_be_stored_serves_all_the_same(house, monkeypatch, caplog):
    tokens = house.signed_in()
    token = tokens.access_token()
    before = house.content()

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    fresh = tokens.access_token(refused=token)
    assert house.accepts(fresh) == USER and tokens.access_token() == fresh
    assert "No space left" in caplog.text
    monkeypatch.undo()
    assert house.content() == before


# What does not fit the config


@pytest.mark.parametrize(
    "other, words",
    [
        ({"user": "alerts@contoso.com"}, "user is alerts@contoso.com"),
        ({"tenant_id": "11111111-2222-3333-4444-555555555555"}, "another tenant"),
        ({"client_id": "11111111-2222-3333-4444-555555555555"}, "another client_id"),
    ],
)
def test_sign_in_of_another_config_is_not_used(house, other, words):
    house.signed_in()
    kept = house.content()
    tokens = house.tokens(**other)
    with pytest.raises(SignInNeeded, match="`m365proxy login`") as error:
        tokens.access_token()
    assert words in sentence_of(error) and house.content() == kept
    assert tokens.state()["needs_sign_in"] is True


# The daily renewal


def test_daily_renewal_rolls_the_refresh_token(house):
    tokens = house.signed_in()
    token, refresh = tokens.access_token(), house.content()
    tokens.refresh_daily()
    assert house.refreshes() == 1
    assert house.content() != refresh and tokens.access_token() != token
    assert tokens.state()["last_refresh"] == 5_000_000.0


def test_daily_renewal_is_not_held_up_by_an_old_refusal(house):
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053)
    with pytest.raises(SignInNeeded):
        tokens.access_token(refused=token)
    tokens.refresh_daily()
    assert house.accepts(tokens.access_token()) == USER


@pytest.mark.parametrize(
    "arrange", [lambda h: h.sandbox.offline(), lambda h: h.sandbox.entra.revoke(), lambda h: h.file.remove()]
)
def test_daily_renewal_logs_what_fails(house, caplog, arrange):
    tokens = house.signed_in()
    arrange(house)
    tokens.refresh_daily()
    tokens.refresh_daily()
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2 and all(text.startswith("no access to Microsoft: ") for text in errors)


def test_same_trouble_is_logged_once(house, caplog):
    caplog.set_level(logging.INFO, "m365proxy")
    tokens = house.signed_in()
    token = tokens.access_token()
    house.sandbox.entra.refuse("refresh_token", "invalid_grant", 50053, times=3)
    for _ in range(3):
        with pytest.raises(SignInNeeded):
            tokens.access_token(refused=token)
        house.time.now += 900
    for _ in range(3):
        house.time.now += 900
        token = tokens.access_token(refused=token)
    texts = [record.getMessage() for record in caplog.records if record.name == "m365proxy.oauth"]
    assert [text.partition(":")[0] for text in texts] == ["no access to Microsoft", "access to Microsoft is back"]


# For `status`


def test_state(house):
    tokens = house.tokens()
    state = tokens.state()
    assert state["user"] == "" and state["needs_sign_in"] and "`m365proxy login`" in state["error"]
    house.signed_in()
    assert tokens.state() == {
        "user": USER,
        "signed_in_at": 5_000_000.0,
        "last_refresh": 0.0,
        "error": "",
        "needs_sign_in": False,
    }
    json.dumps(tokens.state())
    files.replace(house.file.path, b"garbage")
    state = tokens.state()
    assert state["needs_sign_in"] and "cannot be decrypted" in state["error"]
    asked = house.sandbox.requests
    tokens.state()
    assert house.sandbox.requests == asked


# The app by itself


@pytest.fixture
def certificate(tmp_path):
    """An RSA key with its certificate: config's client_certificate, and the PEM text of the certificate."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2090, 1, 1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "app.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    thumbprint = made.fingerprint(hashes.SHA1()).hex().upper()
    return SimpleNamespace(private_key=str(path), thumbprint=thumbprint), made.public_bytes(serialization.Encoding.PEM)


def test_app_with_a_secret(house):
    tokens = house.tokens(client_secret="sandbox-secret", user=None)
    token = tokens.access_token()
    assert house.accepts(token) == "" and tokens.access_token() == token
    assert house.sandbox.entra.counts["client_credentials"] == 1
    house.sandbox.entra.revoke_access()
    house.time.now += 61
    assert house.accepts(tokens.access_token(refused=token)) == ""
    assert house.sandbox.entra.counts["client_credentials"] == 2
    assert os.listdir(house.directory) == [] and house.sandbox.seen("/me") == []


def test_app_with_a_certificate(house, certificate):
    house.sandbox.tenant.client_certificate = certificate[1]
    tokens = house.tokens(client_certificate=certificate[0], user=None)
    assert house.accepts(tokens.access_token()) == ""


def test_app_token_is_renewed_in_time(house):
    tokens = house.tokens(client_secret="sandbox-secret")
    token = tokens.access_token()
    house.time.now += 3900 - 301
    assert tokens.access_token() == token
    house.time.now += 1
    assert tokens.access_token() != token
    assert house.sandbox.entra.counts["client_credentials"] == 2


def test_app_with_the_wrong_secret(house):
    tokens = house.tokens(client_secret="S3cret")
    with pytest.raises(Misconfigured, match="secret's value") as error:
        tokens.access_token()
    assert error.value.exit_status == 78 and "S3cret" not in sentence_of(error)
    with pytest.raises(Misconfigured):
        tokens.access_token()
    assert house.sandbox.entra.counts["client_credentials"] == 1
    # The secret is put right in Entra: found out by asking anew, not from msal's memory of the refusal.
    house.sandbox.tenant.client_secrets.add("S3cret")
    house.time.now += 30
    assert house.accepts(tokens.access_token()) == ""


def spoil(certificate, how):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    path = certificate.private_key
    form = serialization.PrivateFormat.PKCS8
    if how == "missing":
        os.unlink(path)
        return
    key = ec.generate_private_key(ec.SECP256R1()) if how == "elliptic" else rsa.generate_private_key(65537, 2048)
    lock = serialization.BestAvailableEncryption(b"S3cret") if how == "locked" else serialization.NoEncryption()
    content = b"S3cret" if how == "garbage" else key.private_bytes(serialization.Encoding.PEM, form, lock)
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "how, words",
    [
        ("missing", "cannot be read: No such file"),
        ("garbage", "is not an RSA key"),
        ("elliptic", "is not an RSA key"),
        ("locked", "without password"),
        ("another", "not one of the app registration's"),
    ],
)
def test_app_with_an_unusable_key(house, certificate, how, words):
    house.sandbox.tenant.client_certificate = certificate[1]
    spoil(certificate[0], how)
    tokens = house.tokens(client_certificate=certificate[0])
    with pytest.raises(Misconfigured) as error:
        tokens.access_token()
    assert words in sentence_of(error) and "S3cret" not in str(error.value)


def test_app_needs_no_sign_in(house):
    tokens = house.tokens(client_secret="sandbox-secret")
    assert tokens.login(house.shown.append) == ""
    assert len(house.shown) == 1 and "No sign-in is needed" in house.shown[0]
    tokens.refresh_daily()
    assert house.sandbox.requests == []
    assert tokens.state()["user"].startswith("application ") and not tokens.state()["needs_sign_in"]


# Secrets


def test_no_secret_is_told(house, caplog, capsys):
    texts = []
    with caplog.at_level(logging.DEBUG):
        tokens = house.signed_in()
        token = tokens.access_token()
        secrets = {token, house.content()}
        secrets.update(house.sandbox.entra._flows, house.sandbox.entra._refresh)
        for error in ("invalid_grant", "invalid_client", "server_error"):
            house.sandbox.entra.refuse("refresh_token", error, text="S3cret")
        house.sandbox.faults.add("portal", path="/token")
        for _ in range(4):
            house.time.now += 900
            try:
                tokens.access_token(refused=token)
            except ProxyError as error:
                texts += [str(error), repr(error)]
        with pytest.raises(Misconfigured):
            house.tokens(client_secret="S3cret").access_token()
        tokens.refresh_daily()
        secrets.add(house.content())
    loud = [r.getMessage() for r in caplog.records if r.name.startswith("m365proxy") or r.levelno >= logging.WARNING]
    texts += loud + house.shown + [repr(tokens), repr(house.file.load()), *capsys.readouterr()]
    assert len(texts) > 10 and len(secrets) > 2
    for secret in (*secrets, "S3cret"):
        assert not any(secret in text for text in texts)


# Libraries


def test_import_is_light():
    heavy = "('msal', 'requests', 'cryptography', 'jwt')"
    code = f"import sys, m365proxy.entra.tokens; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_missing_library(house, monkeypatch):
    tokens = house.signed_in()
    monkeypatch.setitem(sys.modules, "msal", None)
    with pytest.raises(Temporary, match="msal is missing") as error:
        tokens.access_token()
    assert error.value.exit_status == 69
