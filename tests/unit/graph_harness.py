"""What the tests of the client of Graph share: a stand-in tenant that counts, and a client of it."""

from __future__ import annotations

import threading
import time

import pytest
from waiting import PATIENCE

from m365proxy.graph.body import base64_body
from m365proxy.graph.client import Graph
from m365proxy.sandbox import Sandbox
from m365proxy.system.outbound import Outbound

RELAY, ALERTS, SCANNER = "relay@contoso.com", "alerts@contoso.com", "scanner@contoso.com"
INBOX = "/mailFolders/inbox/messages"
MAIL = f"From: {ALERTS}\r\nTo: {SCANNER}\r\nSubject: s\r\nMessage-ID: <1@a>\r\n\r\nhello\r\n".encode()


class FakeTokens:
    """Hands out the stand-in's tokens, and counts."""

    def __init__(self, entra):
        self._entra = entra
        self.asked = []
        self.given = []
        self.trouble = None

    def access_token(self, refused=None):
        self.asked.append(refused)
        if self.trouble is not None:
            raise self.trouble
        if refused or not self.given:
            self.given.append(self._entra.token())
        return self.given[-1]


class Counting(Sandbox):
    """Also counts connections."""

    connections = 0
    barrier = None  # where requests wait for each other before they are answered

    def connecting(self):
        """Called before each TLS handshake."""

    def wrapped(self, sock):
        self.connections += 1
        self.connecting()
        return super().wrapped(sock)

    def begin(self, request):
        welcome = super().begin(request)
        if self.barrier is not None:
            self.barrier.wait(PATIENCE)
        return welcome


class Monotonic:
    """A monotonic clock, which stands still once `now` is set."""

    now = None

    def __call__(self):
        return time.monotonic() if self.now is None else self.now


class Harness:
    """`wall` and `monotonic` are the clocks of the client."""

    def __init__(self):
        self.sandbox = Counting(mailboxes=(RELAY, ALERTS, SCANNER), user=RELAY)
        self.sandbox.start()
        self.tenant = self.sandbox.tenant
        self.faults = self.sandbox.faults
        self.tokens = FakeTokens(self.sandbox.entra)
        self.wall = time.time
        self.monotonic = Monotonic()
        self.graph = None
        self.connect()

    def connect(self, proxy=None, **options):
        """Make a client, in the place of the one before."""
        if self.graph is not None:
            self.graph.close()
        self.outbound = Outbound(proxy, self.sandbox.ca_file, direct=proxy is None)
        self.graph = Graph(
            self.tokens,
            self.outbound,
            self.sandbox.graph_url,
            RELAY,
            clock=lambda: self.wall(),
            monotonic=self.monotonic,
            **options,
        )

    def get(self, mailbox=ALERTS, path=INBOX, **more):
        return self.graph.call("GET", mailbox, path, **more)

    def send(self, raw=MAIL, mailbox=ALERTS, **more):
        return self.graph.call(
            "POST",
            mailbox,
            "/sendMail",
            headers={"Content-Type": "text/plain"},
            body=lambda: base64_body(len(raw), [raw]),
            **more,
        )

    def close(self):
        self.graph.close()
        self.sandbox.stop()

    def slots(self, mailbox=ALERTS):
        """The slots of a mailbox, also while it is throttled."""
        return self.graph._mailbox(mailbox).slots


@pytest.fixture
def harness():
    made = Harness()
    yield made
    made.close()


@pytest.fixture
def clock(harness):
    """The client's monotonic clock, in our hands."""
    harness.monotonic.now = 1000.0
    return harness.monotonic


def together(*actions):
    """Run them at the same time, each in a thread; what they returned or raised."""
    results = [None] * len(actions)

    def run(index, action):
        try:
            results[index] = action()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=job) for job in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results


def all_on_their_way(harness, *actions):
    """As `together`, and none is answered before all were asked."""
    harness.sandbox.barrier = threading.Barrier(len(actions))
    results = together(*actions)
    harness.sandbox.barrier = None
    return results
