import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
import struct
import threading
from types import SimpleNamespace

import pytest
from smtp_house import House

from m365proxy.errors import CannotCreate, InUse
from m365proxy.server import listener as server
from m365proxy.server.connection import Closed, Connection, WireError
from m365proxy.server.listener import Connections, Context, Listener, TurnedAway, bind_error

BUSY = b"421 4.3.2 Too many connections, try again in a minute\r\n"
TURNED_AWAY = TurnedAway(BUSY, b"554 5.7.1 Not allowed\r\n")
POP3_TURNED_AWAY = TurnedAway(b"-ERR [SYS/TEMP] Too many connections\r\n", b"-ERR [SYS/PERM] Not allowed\r\n")


class Echo:
    """Says the peer, then sends every line back until "end"; "fault" breaks it."""

    def __init__(self, connection, context):
        self.connection = connection
        self.context = context

    def run(self):
        self.connection.write(self.context.peer.encode() + b"\r\n")
        while True:
            line = self.connection.read_line(100, 30)
            if line == b"end":
                return
            if line == b"fault":
                raise KeyError("what")
            self.connection.write(line + b"\r\n")


@pytest.fixture
def listen():
    """listen(factory=Echo, connections=None, **more) -> a started Listener, stopped after the test."""
    listeners = []

    def make(factory=Echo, connections=None, address="127.0.0.1", port=0, protocol="smtp", **more):
        if connections is None:
            connections = Connections()
        turned_away = TURNED_AWAY if protocol == "smtp" else POP3_TURNED_AWAY
        listener = Listener(protocol, address, port, factory, connections, turned_away, **more)
        listeners.append(listener)
        listener.start()
        return listener

    yield make
    for listener in listeners:
        listener.close()
        listener._connections.stop(5)


def connect(listener):
    return socket.create_connection(listener.server_address[:2], timeout=10)


def line(sock):
    data = b""
    while not data.endswith(b"\n"):
        octet = sock.recv(1)
        if not octet:
            break
        data += octet
    return data


def context_of(peer, protocol="smtp"):
    return Context(protocol, peer, None, "none", False, 1.0, lambda: False)


def session_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("smtp ", "pop3 ", "accept "))]


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


class connected:
    """Two ends of a TCP connection that no listener has seen."""

    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0)) as door:
            self.theirs = socket.create_connection(door.getsockname(), timeout=10)
            return door.accept()[0], self.theirs

    def __exit__(self, *_):
        self.theirs.close()


def test_a_busy_port(listen):
    port = listen().port
    with pytest.raises(InUse, match=rf"127\.0\.0\.1:{port} is in use by another program\. Stop that one, or"):
        Listener("smtp", "127.0.0.1", port, Echo, Connections(), TURNED_AWAY)


def test_an_address_that_is_not_ours():
    with pytest.raises(CannotCreate, match="this machine has no such address. Correct bind"):
        Listener("smtp", "192.0.2.1", 0, Echo, Connections(), TURNED_AWAY)


def test_the_port_can_be_had_again_at_once(listen):
    listener = listen()
    with connect(listener) as sock:
        line(sock)
        sock.sendall(b"end\r\n")
        assert line(sock) == b""  # our side closed first: TIME_WAIT is here
    listener.close()
    assert listen(port=listener.port).port == listener.port


@pytest.mark.parametrize(
    "number, address, port, kind, words",
    [
        (errno.EADDRINUSE, "::1", 2525, InUse, "[::1]:2525 is in use"),
        (errno.EACCES, "0.0.0.0", 25, CannotCreate, "AmbientCapabilities=CAP_NET_BIND_SERVICE"),
        (errno.EACCES, "0.0.0.0", 25, CannotCreate, "ip_unprivileged_port_start=25"),
        (errno.EPERM, "0.0.0.0", 2525, CannotCreate, "Choose another port"),
        (errno.EADDRNOTAVAIL, "192.0.2.1", 25, CannotCreate, "no such address"),
        (errno.EAFNOSUPPORT, "::1", 25, CannotCreate, "no IPv6"),
        (errno.EINVAL, "192.0.2.1", 25, CannotCreate, "Invalid argument"),
    ],
)
def test_bind_errors(number, address, port, kind, words):
    import os

    error = bind_error(OSError(number, os.strerror(number)), address, port)
    assert type(error) is kind
    assert words in str(error)
    assert str(error).endswith(".")


