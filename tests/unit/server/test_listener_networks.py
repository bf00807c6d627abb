"""Who may connect: allowed_networks, and the PROXY protocol before everything else."""

import base64
import contextlib
import ipaddress
import logging
import socket
import struct
import threading

import pytest
from server_harness import old_tls
from smtp_harness import LOOPBACK, PASSWORD, Harness, Talk, Users, user

from m365proxy.logins.guard import Guard
from m365proxy.pop3 import session as pop3
from m365proxy.server import listener as server
from m365proxy.server import proxyprotocol, sessions
from m365proxy.server.client import ListenerSettings
from m365proxy.server.clienthello import ClientHellos
from m365proxy.server.connections import Connections
from m365proxy.server.tls import server_context

ALL = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
OFFICE = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
REFUSED = "554 5.7.1 This address may not connect here (allowed_networks)"
SECOND = proxyprotocol.SIGNATURE + b"\x21\x21" + struct.pack("!H", 36)
SECOND += ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("2001:db8::1").packed + b"\0\x05\0\x19"
LOCAL = proxyprotocol.SIGNATURE + b"\x20\0\0\0"


def first(client):
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {'::1' if ':' in client else '127.0.0.1'} 1 25\r\n".encode()


def behind(allowed=None, **more):
    """Connections whose every client on loopback is a proxy."""
    return Connections(proxies=LOOPBACK, allowed=allowed, **more)


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def talk_through(harness, header):
    talk = harness.client(greeted=False)
    talk.send(header)
    return talk


def test_a_client_that_may_not_connect_is_counted_as_turned_away():
    let_in, refused = [], []
    noted = {"note_session": lambda service, peer: let_in.append((service, peer)), "note_refused": refused.append}
    with Harness(connections=Connections(allowed=OFFICE, **noted)) as harness, harness.client(greeted=False) as talk:
        assert talk.reply() == REFUSED
    for header, reply in ((first("198.51.100.1"), REFUSED), (b"EHLO x\r\n" * 20, "")):
        with visit(header, connections=behind(OFFICE, **noted)) as (_, talk):
            assert talk.reply() == reply
    with visit(first("192.0.2.7"), connections=behind(OFFICE, **noted)) as (_, talk):
        assert talk.reply().startswith("220 ")
    assert (let_in, refused) == ([("smtp", "192.0.2.7")], ["smtp"] * 3)


@contextlib.contextmanager
def visit(header, certificate=None, **more):
    """A harness, and a client that has sent the header."""
    with Harness(certificate, **more) as harness, talk_through(harness, header) as talk:
        yield harness, talk


# -- allowed_networks ------------------------------------------------------


def test_who_may_not_connect_is_told_once_and_logged(logged, caplog):
    with Harness(connections=Connections(allowed=OFFICE)) as harness:
        for _ in range(3):
            with harness.client(greeted=False) as talk:
                assert talk.reply() == REFUSED
                assert talk.closed()
        assert len(harness.connections) == 0
    assert logged() == ["connection refused from 127.0.0.1: it is not in allowed_networks"]
    assert [record.event for record in caplog.records] == [
        {"event": "refused", "service": "smtp", "client": "127.0.0.1", "reason": "it is not in allowed_networks"}
    ]


def test_who_may_not_connect_by_pop3():
    connections = Connections(allowed=OFFICE)
    listener = server.Listener("127.0.0.1", 0, ListenerSettings(pop3.PROTOCOL), None, connections)
    listener.start()
    try:
        with Talk(listener.port) as talk:
            assert talk.line() == b"-ERR [SYS/PERM] This address may not connect here (allowed_networks)"
            assert talk.closed()
    finally:
        listener.close()


def test_no_plain_text_on_a_tls_port(certificate):
    with visit(b"", certificate, tls_mode="implicit", connections=Connections(allowed=OFFICE)) as (_, talk):
        assert talk.closed()


def test_networks_are_exchanged_while_running():
    with Harness(connections=Connections(allowed=LOOPBACK)) as harness:
        with harness.client() as talk:
            harness.connections.set_networks((), OFFICE)
            assert talk.ask("NOOP").startswith("250 ")  # who is in, stays
        with harness.client(greeted=False) as talk:
            assert talk.reply() == REFUSED
        harness.connections.set_networks((), None)
        with harness.client():
            pass


# -- PROXY headers ---------------------------------------------------------


