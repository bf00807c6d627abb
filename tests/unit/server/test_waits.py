import errno
import os
import socket
import ssl
import struct

import pytest

from m365proxy.server import waits
from m365proxy.server.waits import KernelWaits, Waits, waits_on

posix = pytest.mark.skipif(os.name != "posix", reason="here Python keeps all time limits")


class Script:
    """A socket to which things happen: each recv or send takes some seconds and brings octets, or raises.

    What waits beyond the limit that is set ends at the limit, as with the real one.
    """

    def __init__(self, *events):
        self.events = list(events)
        self.now = 100.0
        self.limits = []  # each that was set
        self.blocking = True
        self.sent = b""
        self.waits = 0

    def settimeout(self, seconds):
        assert seconds != 0, "it would not wait at all"
        self.blocking = seconds is None
        self.limits.append(seconds)

    def setsockopt(self, level, option, value):
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVTIMEO)
        seconds, microseconds = struct.unpack(waits._timeval(), value)
        assert 0 <= microseconds < 1_000_000
        assert (seconds, microseconds) != (0, 0), "it would wait for ever"
        self.limits.append(seconds + microseconds / 1_000_000)

    def recv(self, most, flags):
        self.waits += 1
        seconds, what = self.events[0]
        if seconds > self.limits[-1]:
            self.now += self.limits[-1]
            self.events[0] = (seconds - self.limits[-1], what)
            raise BlockingIOError if self.blocking else socket.timeout
        self.now += seconds
        del self.events[0]
        if isinstance(what, Exception):
            raise what
        return what

    def send(self, data, flags):
        assert flags == socket.MSG_DONTWAIT
        room = self.events.pop(0)
        if not room:
            raise BlockingIOError
        self.sent += data[:room]
        return min(room, len(data))

    def sendall(self, data):
        assert not self.blocking, "it may wait for ever"
        self.sent += data


class Ended(Script):
    """A socket whose waits go on when its input is ended, which is done to it during the first one."""

    waiting = None

    def recv(self, most, flags):
        self.waiting.end()
        return super().recv(most, flags)


BOTH = [Waits, pytest.param(KernelWaits, marks=posix)]


def receive(kind, script, seconds):
    return kind(script, lambda: script.now).receive(10, script.now + seconds)


def test_a_wait_that_was_ended_is_left_at_the_next_look(monkeypatch):
    """As on Windows, where ending a socket's input may not wake who waits for it."""
    shut = []
    monkeypatch.setattr(waits.socket.socket, "shutdown", lambda *which: shut.append(which))
    script = Ended((300, b"QUIT"))
    script.waiting = Waits(script, lambda: script.now, look=1.0)
    assert script.waiting.receive(10, script.now + 300) == b""
    assert (script.waits, script.limits, shut) == (1, [1.0], [(script, socket.SHUT_RD)])


class Shaking(Script):
    """A socket whose client takes some seconds to begin TLS; `ended` is called during the first wait for it."""

    def __init__(self, seconds, ended=lambda: None):
        super().__init__((seconds, b""))
        self.ended = ended

    def do_handshake(self):
        self.ended()
        self.recv(0, 0)


def test_tls_begins_in_a_time_limit_of_its_own():
    script = Shaking(2.5)
    Waits(script, lambda: script.now, look=1.0).handshake(script, 60)
    assert script.limits == [1.0, 1.0, 1.0] and script.now == 102.5
    script = Shaking(100)
    with pytest.raises(socket.timeout):
        Waits(script, lambda: script.now).handshake(script, 60)
    assert script.limits == [60] and script.now == 160


def test_a_beginning_of_tls_that_was_ended_is_left_at_the_next_look(monkeypatch):
    monkeypatch.setattr(waits.socket.socket, "shutdown", lambda *which: None)
    script = Shaking(100, lambda: shaken.end())
    shaken = Waits(script, lambda: script.now, look=1.0)
    with pytest.raises(ConnectionAbortedError):
        shaken.handshake(script, 60)
    assert script.limits == [1.0]


