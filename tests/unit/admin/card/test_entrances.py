"""Which port suits a device best, and by which name or address it reaches this machine."""

import ipaddress

import pytest
from configs import CERT, configured

from m365proxy.admin.card import entrances
from m365proxy.server.tls import CertificateNames
from m365proxy.system.choices import Service, TlsMode


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with two networks; the first is the way to everywhere."""
    ways = {
        "192.168.10": "192.168.10.1",
        "192.168.20": "192.168.20.1",
        "192.0.2": "192.168.10.1",
        "127.0.0": "127.0.0.1",
    }
    monkeypatch.setattr(entrances.interfaces, "address_towards", lambda peer: ways.get(peer.rpartition(".")[0], ""))
    monkeypatch.setattr(entrances.interfaces, "own_addresses", lambda: ["192.168.10.1", "192.168.20.1", "fd00::10"])
    monkeypatch.setattr(entrances.interfaces, "full_name", lambda addresses: "")


def networks(*texts):
    return tuple(map(ipaddress.ip_network, texts))


SMTP, POP3 = {"protocol": "smtp"}, {"protocol": "pop3"}
LAN = {"bind": "0.0.0.0", "smtp_port": 2525}
PLAIN = {"plaintext_networks": ["192.168.20.0/24"]}

RANKED = {
    # name: (settings, where the device is, ports in their order)
    "implicit TLS before STARTTLS": ({**LAN, **CERT, "smtp_port": 587, "smtps_port": 465}, "", [465, 587]),
    "a usual port before any other": ({**LAN, **CERT, "smtp_port": 587, "smtps_port": 4650}, "", [587, 4650]),
    "TLS before none": (
        {**LAN, **CERT, "listeners": [{**SMTP, "port": 25, "tls": "none"}]},
        "192.168.20.7",
        [2525, 25],
    ),
    "old TLS comes last": (
        {**LAN, **CERT, "listeners": [{**SMTP, "port": 465, "tls": "implicit", "min_version": "TLSv1"}]},
        "",
        [2525, 465],
    ),
    "bare LF comes last": (
        {**LAN, **CERT, "listeners": [{**SMTP, "port": 25, "lf_only_clients": True}]},
        "",
        [2525, 25],
    ),
    "this machine's own comes last": (
        {**CERT, "bind": "127.0.0.1", "smtps_port": 465, "listeners": [{**SMTP, "port": 25, "bind": "192.168.10.1"}]},
        "",
        [25, 465],
    ),
    "on the device's network": (
        {
            **CERT,
            "listeners": [
                {**SMTP, "port": 465, "bind": "192.168.10.1", "tls": "implicit"},
                {**SMTP, "port": 2525, "bind": "192.168.20.1"},
            ],
        },
        "192.168.20.7",
        [2525, 465],
    ),
    "where a login is possible": (
        {**CERT, **LAN, "smtp_port": 2525, "listeners": [{**SMTP, "port": 25, "tls": "none"}]},
        "192.168.10.7",
        [2525, 25],
    ),
}


@pytest.mark.parametrize("name", RANKED)
def test_the_best_comes_first(tmp_path, name):
    settings, where, ports = RANKED[name]
    found = entrances.entrances(configured(tmp_path, **settings), Service.SMTP, networks(where) if where else ())
    assert [entrance.port for entrance in found] == ports


def test_sockets_of_one_port_are_one_entrance(tmp_path):
    config = configured(tmp_path, **{**LAN, **CERT, "bind": ["192.168.10.1", "192.168.20.1"], "pop3s_port": 995})
    (smtp,) = entrances.entrances(config, Service.SMTP, ())
    (pop3,) = entrances.entrances(config, Service.POP3, ())
    assert smtp.addresses == pop3.addresses == ("192.168.10.1", "192.168.20.1")
    assert (smtp.tls, pop3.tls) == (TlsMode.STARTTLS, TlsMode.IMPLICIT)


@pytest.mark.parametrize(
    "settings, where, logs_in, possible",
    [
        (PLAIN, "192.168.20.7", True, True),
        (PLAIN, "192.168.20.0/25", True, True),
        (PLAIN, "192.168.0.0/16", True, False),
        (PLAIN, "192.168.10.7", True, False),
        (PLAIN, "192.168.10.7", False, True),
        (PLAIN, "fd00::7", True, False),
        (PLAIN, "", True, True),
        ({}, "", True, False),
        ({}, "127.0.0.1", True, True),
        ({**PLAIN, "tls": {**CERT["tls"], "required": True}}, "192.168.20.7", False, False),
    ],
)
def test_without_tls(tmp_path, settings, where, logs_in, possible):
    config = configured(tmp_path, **{**LAN, **CERT, "smtps_port": 465, **settings})
    found = entrances.entrances(config, Service.SMTP, networks(where) if where else (), logs_in)
    assert {entrance.port: entrance.without_tls for entrance in found} == {2525: possible, 465: False}


@pytest.mark.parametrize(
    "login, allowed, expected",
    [
        (["192.168.10.21"], [], ["192.168.10.21"]),
        (["192.168.10.21", "127.0.0.1"], [], ["192.168.10.21"]),
        (["0.0.0.0/0", "::/0"], [], []),
        (["127.0.0.1"], [], ["127.0.0.1"]),
        ([], ["127.0.0.0/8", "192.168.10.0/24"], ["192.168.10.0/24"]),
        (["0.0.0.0/0"], ["192.168.10.0/24"], ["192.168.10.0/24"]),
    ],
)
def test_where_a_device_may_be(tmp_path, login, allowed, expected):
    config = configured(tmp_path, **({"allowed_networks": allowed} if allowed else {}))
    assert entrances.device_networks(config, networks(*login)) == networks(*expected)


SERVERS = {
    # name: (bind, where the device is, servers)
    "anywhere": ("0.0.0.0", "", ["192.168.10.1", "192.168.20.1"]),
    "IPv6 too": (["0.0.0.0", "::"], "", ["192.168.10.1", "192.168.20.1", "fd00::10"]),
    "the way back to the device": ("0.0.0.0", "192.168.20.7", ["192.168.20.1"]),
    "one for each network": ("0.0.0.0", "192.168.20.0/24 192.168.10.7", ["192.168.20.1", "192.168.10.1"]),
    "no way known": ("0.0.0.0", "10.0.0.0/8", ["192.168.10.1", "192.168.20.1"]),
    "a fixed address": ("192.168.20.1", "", ["192.168.20.1"]),
    "a fixed one that is not there yet": ("192.168.30.1", "192.168.20.7", ["192.168.30.1"]),
    "the nearer of fixed ones": (["192.168.10.1", "192.168.20.1"], "192.168.20.7", ["192.168.20.1"]),
    "this machine": ("0.0.0.0", "127.0.0.0/8", ["127.0.0.1"]),
}


@pytest.mark.parametrize("name", SERVERS)
def test_addresses_of_this_machine(tmp_path, name):
    bind, where, expected = SERVERS[name]
    config = configured(tmp_path, **{**LAN, **CERT, "bind": bind})
    (entrance,) = entrances.entrances(config, Service.SMTP, networks(*where.split()))
    assert entrances.servers(entrance, networks(*where.split()), None) == expected


@pytest.mark.parametrize(
    "certificate, expected",
    [
        (None, ["relay.contoso.com", "192.168.10.1"]),
        (CertificateNames(("mail.contoso.com",), (), True), ["relay.contoso.com", "192.168.10.1"]),
        (
            CertificateNames(("*.contoso.com", "mail.contoso.com", "Relay.contoso.com"), (), False),
            ["Relay.contoso.com", "mail.contoso.com", "192.168.10.1"],
        ),
        (CertificateNames((), ("192.168.10.1",), False), ["192.168.10.1"]),
    ],
)
def test_names_that_a_certificate_vouches_for_come_first(tmp_path, monkeypatch, certificate, expected):
    monkeypatch.setattr(entrances.interfaces, "full_name", lambda addresses: "relay.contoso.com")
    config = configured(tmp_path, **{**LAN, **CERT, "bind": "192.168.10.1"})
    (entrance,) = entrances.entrances(config, Service.SMTP, ())
    assert entrances.servers(entrance, (), certificate) == expected


def test_whom_the_certificate_is_for(tmp_path):
    assert entrances.certificate(configured(tmp_path)) is None
    assert entrances.certificate(configured(tmp_path, **CERT)) == ((), (), True)
    (tmp_path / "cert.pem").write_text("not a certificate")
    for name in ("cert.pem", "none.pem"):
        assert entrances.certificate(configured(tmp_path, tls={"tls_cert": name, "tls_key": "key.pem"})) is None
