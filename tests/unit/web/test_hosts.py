"""Which names in a Host field are this machine's."""

import socket

import pytest
from cases import each

from m365proxy.web.hosts import Hosts

CERTIFIED = ["relay.contoso.com", "*.office.contoso.com"]


@pytest.fixture
def hosts(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Gateway")
    return Hosts(lambda: CERTIFIED)


@each(
    "host",
    [
        *("localhost", "LOCALHOST:8025", "localhost.", "gateway", "Gateway:8025"),
        *("127.0.0.1", "127.0.0.1:8025", "192.0.2.7", "[::1]", "[::1]:8025", "[2001:db8::1]:443", "10.0.0.1:"),
        *("relay.contoso.com", "Relay.Contoso.com.:8025", "a.office.contoso.com"),
    ],
)
def test_ours(hosts, host):
    assert hosts.are_allowed(host)


@each(
    "host",
    [
        *(
            "",
            ":8025",
            ".",
            "example.org",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "relay.contoso.com.example.org",
        ),
        *("contoso.com", "office.contoso.com", "a.b.office.contoso.com", "*.office.contoso.com.example.org"),
        *("127.1", "0x7f.0.0.1", "2130706433", "::1", "[::1", "[::g]", "[127.0.0.1]x", "localhost:80:80"),
        *(
            "localhost@example.org",
            "localhost/example.org",
            "local host",
            "localhost\r",
            "localhost:8o25",
            "l\xf6calhost",
        ),
    ],
)
def test_not_ours(hosts, host):
    assert not hosts.are_allowed(host)


def test_a_reload_in_the_middle_of_a_question():
    class Reloading(str):
        def lower(self):
            return self

        def __eq__(self, other):  # while it is looked for, another thread reloads
            hosts.forget()
            return False

        __hash__ = str.__hash__

    hosts = Hosts(lambda: [Reloading("relay.contoso.com"), "*.contoso.com"])
    assert hosts.are_allowed("relay.contoso.com")


def test_the_certificate_is_read_when_it_is_needed_and_once():
    read = []
    hosts = Hosts(lambda: read.append(1) or ["relay.contoso.com"])
    assert hosts.are_allowed("127.0.0.1:8025") and read == []
    for _ in range(3):
        assert hosts.are_allowed("relay.contoso.com") and not hosts.are_allowed("example.org")
    assert read == [1]
    hosts.forget()
    assert hosts.are_allowed("relay.contoso.com") and read == [1, 1]