def test_what_is_no_address():
    with pytest.raises(CannotCreate, match=r"no such name is no address of this machine\. Correct bind\.$"):
        Listener("smtp", "no such name", 25, Echo, Connections(), TURNED_AWAY)


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
    Listener("smtp", "127.0.0.1", 0, Echo, Connections(), TURNED_AWAY).close()


# -- limits ----------------------------------------------------------------


def test_over_the_total_a_busy_line(listen, wait_until):
    connections = Connections(total=2)
    smtp, pop3 = listen(connections=connections), listen(connections=connections, protocol="pop3")
    with connect(smtp) as one, connect(pop3) as two:
        line(one), line(two)
        with connect(smtp) as third:
            assert line(third) == BUSY
            assert line(third) == b""
        with connect(pop3) as third:
            assert line(third).startswith(b"-ERR [SYS/TEMP] ")
            assert line(third) == b""
        one.sendall(b"end\r\n")
        wait_until(lambda: len(connections) == 1)
        with connect(smtp) as third:
            assert line(third) == b"127.0.0.1\r\n"


def test_over_the_total_on_a_tls_port_no_plain_text(listen, certificate):
    listener = listen(connections=Connections(total=0), tls=server_context(certificate), tls_mode="implicit")
    with connect(listener) as sock:
        assert line(sock) == b""


def test_per_client(listen):
    connections = Connections(per_client=2, proxies=(ipaddress.ip_network("198.51.100.0/24"),))
    contexts = [context_of("192.0.2.1") for _ in range(3)]
    refusals = [connections.enter(context, None) for context in contexts]
    assert refusals[:2] == ["", ""]
    assert "limits.connections_per_client" in refusals[2]
    assert not connections.enter(context_of("192.0.2.2"), None)
    connections.leave(contexts[0])
    connections.leave(contexts[0])
    assert not connections.enter(context_of("192.0.2.1"), None)
    assert connections.enter(context_of("192.0.2.1"), None)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1", "198.51.100.9"])
def test_loopback_and_proxies_stand_for_many(peer):
    connections = Connections(per_client=1, proxies=(ipaddress.ip_network("198.51.100.0/24"),))
    assert [connections.enter(context_of(peer), None) for _ in range(50)] == [""] * 50


def test_an_ipv6_customer_is_one_client():
    """A /64 has more addresses than there are connections."""
    connections = Connections(per_client=2)
    contexts = [context_of(f"2001:db8::{number:x}") for number in range(3)]
    assert [bool(connections.enter(context, None)) for context in contexts] == [False, False, True]
    assert not connections.enter(context_of("2001:db8:0:1::1"), None)
    connections.leave(contexts[0])
    assert not connections.enter(contexts[2], None)
    for context in list(connections._running):
        connections.leave(context)
    assert not connections._by_client


def test_nothing_is_kept_of_who_has_gone():
    connections = Connections()
    for number in range(10):
        context = context_of(f"192.0.2.{number}")
        connections.enter(context, None)
        connections.leave(context)
    assert len(connections) == 0
    assert not connections._by_client


def test_refusals_are_logged_now_and_then(caplog):
    now = [0.0]
    connections = Connections(clock=lambda: now[0])
    for moment in (0, 1, 2, 9.9, 10, 11, 30):
        now[0] = moment
        connections.log_refusal(f"refused at {moment}")
    assert [record.getMessage() for record in caplog.records] == [
        "refused at 0",
        "refused at 10 (3 more before this one)",
        "refused at 30 (1 more before this one)",
    ]


