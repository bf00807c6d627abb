"""Requests without an answer: never called "not processed" if they were."""

from __future__ import annotations

import socket
import urllib.parse

import pytest
from tunnel import Tunnel

from m365proxy.graph import client as graph_module
from m365proxy.graph.answer import NoAnswer
from m365proxy.graph.body import base64_body
from m365proxy.graph.client import SLOTS, Graph
from m365proxy.sandbox import Sandbox
from m365proxy.system.outbound import Outbound

# http.client of Python 3.9 leaves a failed CONNECT's answer to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

RELAY, ALERTS, SCANNER = "relay@contoso.com", "alerts@contoso.com", "scanner@contoso.com"
HEAD = f"From: {ALERTS}\r\nTo: {SCANNER}\r\nSubject: s\r\n\r\n".encode()
SMALL, LARGE = HEAD + b"hello\r\n", HEAD + (b"x" * 70 + b"\r\n") * 40_000
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}

# Long enough for the stand-in to answer, short enough to wait for (seconds).
SILENCE = 0.25


class FakeTokens:
    def __init__(self, entra):
        self.token = entra.token()

    def access_token(self, refused=None):
        return self.token


class Harness:
    """The stand-in, and a client that goes directly or through a proxy to it."""

    def __init__(self, sandbox, proxied):
        self.sandbox = sandbox
        sandbox.online()
        sandbox.faults.clear()
        sandbox.tenant.delivered.clear()
        self.tokens = FakeTokens(self.sandbox.entra)
        self.tunnel = Tunnel()
        self.proxied = proxied
        self.proxy = self.tunnel.url if proxied else None
        self.graph = None
        self.trust = self.sandbox.ca_file
        made = self.client().call(
            "POST",
            ALERTS,
            "/messages",
            headers={**IMMUTABLE, "Content-Type": "text/plain"},
            body=lambda: base64_body(len(SMALL), [SMALL]),
        )
        self.draft = urllib.parse.quote(made.json()["id"], safe="")
        self.graph.close()
        sandbox.forget()
        self.tunnel.connects.clear()

    def client(self):
        outbound = Outbound(self.proxy, self.trust, direct=not self.proxied, environ={})
        self.graph = Graph(self.tokens, outbound, self.sandbox.graph_url, RELAY)
        return self.graph

    def mime(self, raw):
        pieces = [raw[i : i + 8192] for i in range(0, len(raw), 8192)]
        return self.graph.call(
            "POST",
            ALERTS,
            "/sendMail",
            headers={"Content-Type": "text/plain"},
            body=lambda: base64_body(len(raw), pieces),
            seconds=SILENCE,
        )

    def request(self, kind):
        if kind == "draft":
            return self.graph.call("POST", ALERTS, f"/messages/{self.draft}/send", headers=IMMUTABLE, seconds=SILENCE)
        return self.mime(SMALL if kind == "small" else LARGE)

    def processed(self):
        """How often the stand-in has sent, once it can do nothing more."""
        self.sandbox.offline()
        return len(self.sandbox.tenant.delivered)

    def close(self):
        self.graph.close()
        self.tunnel.__exit__()
        self.sandbox.offline()


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(mailboxes=(RELAY, ALERTS, SCANNER), user=RELAY) as made:
        yield made


@pytest.fixture
def make_harness(sandbox):
    made = []

    def make(proxied):
        made.append(Harness(sandbox, proxied))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


def unknown_name(*_args, **_more):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


# Directly. What happens; what has to be said of a small body, a large one, and none (None: either).