@pytest.mark.parametrize(
    "header, peer",
    [
        (first("192.0.2.7"), "192.0.2.7"),
        (first("2001:DB8::7"), "2001:db8::7"),
        (first("::ffff:192.0.2.7"), "192.0.2.7"),
        (SECOND, "2001:db8::7"),
        (LOCAL, "proxy:127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "proxy:127.0.0.1"),
    ],
)
def test_the_client_behind_a_proxy(header, peer):
    asked = []
    with visit(header + b"QUIT\r\n", connections=behind(), relay=asked.append) as (_, talk):  # all at once
        assert talk.reply().startswith("220 ")
        assert talk.reply().startswith("221 ")
    assert asked == [peer]


def test_a_header_in_pieces():
    with Harness(connections=behind()) as harness, harness.client(greeted=False) as talk:
        for number in range(len(SECOND)):
            talk.send(SECOND[number : number + 1])
        assert talk.reply().startswith("220 ")


@pytest.mark.parametrize("garbage", [b"EHLO device.contoso.com\r\n", b"\x16\x03\x01" + bytes(20), b"PROXY TCP4 x\r\n"])
def test_a_proxy_without_header_gets_no_word(garbage, logged):
    with Harness(connections=behind()) as harness, talk_through(harness, garbage) as talk:
        assert talk.closed()
    (line,) = logged()
    assert line.startswith("connection refused from 127.0.0.1: its PROXY header is missing or wrong (")


def test_a_silent_proxy_has_a_deadline(monkeypatch, logged, wait_until):
    monkeypatch.setattr(sessions, "_HEADER_SECONDS", 0.05)
    with Harness(connections=behind()) as harness:
        with talk_through(harness, b"PROXY") as talk:
            assert talk.closed()
        wait_until(lambda: len(harness.connections) == 0)
    (line,) = logged()
    assert "(none arrived in time)" in line


def test_a_proxy_that_goes_again_is_no_line(logged, wait_until):
    with Harness(connections=behind()) as harness:
        harness.client(greeted=False).close()
        wait_until(lambda: len(harness.connections) == 0)
    assert logged() == []


@pytest.mark.parametrize("header", [first("192.0.2.7"), SECOND, LOCAL])
def test_from_others_a_header_is_garbage(header):
    asked = []
    with Harness(relay=asked.append) as harness, harness.client() as talk:
        talk.send(header + b"QUIT\r\n")
        answers = []
        while not answers or answers[-1]:
            answers.append(talk.reply())
        assert answers[0].startswith("500 ")
    assert asked == ["127.0.0.1"]


# -- before TLS ------------------------------------------------------------


def test_before_implicit_tls(certificate):
    asked = []
    with visit(SECOND, certificate, tls_mode="implicit", connections=behind(), relay=asked.append) as (_, talk):
        talk.start_tls()
        assert talk.reply().startswith("220 ")
    assert asked == ["2001:db8::7"]


def test_before_starttls(certificate):
    with visit(first("192.0.2.7"), certificate, connections=behind(), plaintext_networks=LOOPBACK) as (_, talk):
        talk.reply()
        assert "AUTH" not in talk.ask("EHLO x")
        assert talk.ask("STARTTLS").startswith("220 ")
        talk.start_tls()
        assert "AUTH LOGIN PLAIN" in talk.ask("EHLO x")


def test_before_tls_begun_at_once(certificate, tmp_path):
    """tls_first goes by the client's address, and a header and a ClientHello in one packet are taken apart."""
    hellos = ClientHellos(str(tmp_path / "hellos"), OFFICE)
    with visit(first("192.0.2.7"), certificate, connections=behind(), client_hellos=hellos) as (_, talk):
        talk.start_tls()
        assert talk.reply().startswith("220 ")


def test_a_refused_handshake_names_the_client(certificate, logged, wait_until):
    with Harness(certificate, tls_mode="implicit", connections=behind()) as harness:
        with talk_through(harness, SECOND + b"EHLO x\r\n\r\n") as talk:
            assert talk.closed()
        wait_until(lambda: len(harness.connections) == 0)
    assert [line.partition(": ")[0] for line in logged()] == ["TLS handshake failed from 2001:db8::7"]


# -- all rules go by the inner address -------------------------------------


def test_allowed_networks(logged, caplog):
    with Harness(connections=behind(OFFICE)) as harness:
        with talk_through(harness, first("192.0.2.7")) as talk:
            assert talk.reply().startswith("220 ")
        with talk_through(harness, first("198.51.100.9")) as talk:
            assert talk.reply() == REFUSED
            assert talk.closed()
    assert logged()[0] == ("connection refused from 198.51.100.9 through 127.0.0.1: it is not in allowed_networks")
    assert caplog.records[0].event["client"] == "198.51.100.9"


@pytest.mark.parametrize("allowed, welcome", [(OFFICE, False), (LOOPBACK, True), (ALL, True), (None, True)])
def test_a_proxy_for_itself_must_be_allowed_too(allowed, welcome):
    with Harness(connections=behind(allowed)) as harness, talk_through(harness, LOCAL) as talk:
        assert talk.reply().startswith("220 " if welcome else "554 ")


def test_plaintext_and_relay_networks():
    def relay(peer):
        return user("alerts@contoso.com", login="") if peer == "192.0.2.7" else None

    with Harness(connections=behind(), relay=relay, plaintext_networks=OFFICE) as harness:
        with talk_through(harness, first("192.0.2.7")) as talk:
            talk.reply()
            assert "AUTH" in talk.ask("EHLO x")
            assert talk.ask("MAIL FROM:<>").startswith("250 ")
        for header in (first("198.51.100.9"), LOCAL, b"PROXY UNKNOWN\r\n"):
            with talk_through(harness, header) as talk:
                talk.reply()
                assert "AUTH" not in talk.ask("EHLO x")
                assert talk.ask("MAIL FROM:<>").startswith("530 ")


def test_connections_per_client(logged, wait_until):
    with Harness(connections=behind(per_client=2)) as harness:
        held = [talk_through(harness, first("192.0.2.7")) for _ in range(2)]
        assert all(talk.reply().startswith("220 ") for talk in held)
        with talk_through(harness, first("192.0.2.7")) as talk:
            assert talk.reply().startswith("421 4.3.2 ")
            assert talk.closed()
        with talk_through(harness, first("192.0.2.8")) as talk:
            assert talk.reply().startswith("220 ")
        for talk in held:
            talk.close()
        wait_until(lambda: len(harness.connections) == 0)
        assert not harness.connections._by_client
    assert "connection refused from 192.0.2.7 through 127.0.0.1: it has 2 connections open" in logged()[0]


def test_the_guard_and_the_log(logged):
    guard = Guard(Users(user()), failures=2, exempt=LOOPBACK, sleep=lambda seconds: None)
    with Harness(connections=behind(), users=guard, plaintext_networks=ALL) as harness:
        for client in ("192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.8"):
            with talk_through(harness, first(client)) as talk:
                talk.reply()
                assert talk.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AeA==").startswith("535 ")
    assert [line.split(": ") for line in logged()] == [
        ['login failed from 192.0.2.7 user "scanner@contoso.com"', "wrong password"],
        ['login failed from 192.0.2.7 user "scanner@contoso.com"', "wrong password"],
        [
            'login failed from 192.0.2.7 user "scanner@contoso.com"',
            "blocked for a while after too many failures from there",
        ],
        ['login failed from 192.0.2.8 user "scanner@contoso.com"', "wrong password"],
    ]


def test_the_envelope_and_the_line_on_a_message(logged):
    with Harness(connections=behind(), plaintext_networks=OFFICE) as harness:
        with talk_through(harness, first("192.0.2.7")) as talk:
            talk.reply()
            talk.ask("AUTH PLAIN " + base64.b64encode(f"\0scanner@contoso.com\0{PASSWORD}".encode()).decode())
            talk.ask("MAIL FROM:<>")
            talk.ask("RCPT TO:<a@contoso.com>")
            talk.ask("DATA")
            assert talk.ask(".").startswith("250 ")
        assert harness.spool.accepted[0].envelope.client == "192.0.2.7"
    assert logged()[0].startswith("accepted ID1 from 192.0.2.7: ")


def test_bare_lf_behind_a_proxy():
    """The CR of the PROXY line is not the client's."""
    with visit(first("192.0.2.7"), connections=behind(), plaintext_networks=OFFICE, lf_only_clients=True) as (_, talk):
        talk.send(b"AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk\n")
        talk.send(b"MAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\nx\n.\n")
        assert [talk.reply()[:3] for _ in range(6)] == ["220", "235", "250", "250", "354", "250"]


# -- old TLS, by the client's address


@pytest.mark.parametrize("header", [b"", first("192.0.2.7")], ids=["direct", "proxied"])
@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_who_needs_old_tls_is_named_once(certificate, logged, header, mode):
    connections = behind() if header else Connections()
    with Harness(certificate, tls_mode=mode, connections=connections) as harness:
        harness.listener.tls = server_context(*certificate, "TLSv1")
        for _ in range(2):
            with talk_through(harness, header) as talk:
                if mode == "starttls":
                    talk.reply()
                    talk.ask("STARTTLS")
                old_tls(talk)
                talk.ask("NOOP")
    peer = "192.0.2.7" if header else "127.0.0.1"
    assert [line for line in logged() if line.startswith("first")] == [
        f"first seen from {peer}: TLSv1, which is not secure; min_version allows it"
    ]


def test_no_thread_is_left(wait_until):
    before = set(threading.enumerate())
    with Harness(connections=behind()) as harness:
        socks = [socket.create_connection(("127.0.0.1", harness.listener.port)) for _ in range(20)]
        for number, sock in enumerate(socks):
            sock.sendall([b"", b"PROXY", b"garbage of any kind", first("192.0.2.7"), SECOND[:20]][number % 5])
    for sock in socks:
        sock.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