def test_a_refusal_names_the_client_and_the_limit(listen, caplog):
    listener = listen(connections=Connections(total=0))
    with connect(listener) as sock:
        line(sock)
    assert [record.getMessage() for record in caplog.records] == [
        "connection refused from 127.0.0.1: 0 connections are open (limits.connections)"
    ]


# -- trouble ---------------------------------------------------------------


def test_a_fault_in_a_session_is_one_line_and_ends_it_alone(listen, caplog):
    listener = listen()
    with connect(listener) as one, connect(listener) as two:
        line(one), line(two)
        one.sendall(b"fault\r\n")
        assert line(one) == b""
        two.sendall(b"fine\r\n")
        assert line(two) == b"fine\r\n"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "smtp connection from 127.0.0.1 broke off by a fault here"
    assert isinstance(record.exc_info[1], KeyError)


def test_a_client_that_goes_is_no_line(listen, caplog, wait_until):
    caplog.set_level(logging.INFO)
    listener = listen()
    with connect(listener) as sock:
        line(sock)
    wait_until(lambda: not len(listener._connections))
    assert not caplog.records


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
    listener = Listener("smtp", "127.0.0.1", 0, Echo, Connections(), TURNED_AWAY)
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
    monkeypatch.setattr(server, "logger", SimpleNamespace(debug=lambda *_: None))
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


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def test_implicit_tls_beside_a_silent_client(listen, certificate):
    listener = listen(tls=server_context(certificate), tls_mode="implicit")
    trusting = ssl.create_default_context(cafile=certificate[0])
    with connect(listener), connect(listener) as sock, trusting.wrap_socket(sock, server_hostname="localhost") as tls:
        assert line(tls) == b"127.0.0.1\r\n"


def test_a_tls_port_whose_certificate_a_reload_took_away(listen, caplog):
    listener = listen(tls=None, tls_mode="implicit")
    with connect(listener) as sock:
        assert line(sock) == b""
    (record,) = caplog.records
    assert record.getMessage() == (
        f"connection refused from 127.0.0.1: port {listener.port} is for TLS, and no tls_cert is configured"
    )


def test_a_changed_certificate_counts_from_the_next_connection(listen, certificate):
    listener = listen(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls_mode="implicit")
    trusting = ssl.create_default_context(cafile=certificate[0])
    with connect(listener) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        trusting.wrap_socket(sock, server_hostname="localhost")
    listener.tls = server_context(certificate)
    with connect(listener) as sock, trusting.wrap_socket(sock, server_hostname="localhost") as tls:
        assert line(tls) == b"127.0.0.1\r\n"


@pytest.mark.parametrize(
    "sent, reason",
    [
        (None, "no TLS handshake in time"),
        (b"EHLO device\r\n\r\n", ""),
        (b"", "connection closed"),
    ],
)
def test_a_failed_handshake_is_a_line_with_the_address(listen, certificate, caplog, wait_until, sent, reason):
    listener = listen(
        tls=server_context(certificate), tls_mode="implicit", handshake_seconds=0.05 if sent is None else 10
    )
    with connect(listener) as sock:
        if sent:
            sock.sendall(sent)
        if sent is not None:
            with contextlib.suppress(OSError):  # it may have hung up already
                sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage().startswith("TLS handshake failed from 127.0.0.1: ")
    assert record.getMessage().rpartition(": ")[2]
    if reason == "no TLS handshake in time":
        assert record.getMessage().endswith(reason)


# -- the end ---------------------------------------------------------------


def test_stop_wakes_idle_sessions(listen):
    connections = Connections()
    listener = listen(connections=connections)
    with connect(listener) as one, connect(listener) as two:
        line(one), line(two)
        listener.close()
        assert connections.stop(30) == 0
        assert line(one) == line(two) == b""
    assert len(connections) == 0


