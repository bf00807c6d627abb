import contextlib
import errno
import os
import socket
import ssl
import threading
from types import SimpleNamespace

import pytest
from cases import each
from server_harness import BUSY, Echo, bound, connect, connected, line, server_context, session_threads
from smtp_harness import Harness

from m365proxy.errors import CannotCreate, InUse
from m365proxy.server import listener as server
from m365proxy.server import sessions
from m365proxy.server.listener import bind_error

# -- listening -------------------------------------------------------------


def test_every_client_has_a_session(listen):
    listener = listen()
    with connect(listener) as one, connect(listener) as two:
        assert line(one) == line(two) == b"127.0.0.1\r\n"
        two.sendall(b"2\r\n")
        one.sendall(b"1\r\n")
        assert (line(one), line(two)) == (b"1\r\n", b"2\r\n")
        assert {thread.name for thread in session_threads()} == {"smtp 127.0.0.1", f"accept smtp {listener.port}"}
        assert all(thread.daemon for thread in session_threads())


def test_clients_one_after_another_have_the_same_thread(listen, wait_until):
    served = []

    class Noted(Echo):
        def run(self):
            served.append((threading.current_thread(), threading.current_thread().name))
            super().run()

    listener = listen(Noted)
    for _ in range(10):
        with connect(listener) as sock:
            line(sock)
        wait_until(lambda: listener._sessions._threads._waiting)
    assert len({thread for thread, _ in served}) == 1
    assert [name for _, name in served] == ["smtp 127.0.0.1"] * 10
    listener.close()
    wait_until(lambda: not served[0][0].is_alive())


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(listen):
    with connect(listen(address="::1")) as sock:
        assert line(sock) == b"::1\r\n"


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_both_wildcards_on_one_port(listen):
    six = listen(address="::")
    four = listen(address="0.0.0.0", port=six.port)
    with socket.create_connection(("127.0.0.1", four.port), timeout=10) as sock:
        assert line(sock) == b"127.0.0.1\r\n"


def test_a_mapped_address_is_told_as_ipv4(listen):
    listener = listen()
    with connected() as (ours, theirs):
        listener.process_request(ours, ("::ffff:192.0.2.7", 4711, 0, 0))
        assert line(theirs) == b"192.0.2.7\r\n"


def test_a_busy_port(listen):
    port = listen().port
    with pytest.raises(InUse, match=rf"127\.0\.0\.1:{port} is in use by another program\. Stop that program, or"):
        bound(port=port)


def test_an_address_that_is_not_ours():
    with pytest.raises(CannotCreate, match="this machine has no such address. Correct bind"):
        bound(address="192.0.2.1")


def test_the_port_can_be_had_again_at_once(listen):
    had = 0
    for _ in range(3):
        listener = listen()
        with connect(listener) as sock:
            line(sock)
            sock.sendall(b"end\r\n")
            assert line(sock) == b""  # our side closed first: TIME_WAIT is here
        listener.close()
        with contextlib.suppress(InUse):  # another program may have been quicker, but not each time
            had += listen(port=listener.port).port == listener.port
    assert had


# Windows gives low ports to everybody, unless they are reserved.
CAPABILITY, SYSCTL = "AmbientCapabilities=CAP_NET_BIND_SERVICE", "ip_unprivileged_port_start=25"


@each(
    "number, address, port, kind, words",
    [
        (errno.EADDRINUSE, "::1", 2525, InUse, "[::1]:2525 is in use"),
        (errno.EACCES, "0.0.0.0", 25, CannotCreate, CAPABILITY if os.name == "posix" else "Choose another port"),
        (errno.EACCES, "0.0.0.0", 25, CannotCreate, SYSCTL if os.name == "posix" else "Choose another port"),
        (errno.EPERM, "0.0.0.0", 2525, CannotCreate, "Choose another port"),
        (errno.EADDRNOTAVAIL, "192.0.2.1", 25, CannotCreate, "no such address"),
        (errno.EAFNOSUPPORT, "::1", 25, CannotCreate, "no IPv6"),
        (errno.EINVAL, "192.0.2.1", 25, CannotCreate, "Invalid argument"),
    ],
)
def test_bind_errors(number, address, port, kind, words):
    error = bind_error(OSError(number, os.strerror(number)), address, port)
    assert type(error) is kind
    assert words in str(error)
    assert str(error).endswith(".")


def test_what_is_no_address():
    with pytest.raises(CannotCreate, match=r"no such name is no address of this machine\. Correct bind\.$"):
        bound(address="no such name", port=25)


