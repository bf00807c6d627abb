"""Ports that can be opened, and which are proposed."""

import errno
import socket

import pytest
from init_harness import busy_ports

from m365proxy.admin.init import freeports
from m365proxy.admin.init.spelling import Door
from m365proxy.system.choices import Service


def test_a_port_that_somebody_listens_on():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        for addresses in (["127.0.0.1"], ["0.0.0.0"], ["192.0.2.250", "127.0.0.1"]):
            assert freeports.trouble(addresses, port).startswith("is in use by ")
        assert freeports.trouble(["127.0.0.1"], port, ours=[port]) == ""
    assert freeports.trouble(["127.0.0.1"], 0) == ""


def test_a_port_that_nobody_has():
    def port():
        with socket.create_server(("127.0.0.1", 0)) as found:
            return found.getsockname()[1]

    assert "" in [freeports.trouble(["127.0.0.1"], port()) for _ in range(5)]  # one may be somebody else's already


@pytest.mark.parametrize(
    "number, sentence",
    [
        (errno.EACCES, "may not be opened by this user"),
        (errno.EPERM, "may not be opened by this user"),
        (errno.ENOBUFS, "cannot be opened (no room)"),
        (errno.EADDRNOTAVAIL, ""),
    ],
)
def test_a_port_the_system_refuses(monkeypatch, number, sentence):
    def refuse(sock):
        raise OSError(number, "no room")

    monkeypatch.setattr(freeports, "_prepare", refuse)
    assert freeports.trouble(["127.0.0.1"], 25) == sentence


@pytest.mark.parametrize(
    "service, has_tls, busy, low, doors, notes",
    [
        (Service.SMTP, True, [], True, [Door(25), Door(587), Door(465, True)], []),
        (Service.SMTP, False, [], True, [Door(25), Door(587)], []),
        (Service.SMTP, True, [25], True, [Door(587), Door(465, True)], ["Port 25 is in use by another program."]),
        (Service.SMTP, True, [], False, [Door(2525)], []),
        (Service.SMTP, True, [2525, 2526], False, [Door(2527)], []),
        (Service.POP3, True, [], True, [Door(110), Door(995, True)], []),
        (Service.POP3, False, [], False, [Door(1110)], []),
    ],
)
def test_proposals(monkeypatch, service, has_tls, busy, low, doors, notes):
    busy_ports(monkeypatch, *busy, low=low)
    assert freeports.proposal(service, ["0.0.0.0"], has_tls) == (tuple(doors), notes)


@pytest.mark.parametrize(
    "is_root, doors", [(False, (Door(2525), Door(2465, True))), (True, freeports._USUAL[Service.SMTP])]
)
def test_the_image_has_ports_of_its_own(monkeypatch, is_root, doors):
    busy_ports(monkeypatch)
    monkeypatch.setattr(freeports.machine, "is_container", lambda: True)
    monkeypatch.setattr(freeports.machine, "is_root", lambda: is_root)
    assert freeports.proposal(Service.SMTP, ["0.0.0.0"], True)[0] == doors


def test_who_has_the_port(monkeypatch):
    monkeypatch.setattr(freeports.Holder, "of_port", lambda port, address: freeports.Holder("root", 7, "exim4"))
    assert freeports._why(OSError(errno.EADDRINUSE, ""), "0.0.0.0", 25) == "is in use by exim4, pid 7"
    monkeypatch.setattr(freeports.Holder, "of_port", lambda port, address: None)
    assert freeports._why(OSError(errno.EADDRINUSE, ""), "0.0.0.0", 25) == "is in use by another program"
