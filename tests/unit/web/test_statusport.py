"""Listeners of the status port."""

import base64
import ipaddress
import socket
import ssl

import pytest
from server_harness import server_context
from web_harness import guard

from m365proxy.errors import InUse
from m365proxy.web.statusport import Access, StatusPort


def test_without_a_port_there_is_none_and_stopping_is_no_trouble():
    port = StatusPort(None, guard())
    port.start()
    port.close()
    assert port.listeners == []


def test_a_port_that_is_taken(make_port):
    taken = make_port().listeners[0].port
    with pytest.raises(InUse, match=f"127.0.0.1:{taken} is in use by another program"):
        StatusPort(None, guard()).open(["127.0.0.1"], taken, Access())


def test_a_machine_without_ipv6(monkeypatch):
    def refuse(host, *arguments, **more):
        if ":" in host:
            raise OSError(97, "Address family not supported by protocol")
        return found(host, *arguments, **more)

    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    port = StatusPort(None, guard())
    port.open(["127.0.0.1", "::1"], 0, Access())
    assert [listener.place.rpartition(":")[0] for listener in port.listeners] == ["status 127.0.0.1"]
    port.close()


def test_an_end_ends_open_connections(make_port, talk):
    port = make_port()
    client = talk(port)
    assert client.ask("/livez")[0] == 200
    port.close()
    assert client.ended()


PASSWORD = "a drawer full"


def basic(password, user="admin"):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_over_tls_with_a_password_which_a_reload_may_change(make_port, talk, certificate):
    access = Access(server_context(certificate), certificate[0], PASSWORD)
    port = make_port(access=access)
    client = talk(port, tls=ssl.create_default_context(cafile=certificate[0]))
    assert [client.ask("/livez")[0], client.ask("/healthz")[0]] == [200, 401]
    assert client.ask("/healthz", basic(PASSWORD))[0] == 200
    port.set_access(access._replace(password="another one"))
    assert client.ask("/healthz", basic(PASSWORD))[0] == 401
    assert client.ask("/healthz", basic("another one"))[0] == 200


def test_a_password_that_is_taken_away_stays_and_no_older_one_is_good_again(make_port, talk, certificate):
    access = Access(server_context(certificate), certificate[0], PASSWORD)
    port = make_port(access=access)
    port.set_access(access._replace(password="another one"))
    port.set_access(access._replace(password=None, certificate=""))
    client = talk(port, tls=ssl.create_default_context(cafile=certificate[0]))
    asked = [client.ask("/healthz", *more)[0] for more in ([], [basic(PASSWORD)], [basic("another one")])]
    assert asked == [401, 401, 200]


def test_plain_http_on_a_tls_port_gets_no_answer(make_port, talk, certificate):
    client = talk(make_port(access=Access(server_context(certificate), certificate[0], PASSWORD)))
    client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP" not in client.rest()


def test_who_is_not_in_its_networks_may_not_connect(make_port, talk):
    port = make_port(access=Access(networks=[ipaddress.ip_network("192.0.2.0/24")]))
    client = talk(port)
    status, header, body = client.response()
    assert (status, body) == (403, "")
    port.set_access(Access())
    assert talk(port).ask("/livez")[0] == 200
