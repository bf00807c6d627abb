"""A status port whose site is what a test wants, and clients of it."""

import contextlib
import socket

import pytest
from snapshots import snapshot_of

from m365proxy.web.statusport import StatusPort


class StandInMonitor:
    """Gives the reports that a test has made; a report is a snapshot with findings."""

    def __init__(self, **changes):
        self.taken = 0
        self.changes = changes

    def report(self):
        self.taken += 1
        return {"findings": [], **snapshot_of(**self.changes)}


class Talk:
    """A client that sends octets and reads responses."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, path, *fields, method="GET"):
        """(status, header, body) of a request with a Host."""
        self.send(
            "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "")).encode()
        )
        return self.response(method)

    def response(self, method="GET"):
        line = self.file.readline()
        if not line:
            return None
        header = {}
        for field in iter(self.file.readline, b"\r\n"):
            name, _, value = field.decode().rstrip().partition(": ")
            assert name not in header
            header[name] = value
        body = b"" if method == "HEAD" else self.file.read(int(header["Content-Length"]))
        return int(line.split()[1]), header, body.decode()

    def ended(self):
        """Whether the other side has closed the connection, and sent nothing more."""
        with contextlib.suppress(ConnectionError):
            return self.file.read(1) == b""
        return True

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def make_port():
    made = []

    def make(monitor=None):
        port = StatusPort(monitor or StandInMonitor())
        made.append(port)
        port.open(["127.0.0.1"], 0)
        port.start()
        return port

    yield make
    for port in made:
        port.close()


@pytest.fixture
def talk(make_port):
    """talk(port=None): a new client of a status port."""
    made = []
    only = []

    def make(port=None):
        if port is None:
            only[:] = only or [make_port()]
            port = only[0]
        made.append(Talk(port.listeners[0].port))
        return made[-1]

    yield make
    for one in made:
        one.close()