def test_looking_is_no_end():
    script = Script((2.5, b"QUIT"))
    assert Waits(script, lambda: script.now, look=1.0).receive(10, script.now + 300) == b"QUIT"
    assert script.limits == [1.0, 1.0, 1.0]
    with pytest.raises(socket.timeout):
        script.events = [(300, b"")]
        Waits(script, lambda: script.now, look=1.0).receive(10, script.now + 3)


@pytest.mark.parametrize("kind", BOTH)
def test_a_limit_is_set_once_for_many_commands(kind):
    script = Script(*[(0.25, b"NOOP\r\n")] * 100)
    one = kind(script, lambda: script.now)
    for number in range(100):
        deadline = script.now + 300
        script.now += 0.001 + number * 0.0001  # between the clock's being asked twice
        assert one.receive(10, deadline) == b"NOOP\r\n"
    assert len(script.limits) == 1


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("seconds", [300, 60.5, 1, 0.2])
def test_the_deadline_holds_for_silence(kind, seconds):
    script = Script((9999, b""))
    with pytest.raises(socket.timeout):
        receive(kind, script, seconds)
    assert script.now == pytest.approx(100 + seconds, abs=0.001)
    assert len(script.limits) <= 3


@pytest.mark.parametrize("kind", BOTH)
def test_the_deadline_holds_for_a_client_that_drips(kind):
    """As Connection.read_line does it: one deadline for all the octets of a line."""
    script = Script(*[(7, b"x")] * 9, (9999, b""))
    one, deadline = kind(script, lambda: script.now), script.now + 64
    for _ in range(9):
        assert one.receive(10, deadline) == b"x"
    with pytest.raises(socket.timeout):
        one.receive(10, deadline)
    assert script.now == pytest.approx(164, abs=0.001)


@pytest.mark.parametrize("kind", BOTH)
def test_after_the_deadline_nothing_is_read(kind):
    script = Script((0, b"x"))
    with pytest.raises(socket.timeout):
        receive(kind, script, 0)
    assert len(script.events) == 1


@pytest.mark.parametrize("kind", BOTH)
def test_a_limit_of_the_call_before_ends_no_wait(kind):
    script = Script((0.5, b"one"), (290, b"two"))
    one = kind(script, lambda: script.now)
    assert one.receive(10, script.now + 2) == b"one"
    assert one.receive(10, script.now + 300) == b"two"
    assert script.waits <= 3


@pytest.mark.parametrize("kind", BOTH)
def test_a_tiny_rest_is_no_limit_without_end(kind):
    script = Script((9999, b""))
    with pytest.raises(socket.timeout):
        receive(kind, script, 1e-9)


@pytest.mark.parametrize("kind", BOTH)
def test_a_broken_connection(kind):
    script = Script((1, ConnectionResetError(errno.ECONNRESET, "reset")))
    with pytest.raises(ConnectionResetError):
        receive(kind, script, 10)


@posix
@pytest.mark.parametrize("room, waited", [(10, 0), (4, 1), (0, 1)])
def test_only_a_send_that_has_to_wait_needs_a_limit(room, waited):
    script = Script(room)
    KernelWaits(script).send(bytearray(b"0123456789"), 60)
    assert script.sent == b"0123456789"
    assert script.limits == [60, None] * waited
    assert script.blocking


@pytest.mark.parametrize("seconds", [2, 300])
def test_with_tls_a_send_has_the_limit_for_sending(seconds):
    script = Script((1, b"x"))
    one = Waits(script, lambda: script.now)
    one.receive(10, script.now + seconds)
    for _ in range(2):
        one.send(b"reply", 60)
    assert script.limits[1:] == [60]


@posix
def test_which_sockets_have_their_limits_kept_by_the_kernel():
    plain, other = socket.socketpair()
    with plain, other:
        assert type(waits_on(plain)) is KernelWaits
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False) as secure:
            assert type(waits_on(secure)) is Waits


@posix
def test_the_kernel_understands_the_limit():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        one = KernelWaits(ours)
        one._set_limit(2.5)
        kept = ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        seconds, microseconds = struct.unpack(waits._timeval(), kept)
        assert 2.49 < seconds + microseconds / 1_000_000 < 2.52
