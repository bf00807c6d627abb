"""The listeners' certificate: how long it is good, and whether it has a name that devices use."""

import dataclasses
import ipaddress
import socket

import keystock
import pytest

from m365proxy.admin.check import certificate
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark
from m365proxy.config import load
from m365proxy.errors import ConfigError
from m365proxy.server import autocert, tls

ANY = "0.0.0.0"


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    keystock.hand_out(monkeypatch)


def lines(config, **changes):
    return list(certificate.certificate(Subject(dataclasses.replace(config, **changes))))


def with_certificate(config, names, bind=ANY, **changes):
    """The lines where a certificate is for `names` and the listeners are at `bind`."""
    cert, key = tls.self_signed(names)
    directory = config.path.rpartition("config.json")[0]
    for name, content in (("cert.pem", cert), ("key.pem", key)):
        with open(directory + name, "wb") as file:
            file.write(content)
    section = dataclasses.replace(config.tls, tls_cert=directory + "cert.pem", tls_key=directory + "key.pem")
    sockets = [dataclasses.replace(one, address=bind) for one in config.sockets]
    return lines(config, tls=section, sockets=tuple(sockets), **changes)


@pytest.fixture
def names(monkeypatch):
    """This machine is relay.contoso.com, 192.0.2.7; DNS knows mail.contoso.com by this address, and others not."""
    own = ["relay", "relay.contoso.com", "localhost", "192.0.2.7", "127.0.0.1", "::1"]
    real = autocert.own_names
    monkeypatch.setattr(autocert, "own_names", lambda binds: autocert.Names(real(binds).needed, lambda: own))

    def resolve(name, *_rest, **_more):
        known = {"mail.contoso.com": "192.0.2.7", "www.contoso.com": "198.51.100.1", "hosts.contoso.com": "127.0.1.1"}
        if name not in known:
            raise socket.gaierror(-2, "unknown")
        return [(2, 1, 6, "", (known[name], 0))]

    monkeypatch.setattr(certificate.socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "holds, bind, fits",
    [
        (["relay.contoso.com"], ANY, True),
        (["RELAY.contoso.com"], ANY, True),
        (["*.contoso.com"], ANY, True),
        (["192.0.2.7"], ANY, True),
        (["mail.contoso.com"], ANY, True),
        (["192.0.2.9"], "192.0.2.9", True),
        (["www.contoso.com", "old.contoso.com"], ANY, False),
        (["*.fabrikam.com"], ANY, False),
        (["192.0.2.9"], ANY, False),
        (["hosts.contoso.com"], ANY, True),
        (["localhost", "127.0.0.1"], ANY, False),
        (["nobody.contoso.com"], "127.0.0.1", True),
    ],
)
def test_names_that_devices_use(config, names, holds, bind, fits):
    found = with_certificate(config, holds, bind)
    assert found[0].mark is Mark.OK and "valid for another 36" in found[0].sentence
    assert [line.mark for line in found[1:]] == ([] if fits else [Mark.ATTENTION])
    if not fits:
        assert all(name in found[1].sentence for name in [*holds, "relay.contoso.com", "192.0.2.7"])
        assert "localhost" not in found[1].sentence.partition("(")[2]


def test_while_no_name_server_answers_nothing_is_said_of_names_and_only_one_is_waited_for(config, names, monkeypatch):
    asked = []

    def silent(name, *_rest, **_more):
        asked.append(name)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(certificate.socket, "getaddrinfo", silent)
    assert [line.mark for line in with_certificate(config, ["mail.contoso.com", "www.contoso.com"])] == [Mark.OK]
    assert asked == ["mail.contoso.com"]
    with_certificate(config, ["mail.contoso.com", "relay.contoso.com"])
    assert len(asked) == 1  # what needs no name server is looked at first


def test_behind_a_proxy_devices_use_its_names(config, names):
    network = ipaddress.ip_network("192.0.2.99")
    assert len(with_certificate(config, ["nobody.contoso.com"], proxy_protocol_from=(network,))) == 1


@pytest.mark.parametrize("days, mark", [(20, Mark.ATTENTION), (21, Mark.OK), (-1, None)])
def test_the_end_of_a_certificate(config, monkeypatch, days, mark):
    monkeypatch.setattr(certificate, "certificate_days", lambda cert: days)
    if mark is None:
        with pytest.raises(ConfigError, match="has expired"):
            with_certificate(config, ["x"], "127.0.0.1")
        return
    (line,) = with_certificate(config, ["x"], "127.0.0.1")
    assert line.mark is mark and ("m365proxy reload" in line.remedy) == (mark is Mark.ATTENTION)


def test_a_certificate_that_only_openssl_can_read(config, monkeypatch):
    def fail(cert):
        raise ValueError("not canonical")

    monkeypatch.setattr(certificate, "certificate_days", fail)
    (line,) = with_certificate(config, ["x"], "127.0.0.1")
    assert line.mark is Mark.ATTENTION and "can be used" in line.sentence


@pytest.mark.parametrize(
    "networks, mark, words",
    [
        (["127.0.0.0/8"], Mark.OK, "passwords are accepted only from this machine"),
        ([], Mark.OK, "passwords are accepted only from this machine"),
        (["192.168.0.0/16"], Mark.ATTENTION, "unencrypted"),
    ],
)
def test_without_certificate_it_depends_on_where_passwords_are_taken(config, networks, mark, words):
    (line,) = lines(config, plaintext_networks=tuple(map(ipaddress.ip_network, networks)))
    assert line.mark is mark and words in line.sentence


def test_what_is_advised_without_a_certificate_is_a_config(config, tmp_path):
    (line,) = lines(config, plaintext_networks=(ipaddress.ip_network("192.168.0.0/16"),))
    section = line.remedy.partition("put ")[2].partition(" into")[0]
    content = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(f"{content.rstrip()[:-1]}, {section}}}")
    changed = load.load(str(tmp_path / "config.json"), {})
    (line,) = lines(changed)
    assert changed.tls.tls_cert == "auto" and "made at the first start" in line.sentence
