"""Signing in by device code, with the real msal against the stand-in tenant over HTTPS."""

from __future__ import annotations

import entra_house
import pytest
from entra_house import USER, sentence_of

from m365proxy.errors import ProxyError, SignInNeeded, Temporary

house = entra_house.house

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


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
