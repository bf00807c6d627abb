import logging
import ssl
from types import SimpleNamespace

from server_harness import connect, line, server_context

from m365proxy.server import sessions
from m365proxy.server.connections import Connections


def test_a_fault_in_a_session_is_one_line_and_ends_it_alone(listen, caplog):
    listener = listen()
    with connect(listener) as one, connect(listener) as two:
        line(one), line(two)
        one.sendall(b"fault\r\n")
        assert line(one) == b""
        two.sendall(b"fine\r\n")
        assert line(two) == b"fine\r\n"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "smtp connection from 127.0.0.1 ended by an error in this program"
    assert isinstance(record.exc_info[1], KeyError)


def test_a_client_that_goes_is_no_line(listen, caplog, wait_until):
    caplog.set_level(logging.INFO)
    listener = listen()
    with connect(listener) as sock:
        line(sock)
    wait_until(lambda: not len(listener._connections))
    assert not caplog.records


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


def test_a_listener_waits_so_long_before_the_greeting(listen, monkeypatch):
    slept = []
    connections = Connections()
    connections.greeting_pause = lambda peer: 1.5
    monkeypatch.setattr(sessions, "time", SimpleNamespace(sleep=slept.append))
    with connect(listen(connections=connections)) as client:
        assert line(client) == b"127.0.0.1\r\n"
    assert slept == [1.5]
