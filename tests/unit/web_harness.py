"""What stands in for the monitor behind a status port, and clients of one."""

import contextlib
import socket

from snapshots import snapshot_of
from waiting import PATIENCE

from m365proxy.logins.guard import Guard
from m365proxy.logins.users import Users
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.devices import Devices
from m365proxy.monitoring.monitor import report_on


def guard(failures=3):
    """One that asks nobody, and does not make anybody wait."""
    return Guard(Users([]), failures=failures, sleep=lambda seconds: None)


class StandInMonitor:
    """Gives the reports of a test; `changes`: as snapshots.snapshot_of."""

    def __init__(self, **changes):
        self.taken = 0
        self.changes = changes
        self.error = None
        self.counters = Counters()
        self.devices = Devices()

    def report(self):
        self.taken += 1
        if self.error:
            raise self.error
        return report_on(snapshot_of(**self.changes))

    def is_alive(self):
        return not self.changes.get("deaf")


class Talk:
    """A client that sends octets and reads responses."""

    def __init__(self, port, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
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

    def rest(self):
        """What is sent until the end of the connection."""
        with contextlib.suppress(ConnectionError):
            return self.file.read()
        return b""

    def ended(self):
        """Whether the other side has closed the connection, and sent nothing more."""
        return self.rest() == b""

    def close(self):
        self.file.close()
        self.socket.close()