def test_stop_ends_a_handshake(listen, certificate):
    connections = Connections()
    listener = listen(connections=connections, tls=server_context(certificate), tls_mode="implicit")
    with connect(listener):
        while not len(connections):
            pass
        listener.close()
        assert connections.stop(30) == 0


class Deaf:
    """Goes on whatever happens, until its connection is cut."""

    def __init__(self, connection, context):
        self.connection = connection
        context.receiving = True

    def run(self):
        self.connection.write(b"hello\r\n")
        try:
            self.connection.read_some(60)
        except WireError as error:
            assert type(error) is Closed


def test_stop_cuts_what_does_not_end(listen, wait_until):
    connections = Connections()
    listener = listen(Deaf, connections)
    with connect(listener) as one, connect(listener) as two:
        line(one), line(two)
        listener.close()
        assert connections.stop(0.1) == 2
        assert line(one) == line(two) == b""
        wait_until(lambda: not session_threads())


def test_who_comes_during_a_stop_is_turned_away(listen):
    listener = listen()
    listener._connections.stop(0)
    with connect(listener) as sock:
        assert line(sock) == BUSY


def test_cut_ends_a_handshake(certificate):
    with connected() as (ours, _theirs):
        client = Connection(ours, "192.0.2.1")
        result = []

        def shake():
            try:
                client.start_tls(server_context(certificate), 60)
            except Closed:
                result.append("closed")

        thread = threading.Thread(target=shake)
        thread.start()
        while not isinstance(client._socket, ssl.SSLSocket):
            pass
        client.cut()
        thread.join(5)
        client.close()
        assert result == ["closed"]


def test_a_tls_client_that_vanishes_while_it_is_written_to(certificate):
    with connected() as (ours, theirs):
        client = Connection(ours, "192.0.2.1")
        thread = threading.Thread(target=client.start_tls, args=(server_context(certificate), 10))
        thread.start()
        trusting = ssl.create_default_context(cafile=certificate[0])
        with trusting.wrap_socket(theirs, server_hostname="localhost") as secure:
            thread.join()
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with pytest.raises(Closed):
            for _ in range(100):
                client.write(b"x" * 40000)
        client.close()


def test_no_thread_and_no_descriptor_is_left(wait_until):
    before = len(threading.enumerate())
    with House() as house:
        clients = [house.client() for _ in range(20)]
        for client in clients[:10]:
            client.ask("QUIT")
        for client in clients[10:15]:
            client.close()
    wait_until(lambda: len(threading.enumerate()) == before)
    assert len(house.connections) == 0
    for client in clients:
        client.close()


# Who connects again and again.


@pytest.mark.parametrize(
    "peer, of_use, pause", [("192.0.2.7", False, 2.0), ("192.0.2.7", True, 0.0), ("127.0.0.1", False, 0.0)]
)
def test_who_brings_nothing_again_and_again_waits_for_the_greeting(peer, of_use, pause, caplog):
    connections = Connections(clock=lambda: 1000.0)
    for _ in range(200):
        context = context_of(peer)
        assert connections.enter(context, None) == ""
        if of_use:
            context.note_use()
        connections.leave(context)
    assert connections.greeting_pause(peer) == pause
    assert connections.greeting_pause("192.0.2.8") == 0.0
    assert [record.getMessage() for record in caplog.records] == (
        ["connections from 192.0.2.7 wait for their greeting: too many brought no login and no mail"] if pause else []
    )


def test_a_listener_waits_so_long_before_the_greeting(listen, monkeypatch):
    slept = []
    connections = Connections()
    connections.greeting_pause = lambda peer: 1.5
    monkeypatch.setattr(server.time, "sleep", slept.append)
    with connect(listen(connections=connections)) as client:
        assert line(client) == b"127.0.0.1\r\n"
    assert slept == [1.5]
