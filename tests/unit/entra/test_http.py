"""What Entra's refusals mean, and what msal talks through."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import entra_harness
import pytest
from cases import each
from entra_harness import USER, Canned, sentence_of

from m365proxy.entra import http
from m365proxy.entra.http import Busy, HttpClient, Misconfigured, refusal
from m365proxy.errors import SignInNeeded, Temporary
from m365proxy.system.outbound import Outbound

harness = entra_harness.harness

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


# Refusals


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
def test_kinds_of_refusals(harness, error, number, kind, status, words):
    tokens = harness.signed_in()
    token = tokens.access_token()
    before = harness.content()
    harness.sandbox.entra.refuse("refresh_token", error, number)
    with pytest.raises(kind) as caught:
        tokens.access_token(refused=token)
    assert caught.value.exit_status == status and words in sentence_of(caught)
    assert isinstance(caught.value, (SignInNeeded, Temporary))  # what callers of Graph know
    assert harness.content() == before
    assert tokens.state()["error"] == str(caught.value) and tokens.state()["exit_status"] == status
    assert tokens.state()["needs_sign_in"] is (kind is not Temporary)
    harness.time.now += 900
    assert harness.accepts(tokens.access_token()) == USER
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


@each(
    "answer, expected",
    [
        ({}, "Microsoft refuses the sign-in for now. (no reason given)"),
        ({"error": {"code": "x"}}, "Microsoft refuses the sign-in for now."),
        ({"error": "invalid_client", "error_codes": "x"}, "Microsoft refuses the app registration."),
        ({"error": "invalid_client", "error_codes": [None, "7000215", 7000215]}, "client_secret is wrong."),
        ({"error": "invalid_client", "error_description": "AADSTS7000222: The keys"}, "The client secret has expired."),
        ({"error": "a\r\nb" + "c" * 99}, "Microsoft refuses the sign-in for now. (a\\x0d\\x0abccc"),
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
    pytest.param("[" * 200_000, id="nested"),
]


@pytest.mark.parametrize("body", ODD_ANSWERS)
def test_odd_answers_end_in_a_sentence(harness, body):
    """No answer of a server is a crash, or harms what is stored."""
    tokens = harness.signed_in()
    token = tokens.access_token()
    before = harness.content()
    with spoiled(body), contextlib.suppress(Temporary, SignInNeeded):
        tokens.access_token(refused=token)
    assert harness.content() == before
    harness.time.now += 900
    assert harness.accepts(tokens.access_token(refused="x")) == USER


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
def test_answers_have_a_time_limit_however_they_drip(harness, monkeypatch, kind):
    harness.sandbox.faults.add(kind, path="/token", seconds=0.01)
    outbound = Outbound(ca_file=harness.sandbox.ca_file, direct=True)
    url = f"{harness.sandbox.authority_url}/{harness.sandbox.tenant_id}/oauth2/v2.0/token"
    monkeypatch.setattr(http, "_ANSWER_SECONDS", 0.3)
    with HttpClient(outbound) as client:
        with pytest.raises(Temporary, match="did not answer completely in time"):
            client.post(url)
        monkeypatch.undo()
        harness.sandbox.faults.clear()  # on a slow machine it had no time to come to it
        assert client.post(url).status_code == 400, "the client is of use afterwards"


@each("status", [301, 302, 304, 307])
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


@each("status", [408, 429, 500, 503, 599])
@each("header, seconds", [("17", 17.0), ("2.5", 0.0), ("-1", 0.0), ("", 0.0), ("9" * 40, 0.0)])
def test_busy(status, header, seconds):
    out = CannedOutbound(Canned('{"error": "invalid_grant"}', status, {"Retry-After": header}))
    with HttpClient(out) as client, pytest.raises(Busy) as error:
        client.post("https://login.test/x")
    assert error.value.seconds == seconds