def test_a_closed_listener_takes_nobody_and_keeps_who_is_there(listen):
    listener = listen()
    with connect(listener) as sock:
        line(sock)
        listener.close()
        with pytest.raises(OSError):
            connect(listener)
        sock.sendall(b"still here\r\n")
        assert line(sock) == b"still here\r\n"


def test_closing_what_was_never_started():
    bound().close()


# -- trouble ---------------------------------------------------------------


class Accepting:
    """A listening socket whose accept fails a few times first."""

    def __init__(self, real, failures):
        self.real = real
        self.failures = failures

    def accept(self):
        if self.failures:
            raise OSError(self.failures.pop(), "made to fail")
        return self.real.accept()

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.mark.parametrize("number, pauses", [(errno.EMFILE, 3), (errno.ENOBUFS, 3), (errno.ECONNABORTED, 0)])
def test_accept_fails(listen, number, pauses, caplog, monkeypatch):
    listener = bound()
    waits = []
    monkeypatch.setattr(listener._closing, "wait", waits.append)
    listener.socket = Accepting(listener.socket, [number] * 3)
    listener.start()
    try:
        with connect(listener) as sock:
            assert line(sock) == b"127.0.0.1\r\n"
    finally:
        listener.close()
        listener._connections.stop(5)
    assert len(waits) == pauses
    assert all(wait > 0 for wait in waits)
    assert len(caplog.records) == bool(pauses)


@pytest.mark.parametrize("step", ["get_request", "process_request"])
def test_the_accept_thread_survives_everything(listen, monkeypatch, step):
    """Even a log that raises."""
    listener = listen()
    whole, faults = getattr(listener, step), [MemoryError()] * 3

    def fails(*arguments):
        if faults:
            raise faults.pop()
        return whole(*arguments)

    monkeypatch.setattr(listener, step, fails)
    monkeypatch.setattr(sessions, "logger", SimpleNamespace(debug=lambda *_: None))
    while faults:
        with connect(listener) as sock, contextlib.suppress(ConnectionError):
            line(sock)
    with connect(listener) as sock:
        assert line(sock) == b"127.0.0.1\r\n"


def test_what_stops_the_accept_thread_is_logged(listen, monkeypatch, caplog):
    listener = listen()
    whole, faults = listener.get_request, [MemoryError()]
    monkeypatch.setattr(listener, "get_request", lambda: whole() if not faults else fails())

    def fails():
        raise faults.pop()

    with connect(listener) as sock:
        assert line(sock) == b"127.0.0.1\r\n"
    assert [record.getMessage() for record in caplog.records] == ["cannot accept connections: MemoryError()"]


def test_no_thread_to_be_had(listen, monkeypatch):
    listener = listen()

    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(server.threading.Thread, "start", start)
        with connect(listener) as sock:
            assert line(sock) == BUSY
            assert len(listener._connections) == 0
    with connect(listener) as sock:
        assert line(sock) == b"127.0.0.1\r\n"


# -- TLS from the first octet ----------------------------------------------


def test_a_changed_certificate_counts_from_the_next_connection(listen, certificate):
    listener = listen(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls_mode="implicit")
    trusting = ssl.create_default_context(cafile=certificate[0])
    with connect(listener) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        trusting.wrap_socket(sock, server_hostname="localhost")
    listener.tls = server_context(certificate)
    with connect(listener) as sock, trusting.wrap_socket(sock, server_hostname="localhost") as tls:
        assert line(tls) == b"127.0.0.1\r\n"


def test_no_thread_and_no_descriptor_is_left(wait_until):
    before = set(threading.enumerate())
    with Harness() as harness:
        clients = [harness.client() for _ in range(20)]
        for client in clients[:10]:
            client.ask("QUIT")
        for client in clients[10:15]:
            client.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert len(harness.connections) == 0
    for client in clients:
        client.close()


def test_a_listener_says_where_it_is_and_whether_it_accepts():
    listener = bound()
    assert listener.place == f"smtp 127.0.0.1:{listener.port}"
    assert not listener.is_accepting
    listener.start()
    assert listener.is_accepting
    listener.close()
    assert not listener.is_accepting


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_an_address_of_ipv6_is_in_brackets(listen):
    listener = listen(address="::1")
    assert listener.place == f"smtp [::1]:{listener.port}"


def test_a_listener_for_implicit_tls_has_a_name_of_its_own():
    listener = bound(tls_mode="implicit")
    assert listener.place == f"smtps 127.0.0.1:{listener.port}"
    listener.close()
