"""Signing in by device code, with the real msal against the stand-in tenant over HTTPS."""

from __future__ import annotations

import entra_harness
import pytest
from entra_harness import USER, sentence_of

from m365proxy.errors import ProxyError, SignInNeeded, Temporary

harness = entra_harness.harness

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


def test_login(harness):
    assert harness.signed_in().access_token()
    (code,) = harness.shown
    line = str(code)
    assert "https://microsoft.com/devicelogin" in line and f"as {USER}" in line and "15 minutes" in line
    stored = harness.file.load()
    assert (stored.user, stored.tenant, stored.signed_in_at) == (USER, harness.sandbox.tenant_id, 5_000_000.0)
    assert harness.content().startswith("0.AX")
    assert harness.time.slept == []


def test_login_needs_nothing_beyond_the_authority_and_graph(harness):
    harness.signed_in().access_token()
    assert harness.sandbox.seen("discovery/instance") == []
    assert {request.path.split("/")[1] for request in harness.sandbox.requests} == {harness.sandbox.tenant_id, "v1.0"}


@pytest.mark.parametrize("user", [USER, "Relay@Contoso.com"])
def test_login_by_domain_and_in_any_case(harness, user):
    tokens = harness.signed_in(tenant_id="contoso.com", user=user)
    assert harness.file.load().tenant == harness.sandbox.tenant_id
    assert harness.accepts(tokens.access_token()) == USER


@pytest.mark.parametrize("which", ["userPrincipalName", "mail"])
def test_either_name_of_the_account_will_do(harness, which):
    harness.sandbox.tenant.upns[USER] = "svc-relay@contoso.onmicrosoft.com"
    user = USER if which == "mail" else "svc-relay@contoso.onmicrosoft.com"
    harness.signed_in(user=user)
    assert harness.file.load().user == user


def test_login_waits_for_the_person(harness):
    harness.sandbox.approve_after = 3
    harness.signed_in()
    assert harness.time.slept == [1, 1, 1]


def test_login_slows_down_when_asked(harness):
    harness.sandbox.entra.refuse("device_code", "slow_down")
    harness.signed_in()
    assert harness.time.slept == [1] * 6


def test_the_time_left_is_said_every_second(harness):
    harness.sandbox.entra.code_seconds = 60
    harness.sandbox.entra.refuse("device_code", "slow_down")
    left = []
    harness.tokens().login(harness.shown.append, left.append)
    assert left == [60.0, 59.0, 58.0, 57.0, 56.0, 55.0]
    assert (harness.shown[0].seconds, harness.shown[0].minutes) == (60, 1)


def test_login_with_an_interval_of_nothing(harness):
    harness.sandbox.entra.interval = 0
    harness.sandbox.approve_after = 2
    harness.signed_in()
    assert harness.time.slept == [1, 1]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "times": 3},
        {"kind": "answer", "status": 503, "times": 3},
        {"kind": "answer", "status": 429, "retry_after": "soon", "times": 3},
        {"kind": "portal", "times": 3},
    ],
)
def test_login_survives_trouble_while_it_waits(harness, fault):
    harness.sandbox.faults.add(path="/token$", **fault)
    harness.signed_in()
    assert harness.time.slept == [1, 1, 1]
    assert harness.content()


@pytest.mark.parametrize("path", ["openid-configuration", "/v1.0/me"])
def test_login_tries_its_questions_thrice(harness, path):
    fault = harness.sandbox.faults.add("answer", path=path, status=503, times=2)
    harness.signed_in(tenant_id="contoso.com")
    assert fault.hits == 2 and harness.content()


def test_only_graph_says_who_signed_in(harness):
    me = b'{"userPrincipalName": "%s", "mail": null}' % USER.encode()
    fault = harness.sandbox.faults.add("stranger", path="/v1.0/me", status=200, body=me, times=None)
    with pytest.raises(Temporary, match="is not Microsoft"):
        harness.signed_in()
    assert fault.hits == 3 and not harness.content()


@pytest.mark.parametrize("body", [b"{}", b'{"value": []}', b'{"error": "blocked"}', None])
def test_a_stranger_gives_no_token_and_ends_no_sign_in(harness, body):
    tokens = harness.signed_in()
    before = harness.content()
    harness.sandbox.faults.add("stranger", path="/token$", status=200, body=body)
    with pytest.raises(Temporary):
        tokens.renew()
    assert harness.content() == before
    tokens.renew()


def test_send_permissions_ask_for_less(harness):
    harness.sandbox.tenant.granted_scopes = {"User.Read", "Mail.Send", "Mail.Send.Shared"}
    tokens = harness.signed_in(permissions="send")
    assert harness.accepts(tokens.access_token()) == USER


def after(harness, **changes):
    for name, value in changes.items():
        setattr(harness.sandbox.tenant, name, value)


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
        "no longer valid",
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
def test_refused_login_stores_nothing(harness, name, before):
    if before:
        harness.signed_in()
    kept = harness.content()
    harness.sandbox.entra.code_seconds = 30
    arrange, status, words = REFUSED_LOGINS[name]
    arrange(harness)
    with pytest.raises(ProxyError) as error:
        harness.signed_in()
    assert error.value.exit_status == status
    assert words in sentence_of(error)
    assert harness.content() == kept


def test_nobody_comes_within_the_life_of_the_code(harness):
    harness.sandbox.approve_after = None
    harness.sandbox.entra.code_seconds = 60
    with pytest.raises(SignInNeeded):
        harness.signed_in()
    assert harness.time.slept == [1] * 60


def test_answer_without_tenant_is_refused(harness, monkeypatch):
    monkeypatch.setattr(harness.sandbox.entra, "_id_token", lambda user, tid: "e30." + "e30" + ".x")
    with pytest.raises((SignInNeeded, Temporary)):
        harness.signed_in()
    assert harness.content() is None
