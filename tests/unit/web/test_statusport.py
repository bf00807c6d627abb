"""Listeners of the status port."""

import socket

import pytest

from m365proxy.errors import InUse
from m365proxy.web.statusport import StatusPort


def test_without_a_port_there_is_none_and_stopping_is_no_trouble():
    port = StatusPort(None)
    port.start()
    port.close()
    assert port.listeners == []


def test_a_port_that_is_taken(make_port):
    taken = make_port().listeners[0].port
    with pytest.raises(InUse, match=f"127.0.0.1:{taken} is in use by another program"):
        StatusPort(None).open(["127.0.0.1"], taken)


def test_a_machine_without_ipv6(monkeypatch):
    def refuse(host, *arguments, **more):
        if ":" in host:
            raise OSError(97, "Address family not supported by protocol")
        return found(host, *arguments, **more)

    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    port = StatusPort(None)
    port.open(["127.0.0.1", "::1"], 0)
    assert [listener.place.rpartition(":")[0] for listener in port.listeners] == ["status 127.0.0.1"]
    port.close()


def test_an_end_ends_open_connections(make_port, talk):
    port = make_port()
    client = talk(port)
    assert client.ask("/livez")[0] == 200
    port.close()
    assert client.ended()