def no_dns(harness, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", unknown_name)


def refused(harness, monkeypatch):
    harness.sandbox.offline("refuse")


def reset_at_once(harness, monkeypatch):
    harness.sandbox.offline("reset")


def not_trusted(harness, monkeypatch):
    harness.trust = None


def fault(kind, **more):
    def set_up(harness, monkeypatch):
        harness.sandbox.faults.add(kind, path="sendMail|/send", **more)

    return set_up


BOTH_WAYS = [
    ("not trusted", not_trusted, False, False, False),
    ("cut before processing", fault("cut"), True, True, True),
    ("cut in the body", fault("cut_body"), None, None, True),
    ("cut after processing", fault("cut_after"), True, True, True),
    ("answer broken off", fault("cut_answer"), True, True, True),
    ("hang", fault("hang"), True, True, True),
    ("hang after processing", fault("hang_after"), True, True, True),
    ("answered too late", fault("slow", seconds=SILENCE + 0.3), True, True, True),
]
DIRECT = [
    ("no DNS", no_dns, False, False, False),
    ("refused", refused, False, False, False),
    ("reset at once", reset_at_once, False, False, None),
]


# Through a proxy.


def tunnel(**settings):
    def set_up(harness, monkeypatch):
        for name, value in settings.items():
            setattr(harness.tunnel, name, value)
        monkeypatch.setattr(graph_module, "CONNECT_SECONDS", SILENCE)

    return set_up


def no_proxy_there(harness, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        harness.proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"


def answer_lost(harness, monkeypatch):
    harness.tunnel.lose = lambda: any(r.end for r in harness.sandbox.requests)


def lost_while_processing(harness, monkeypatch):
    harness.sandbox.faults.add("slow", path="sendMail|/send", seconds=0.1)
    answer_lost(harness, monkeypatch)


PROXIED = [
    ("no proxy there", no_proxy_there, False, False, False),
    ("no DNS for the proxy", no_dns, False, False, False),
    ("nobody behind the proxy", refused, False, False, None),
    ("proxy says 403", tunnel(mode="403 Forbidden"), False, False, None),
    ("proxy says 407", tunnel(mode="407 Proxy Authentication Required"), False, False, None),
    ("proxy says 502", tunnel(mode="502 Bad Gateway"), False, False, None),
    ("proxy closes", tunnel(mode="close"), False, False, None),
    ("proxy talks nonsense", tunnel(mode="garbage"), False, False, None),
    ("proxy is silent", tunnel(mode="silent"), False, False, None),
    ("reset in the handshake", tunnel(mode="hello"), False, False, None),
    ("reset in the body", tunnel(most=200_000), None, None, None),
    ("reset before the answer", answer_lost, True, True, True),
    ("reset while processing", lost_while_processing, True, True, True),
]

# Where it makes no difference how much there is to send, a large body would only take time.
SIZE_MATTERS = ("cut in the body", "cut before processing", "reset in the body", "reset in the handshake", "refused")

TABLE = [
    (way, name, set_up, kind, expected)
    for way, rows in (("direct", DIRECT + BOTH_WAYS), ("proxy", PROXIED + BOTH_WAYS))
    for name, set_up, *said in rows
    for kind, expected in zip(("small", "large", "draft"), said)
    if kind != "large" or name in SIZE_MATTERS
]


@pytest.mark.parametrize(
    "way, name, set_up, kind, expected", TABLE, ids=[f"{way}-{name}-{kind}" for way, name, _, kind, _ in TABLE]
)
def test_a_request_without_an_answer(make_harness, monkeypatch, way, name, set_up, kind, expected):
    harness = make_harness(way == "proxy")
    with monkeypatch.context() as patches:
        set_up(harness, patches)
        harness.client()
        try:
            answer = harness.request(kind)
        except NoAnswer as error:
            said = error
        else:
            # Only what never met the trouble may have been answered.
            assert name == "reset in the body" and kind != "large" and answer.status == 202
            return
    assert str(said).endswith((".", "?")) and harness.tokens.token not in str(said)
    assert harness.graph.spare(ALERTS) == SLOTS
    sent = harness.processed()
    assert said.maybe_processed or sent == 0, "it was processed, and is called not processed"
    assert expected is None or said.maybe_processed is expected, str(said)
    through = way == "proxy" and name not in ("no proxy there", "no DNS for the proxy")
    assert bool(harness.tunnel.connects) is through


def test_the_proxys_fault_is_called_so(make_harness):
    harness = make_harness(True)
    harness.tunnel.mode = "407 Proxy Authentication Required"
    harness.client()
    with pytest.raises(NoAnswer, match="https_proxy"):
        harness.request("small")


@pytest.mark.parametrize("kind", ["small", "draft"])
def test_an_earlier_failure_says_nothing_of_this_one(make_harness, kind):
    """A call made while another failure is handled: Python chains the two."""
    harness = make_harness(False)
    harness.client()
    harness.sandbox.offline("refuse")
    try:
        harness.request(kind)
    except NoAnswer as first:
        assert not first.maybe_processed
        harness.sandbox.online()
        harness.sandbox.faults.add("cut_after")
        with pytest.raises(NoAnswer) as caught:
            harness.request(kind)
    assert caught.value.maybe_processed and harness.processed() == 1
    assert "the proxy" not in str(caught.value) and "refused" not in str(caught.value)
