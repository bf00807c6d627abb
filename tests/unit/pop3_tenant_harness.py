"""A loopback port with POP3 sessions behind it that reach the stand-in tenant over HTTPS."""

from __future__ import annotations

import contextlib
import poplib
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from pop3_harness import LOOPBACK
from waiting import PATIENCE

from m365proxy.graph.client import Graph
from m365proxy.maildrop.maildrop import Maildrops
from m365proxy.pop3.session import Pop3Session
from m365proxy.sandbox import Sandbox
from m365proxy.server.connection import Connection
from m365proxy.system.choices import DeleteRule
from m365proxy.system.outbound import Outbound

BOX = "scanner@contoso.com"


class Tokens:
    def __init__(self, sandbox):
        self._sandbox = sandbox
        self.renewed = 0
        self._token = sandbox.entra.token()

    def access_token(self, refused=None):
        if refused:
            self.renewed += 1
            self._token = self._sandbox.entra.token()
        return self._token


class Users:
    def __init__(self, user):
        self.user = user

    def current(self, user, service, peer):
        return user

    def check(self, login, password, service, peer):
        return self.user


class Harness:
    """A loopback port with POP3 behind it; `user` may be changed before connecting."""

    def __init__(self, sandbox, path):
        self.sandbox = sandbox
        self.tenant = sandbox.tenant
        self.directory = path / "maildrop"
        self.tokens = Tokens(sandbox)
        self.slept = []
        began = time.monotonic()
        self.graph = Graph(
            self.tokens,
            Outbound(None, sandbox.ca_file, direct=True),
            sandbox.graph_url,
            self.tenant.user,
            monotonic=lambda: began + sum(self.slept),  # pauses are measured exactly
        )
        self.user = SimpleNamespace(
            mailbox=BOX,
            folder="inbox",
            pop3_delete=DeleteRule.parse("trash"),
            pop3_mark_read=False,
            pop3_fold_lines=False,
            login=BOX,
        )
        self.maildrops = self.with_limits()
        self.silence = 20.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = []

    def with_limits(self, **more):
        self.maildrops = Maildrops(self.graph, str(self.directory), sleep=self._sleep, **more)
        return self.maildrops

    def _sleep(self, seconds):
        self.slept.append(seconds)

    @contextlib.contextmanager
    def client(self, sign_in=True):
        def serve():
            sock, address = self.listener.accept()
            Pop3Session(
                Connection(sock, address[0]),
                users=Users(self.user),
                maildrops=self.maildrops,
                plaintext_networks=LOOPBACK,
                silence_seconds=self.silence,
            ).run()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = poplib.POP3("127.0.0.1", self.listener.getsockname()[1], timeout=PATIENCE)
        try:
            if sign_in:
                client.user(BOX)
                client.pass_("x")
            yield client
        finally:
            client.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def refused(self):
        """What PASS is answered when it is refused."""
        with self.client(sign_in=False) as client:
            client.user(BOX)
            with pytest.raises(poplib.error_proto) as caught:
                client.pass_("x")
        return str(caught.value)

    def close(self):
        self.listener.close()
        self.graph.close()


@pytest.fixture
def harness(tmp_path):
    """A harness of its own."""
    with Sandbox() as sandbox:
        harness = Harness(sandbox, tmp_path)
        yield harness
        harness.close()


def mail(number, lines=0):
    return b"Subject: %d\r\n\r\n.text\r\n" % number + b"".join(b".%d\r\n" % line for line in range(lines))


def fill(harness, count):
    for number in range(count):
        harness.tenant.add_message(BOX, mail(number), received=1_700_000_000 + number // 3)


def subjects(client):
    count, _ = client.stat()
    return [int(client.top(number, 0)[1][0].partition(b" ")[2]) for number in range(1, count + 1)]
