import ipaddress
import json
import logging
import ssl
import threading

import pytest
from smtp_harness import Harness, Talk

from m365proxy.server import clienthello
from m365proxy.server.clienthello import ClientHellos


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "hellos.json")


def test_addresses_are_remembered_over_a_restart(path):
    hellos = ClientHellos(path)
    assert not hellos.expected("192.0.2.1")
    hellos.note("192.0.2.1")
    hellos.note("2001:db8::1")
    assert hellos.expected("192.0.2.1")
    again = ClientHellos(path)
    assert again.expected("192.0.2.1")
    assert again.expected("2001:db8::1")
    assert not again.expected("192.0.2.2")


def test_networks_are_known_beforehand(path):
    hellos = ClientHellos(path, (ipaddress.ip_network("192.0.2.0/24"),))
    assert hellos.expected("192.0.2.77")
    assert not hellos.expected("198.51.100.1")


def test_a_line_for_each_address_once(path, caplog):
    caplog.set_level(logging.INFO)
    hellos = ClientHellos(path)
    for _ in range(3):
        hellos.note("192.0.2.1")
    assert len(caplog.records) == 1
    assert "first seen from 192.0.2.1: TLS started at once" in caplog.text


def test_the_oldest_are_forgotten(path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump([f"address {number}" for number in range(999)], file)
    hellos = ClientHellos(path)
    for number in (999, 1000):
        hellos.note(f"address {number}")
    assert not hellos.expected("address 0")
    assert hellos.expected("address 1")
    assert hellos.expected("address 1000")
    with open(path, encoding="utf-8") as file:
        assert len(json.load(file)) == 1000
    with open(path, "w", encoding="utf-8") as file:
        json.dump([f"address {number}" for number in range(1500)], file)
    again = ClientHellos(path)
    assert not again.expected("address 499")
    assert again.expected("address 500")


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", "null", "\0", pytest.param("[" * 200_000, id="nested")])
def test_a_broken_file_is_learned_again(path, content, caplog):
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
    hellos = ClientHellos(path)
    assert not hellos.expected("192.0.2.1")
    assert len(caplog.records) == bool(content)
    hellos.note("192.0.2.1")
    assert ClientHellos(path).expected("192.0.2.1")


def test_no_place_to_keep_them(tmp_path, caplog):
    hellos = ClientHellos(str(tmp_path / "missing" / "hellos.json"))
    hellos.note("192.0.2.1")
    assert hellos.expected("192.0.2.1")
    assert "forgotten at the next start" in caplog.text


def test_a_newer_list_is_never_overwritten_by_an_older(path, monkeypatch):
    hellos, replace = ClientHellos(path), clienthello.files.replace
    second = threading.Thread(target=hellos.note, args=("192.0.2.2",))

    def overtaken(*arguments, **more):
        monkeypatch.setattr(clienthello.files, "replace", replace)
        second.start()
        second.join(0.1)  # gets through if it is not made to wait
        replace(*arguments, **more)

    monkeypatch.setattr(clienthello.files, "replace", overtaken)
    hellos.note("192.0.2.1")
    second.join(10)
    assert ClientHellos(path).expected("192.0.2.2")


def hasty(harness, certificate):
    """A client that begins TLS at once, as an HP MFP does; returns the banner or None."""
    trusting = ssl.create_default_context(cafile=certificate[0])
    talk = Talk(harness.listener.port)
    try:
        talk._file.close()
        talk.socket = trusting.wrap_socket(talk.socket, server_hostname="localhost")
        talk._file = talk.socket.makefile("rb")
        return talk.reply()
    except (ssl.SSLError, ConnectionError):
        return None
    finally:
        talk.close()


def test_a_hasty_client_gets_in_with_its_second_try(certificate, path, wait_until):
    with Harness(certificate, client_hellos=ClientHellos(path)) as harness:
        assert hasty(harness, certificate) is None
        # It may leave before the server has read its hello and, where a reset discards what came before, take it along.
        wait_until(lambda: hasty(harness, certificate) == "220 mail.contoso.com ESMTP m365proxy")
    with Harness(certificate, client_hellos=ClientHellos(path)) as harness:
        assert hasty(harness, certificate) == "220 mail.contoso.com ESMTP m365proxy"


def test_a_known_network_gets_in_at_once(certificate, path):
    with Harness(certificate, client_hellos=ClientHellos(path, (ipaddress.ip_network("127.0.0.0/8"),))) as harness:
        assert hasty(harness, certificate) == "220 mail.contoso.com ESMTP m365proxy"


def test_tls_begun_so_is_tls(certificate, path):
    """No second STARTTLS, and AUTH is possible from anywhere."""
    hellos = ClientHellos(path, (ipaddress.ip_network("127.0.0.0/8"),))
    with (
        Harness(certificate, client_hellos=hellos, plaintext_networks=()) as harness,
        Talk(harness.listener.port) as talk,
    ):
        talk.start_tls()
        assert talk.reply().startswith("220 ")
        lines = talk.ask("EHLO x").split("\n")
        assert "250-STARTTLS" not in lines
        assert "250-AUTH LOGIN PLAIN" in lines


def test_a_known_client_may_wait_for_the_banner(certificate, path, monkeypatch):
    monkeypatch.setattr(clienthello, "PATIENCE", 0.05)
    hellos = ClientHellos(path, (ipaddress.ip_network("127.0.0.0/8"),))
    with Harness(certificate, client_hellos=hellos) as harness, harness.client() as talk:
        assert talk.ask("STARTTLS").startswith("220 ")
        talk.start_tls()
        assert talk.ask("NOOP") == "250 2.0.0 Ok"


def test_a_known_client_may_speak_plainly_first(certificate, path):
    hellos = ClientHellos(path, (ipaddress.ip_network("127.0.0.0/8"),))
    with Harness(certificate, client_hellos=hellos) as harness, Talk(harness.listener.port) as talk:
        talk.send(b"NOOP\r\n")
        assert talk.reply().startswith("220 ")
        assert talk.reply() == "250 2.0.0 Ok"


def test_others_have_the_banner_at_once(certificate, path, monkeypatch):
    monkeypatch.setattr(clienthello, "PATIENCE", 600.0)
    with Harness(certificate, client_hellos=ClientHellos(path)) as harness, harness.client():
        pass  # it has been greeted


def test_a_known_client_where_the_certificate_was_taken_away(path):
    hellos = ClientHellos(path, (ipaddress.ip_network("127.0.0.0/8"),))
    with Harness(client_hellos=hellos, tls_mode="starttls") as harness, Talk(harness.listener.port) as talk:
        talk.send(b"\x16\x03\x01\x02\x00\x01")
        assert talk.reply().startswith("220 ")
        assert talk.reply().startswith("421 4.7.0 ")


def test_a_hello_where_tls_cannot_be_had_is_cut_off(path, caplog):
    caplog.set_level(logging.INFO)
    hellos = ClientHellos(path)
    with Harness(client_hellos=hellos) as harness, harness.client() as talk:
        talk.send(b"\x16\x03\x01\x02\x00\x01")
        assert talk.reply().startswith("421 4.7.0 ")
        assert talk.closed()
    assert not hellos.expected("127.0.0.1")
    assert len(caplog.records) == 1
