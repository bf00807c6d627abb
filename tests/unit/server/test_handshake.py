import contextlib
import logging
import socket
import ssl

import pytest
from cases import each
from server_harness import connect, old_tls, server_context
from smtp_harness import Harness

from m365proxy.server import handshake, tls
from m365proxy.server.connection import Closed, Injection, LineTooLong, TimedOut


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


@each(
    "error, words",
    [
        (Closed("HTTP_REQUEST"), "the client spoke HTTP (HTTP_REQUEST)"),
        (Closed("[SSL: WRONG_VERSION_NUMBER]"), "the client did not speak TLS ([SSL: WRONG_VERSION_NUMBER])"),
        (Closed("reset by peer\r\n"), "reset by peer\\x0d\\x0a"),
        (Closed(), "connection closed"),
        (TimedOut(), "timed out"),
        (Injection(), "commands were sent before it"),
        (LineTooLong(), "LineTooLong"),
    ],
)
def test_reasons(error, words):
    assert handshake.reason(error) == words


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


# -- old TLS ---------------------------------------------------------------


def test_who_knows_only_old_tls_is_told_from_others(certificate, logged):
    with Harness(certificate, tls_mode="implicit") as harness:
        harness.listener.tls = tls.server_context(*certificate)
        with harness.client(greeted=False) as talk, pytest.raises(ssl.SSLError):
            old_tls(talk)
    (line,) = logged()
    assert line.startswith("TLS handshake failed from 127.0.0.1: the client supports only older TLS: see min_version (")


def test_who_knows_only_rsa_gets_in_where_old_tls_may(certificate):
    """Old devices know no ECDSA: a certificate of that kind would shut out those min_version is set for."""
    with Harness(certificate, tls_mode="implicit") as harness:
        harness.listener.tls = tls.server_context(*certificate, "TLSv1")
        with harness.client(greeted=False) as talk:
            old_tls(talk, "AES128-SHA:AES256-SHA:@SECLEVEL=0")
            assert talk.reply().startswith("220 ")


def test_who_shares_no_cipher_is_told_from_others(certificate, logged):
    with Harness(certificate, tls_mode="implicit") as harness:
        harness.listener.tls = tls.server_context(*certificate, "TLSv1")
        harness.listener.tls.set_ciphers("ECDHE-RSA-AES128-SHA:@SECLEVEL=0")
        with harness.client(greeted=False) as talk, pytest.raises(ssl.SSLError):
            old_tls(talk, "AES128-SHA:@SECLEVEL=0")
    (line,) = logged()
    assert "failed from 127.0.0.1: no cipher in common: the client needs a certificate with an RSA key, or" in line


def test_who_mistrusts_the_certificate_is_told_from_others(certificate, logged, wait_until):
    with Harness(certificate, tls_mode="implicit") as harness, harness.client(greeted=False) as talk:
        strict = ssl.create_default_context()
        strict.maximum_version = ssl.TLSVersion.TLSv1_2  # so that the alert comes within the handshake
        with pytest.raises(ssl.SSLError):
            strict.wrap_socket(talk.socket, server_hostname="localhost")
        wait_until(lambda: logged())
    assert "TLS handshake failed from 127.0.0.1: the client does not trust the certificate (" in logged()[0]


@pytest.mark.parametrize("at_once", [False, True])
def test_its_step_says_where_tls_began(at_once, caplog):
    handshake.log_failure("pop3", "192.0.2.7", Closed("UNKNOWN_CA"), at_once)
    (record,) = caplog.records
    assert record.event == {
        "event": "TLS failed",
        "service": "pop3",
        "client": "192.0.2.7",
        "reason": "the client does not trust the certificate (UNKNOWN_CA)",
        "at_once": at_once or None,
    }
