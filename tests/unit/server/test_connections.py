import ipaddress

import pytest
from cases import each
from server_harness import BUSY, PROTOCOLS, client_of, connect, line, server_context, session_threads

from m365proxy.server.client import ListenerSettings
from m365proxy.server.connection import Closed, WireError
from m365proxy.server.connections import Connections
from m365proxy.server.sessions import Sessions

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
    clients = [client_of("192.0.2.1") for _ in range(3)]
    refusals = [connections.enter(client) for client in clients]
    assert refusals[:2] == ["", ""]
    assert "limits.connections_per_client" in refusals[2]
    assert not connections.enter(client_of("192.0.2.2"))
    connections.leave(clients[0])
    connections.leave(clients[0])
    assert not connections.enter(client_of("192.0.2.1"))
    assert connections.enter(client_of("192.0.2.1"))


@each("peer", ["127.0.0.1", "127.8.8.8", "::1", "198.51.100.9"])
def test_loopback_and_proxies_stand_for_many(peer):
    connections = Connections(per_client=1, proxies=(ipaddress.ip_network("198.51.100.0/24"),))
    assert [connections.enter(client_of(peer)) for _ in range(50)] == [""] * 50


def test_an_ipv6_customer_is_one_client():
    """A /64 has more addresses than there are connections."""
    connections = Connections(per_client=2)
    clients = [client_of(f"2001:db8::{number:x}") for number in range(3)]
    assert [bool(connections.enter(client)) for client in clients] == [False, False, True]
    assert not connections.enter(client_of("2001:db8:0:1::1"))
    connections.leave(clients[0])
    assert not connections.enter(clients[2])
    for client in list(connections._running):
        connections.leave(client)
    assert not connections._by_client


def test_nothing_is_kept_of_who_has_gone():
    connections = Connections()
    for number in range(10):
        client = client_of(f"192.0.2.{number}")
        connections.enter(client)
        connections.leave(client)
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


def test_one_client_that_is_refused_again_and_again_hides_no_other(caplog):
    now = [0.0]
    connections = Connections(clock=lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        for client in ("192.0.2.1", "2001:db8::1", "2001:db8::2"):
            connections.log_refusal(client, client)
    assert [record.getMessage() for record in caplog.records] == [
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.1 (28 more before this one)",
        "2001:db8::1",
    ]


def test_refusals_of_many_clients_do_not_fill_the_log(caplog):
    connections = Connections(clock=lambda: 1000.0)
    for number in range(100):
        connections.log_refusal("refused", f"192.0.2.{number}")
    assert len(caplog.records) == 8


def test_a_refusal_names_the_client_and_the_limit(listen, caplog):
    listener = listen(connections=Connections(total=0))
    with connect(listener) as sock:
        line(sock)
    assert [record.getMessage() for record in caplog.records] == [
        "connection refused from 127.0.0.1: 0 connections are open (limits.connections)"
    ]


def test_who_is_let_in_and_who_is_turned_away_is_counted(listen):
    let_in, refused = [], []
    listener = listen(
        connections=Connections(
            total=1, note_session=lambda service, peer: let_in.append(service), note_refused=refused.append
        )
    )
    with connect(listener) as one:
        assert line(one) != BUSY
        for _ in range(2):
            with connect(listener) as other:
                assert line(other) == BUSY
    assert (let_in, refused) == (["smtp"], ["smtp"] * 2)


# -- clients that connect again and again ----------------------------------


@pytest.mark.parametrize(
    "peer, progress, pause", [("192.0.2.7", False, 2.0), ("192.0.2.7", True, 0.0), ("127.0.0.1", False, 0.0)]
)
def test_who_brings_nothing_again_and_again_waits_for_the_greeting(peer, progress, pause, caplog):
    connections = Connections(clock=lambda: 1000.0)
    for _ in range(200):
        client = client_of(peer)
        assert connections.enter(client) == ""
        if progress:
            client.note_progress()
        connections.leave(client)
    assert connections.greeting_pause(peer) == pause
    assert connections.greeting_pause("192.0.2.8") == 0.0
    assert [record.getMessage() for record in caplog.records] == (
        ["connections from 192.0.2.7 have to wait for the greeting: too many ended without a login or a message"]
        if pause
        else []
    )


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


def test_stop_ends_a_handshake(listen, certificate, wait_until):
    connections = Connections()
    listener = listen(connections=connections, tls=server_context(certificate), tls_mode="implicit")
    with connect(listener):
        wait_until(lambda: len(connections))
        listener.close()
        assert connections.stop(30) == 0


class Deaf:
    """Goes on whatever happens, until its connection is cut."""

    def __init__(self, client):
        self.connection = client.connection
        client.receiving = True

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


# -- nobody is let in for a while ----------------------------------------------


def test_shut_turns_new_clients_away_and_lets_them_in_again():
    connections = Connections()
    connections.shut("the disk does not answer")
    assert connections.enter(client_of("192.0.2.1")) == "the disk does not answer"
    assert connections.enter_elsewhere("192.0.2.1") == "the disk does not answer"
    assert connections.is_stopping()
    connections.shut("")
    assert connections.enter(client_of("192.0.2.1")) == "" and not connections.is_stopping()


def test_shut_wakes_the_waiting_sessions_of_a_protocol(listen):
    connections = Connections()
    smtp, pop3 = listen(connections=connections), listen(connections=connections, protocol="pop3")
    with connect(smtp) as one, connect(pop3) as two:
        line(one), line(two)
        connections.shut("draining", "smtp")
        assert line(one) == b""
        two.sendall(b"end\r\n")
        assert line(two) == b""


@pytest.mark.parametrize("why, steps", [("", 1), ("the disk does not answer", 0)])
def test_who_is_turned_away_while_shut_is_in_the_log_only(caplog, why, steps):
    connections = Connections()
    connections.shut(why)
    Sessions(ListenerSettings(PROTOCOLS["smtp"]), lambda client: None, connections).log_refused("192.0.2.1", "no")
    assert "connection refused from 192.0.2.1: no" in caplog.text
    assert sum(hasattr(record, "event") for record in caplog.records) == steps
