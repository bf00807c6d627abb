import contextlib
import select
import socket
import ssl
import struct
import threading

import pytest
from server_harness import connected, server_context
from waiting import wait_until

from m365proxy.server.connection import Closed, Connection, Injection, LineTooLong, TimedOut
from m365proxy.server.waits import Waits

# -- Connection ------------------------------------------------------------


@pytest.fixture
def pair():
    """(Connection, the client's socket)."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    connection = Connection(ours, "192.0.2.1", write_seconds=0.05)
    yield connection, theirs
    connection.close()
    theirs.close()


def test_lines(pair):
    connection, client = pair
    client.sendall(b"one\r\ntwo\n\r\nfour\r")
    assert [connection.read_line(10, 1) for _ in range(3)] == [b"one", b"two", b""]
    client.sendall(b"\r\n")
    assert connection.read_line(10, 1) == b"four\r"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_limit_counts_the_line_end(pair, end):
    connection, client = pair
    client.sendall(b"x" * (20 - len(end)) + end + b"x" * (21 - len(end)) + end + b"after\r\n")
    assert connection.read_line(20, 1) == b"x" * (20 - len(end))
    with pytest.raises(LineTooLong):
        connection.read_line(20, 1)
    assert connection.read_line(20, 1) == b"after"


def test_a_long_line_is_dropped_to_its_end_in_bounded_memory(pair):
    connection, client = pair
    sender = threading.Thread(target=client.sendall, args=(b"x" * 3_000_000 + b"\nafter\n",))
    sender.start()
    with pytest.raises(LineTooLong):
        connection.read_line(100, 5)
    assert len(connection._in) < 200_000
    assert connection.read_line(100, 5) == b"after"
    sender.join()


def test_a_line_that_never_ends_runs_into_the_deadline(pair):
    connection, client = pair
    client.sendall(b"x" * 1000)
    with pytest.raises(TimedOut):
        connection.read_line(100, 0.05)


def test_the_deadline_is_for_the_whole_line(pair):
    """A client that sends an octet now and then gains no time by it."""
    connection, client = pair
    stop = threading.Event()

    def drip():
        while not stop.wait(0.001):
            with contextlib.suppress(OSError):
                client.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(TimedOut):
            connection.read_line(1_000_000, 0.1)
    finally:
        stop.set()
        thread.join()


def test_the_end_of_the_stream(pair):
    connection, client = pair
    client.sendall(b"half a line")
    client.close()
    with pytest.raises(Closed):
        connection.read_line(100, 1)


def test_replies_are_collected_until_the_client_waits(pair):
    connection, client = pair
    client.sendall(b"one\r\ntwo\r\n")
    client.setblocking(False)
    for _ in range(2):
        connection.read_line(100, 1)
        connection.write(b"reply\r\n")
        with pytest.raises(BlockingIOError):
            client.recv(1)
    with pytest.raises(TimedOut):
        connection.read_line(100, 0.01)
    assert client.recv(100) == b"reply\r\nreply\r\n"


def test_a_client_that_takes_nothing_is_given_up(pair):
    connection, _client = pair
    with pytest.raises(TimedOut):
        for _ in range(1000):
            connection.write(b"x" * 32768)


def test_writing_to_nobody(pair):
    connection, client = pair
    client.close()
    with pytest.raises(Closed):
        for _ in range(1000):  # where the pair is of TCP, the first is sent before the other side says that it has gone
            connection.write(b"x")
            connection.flush()
    connection.close()


def test_read_some_and_unread(pair):
    connection, client = pair
    client.sendall(b"line\r\nsome")
    connection.read_line(100, 1)
    data = connection.read_some(1)
    assert data == b"some"
    connection.unread(b"rest\r\n")
    client.sendall(b"more\r\n")
    assert connection.line_waiting()
    assert [connection.read_line(100, 1) for _ in range(2)] == [b"rest", b"more"]
    assert not connection.line_waiting()


def test_interrupt_wakes_a_reader(pair):
    connection, _client = pair
    result = []

    def read():
        try:
            connection.read_line(100, 30)
        except Closed:
            result.append("closed")

    thread = threading.Thread(target=read)
    thread.start()
    connection.interrupt()
    thread.join(5)
    assert result == ["closed"]


@pytest.fixture(params=["as here", "as on Windows"])
def polling(request, monkeypatch):
    """With select.poll, where it is, and without it."""
    if request.param == "as on Windows":
        monkeypatch.delattr(select, "poll", raising=False)


def test_a_client_that_hangs_up_is_noticed(pair, polling):
    connection, client = pair
    assert not connection.hung_up()
    client.sendall(b"two\r\nlines\r\n")
    assert not connection.hung_up()
    client.close()
    wait_until(connection.hung_up, what="the end")
    assert [connection.read_line(100, 1) for _ in range(2)] == [b"two", b"lines"]
    with pytest.raises(Closed):
        connection.read_line(100, 1)


def test_a_client_that_is_there_can_be_asked_for_and_read_from(pair, polling):
    connection, client = pair
    client.sendall(b"before\r\n")
    assert not connection.hung_up()
    assert connection.read_line(100, 1) == b"before"
    thread = threading.Timer(0.01, client.sendall, (b"after\r\n",))
    thread.start()
    assert connection.read_line(100, 5) == b"after"
    thread.join()


def test_looking_for_the_end_keeps_a_bounded_amount(pair, polling):
    connection, client = pair
    client.setblocking(False)
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            client.send(b"x" * 65536)
        assert not connection.hung_up()
    assert len(connection._in) < 200_000


@pytest.fixture
def contexts(certificate):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return server, ssl.create_default_context(cafile=certificate[0])


def test_tls(pair, contexts):
    connection, client = pair
    server, trusting = contexts
    assert connection.tls_version is None
    thread = threading.Thread(target=connection.start_tls, args=(server, 5))
    thread.start()
    secure = trusting.wrap_socket(client, server_hostname="localhost")
    thread.join()
    with secure:
        assert connection.tls_version == secure.version()
        secure.sendall(b"hello\r\n")
        assert connection.read_line(100, 5) == b"hello"
        connection.write(b"reply\r\n")
        connection.flush()
        assert secure.recv(100) == b"reply\r\n"


def test_a_tls_client_that_hangs_up_is_noticed(pair, contexts, polling):
    connection, client = pair
    server, trusting = contexts
    thread = threading.Thread(target=connection.start_tls, args=(server, 5))
    thread.start()
    secure = trusting.wrap_socket(client, server_hostname="localhost")
    thread.join()
    with secure:
        assert not connection.hung_up()
        secure.sendall(b"QUIT\r\n")
        secure.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):  # the end of TLS is said, and not answered
            secure.unwrap()
    wait_until(connection.hung_up, what="the end")
    assert connection.read_line(100, 1) == b"QUIT"


def test_octets_ahead_of_the_handshake(pair, contexts):
    connection, client = pair
    client.sendall(b"STARTTLS\r\nRSET\r\n")
    connection.read_line(100, 1)
    with pytest.raises(Injection):
        connection.start_tls(contexts[0], 1)


def test_no_handshake(pair, contexts):
    connection, client = pair
    client.sendall(b"EHLO x\r\n")
    with pytest.raises(Closed):
        connection.start_tls(contexts[0], 5)


def test_a_handshake_that_does_not_come(pair, contexts):
    connection, _client = pair
    with pytest.raises(TimedOut):
        connection.start_tls(contexts[0], 0.05)


def test_a_reader_rests_when_a_client_sends_everything_ahead():
    ours, theirs = socket.socketpair()
    rests = []
    connection = Connection(ours, "192.0.2.1", sleep=rests.append)
    with theirs:
        theirs.sendall(b"RSET\r\n" * 1000)
        for _ in range(1000):
            assert connection.read_line(512, 5) == b"RSET"
        connection.close()
    assert 14 <= len(rests) <= 15


@pytest.mark.parametrize("end", [Connection.interrupt, Connection.cut])
def test_a_reader_whom_nothing_wakes_looks_by_itself(pair, monkeypatch, end):
    """As on Windows, where a wait may go on when the socket is shut down."""
    connection, _client = pair
    monkeypatch.setattr(socket.socket, "shutdown", lambda *which: None)
    connection._waits = Waits(connection._socket, look=0.01)
    end(connection)
    with pytest.raises(Closed):
        connection.read_line(100, 30)


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
