"""The certificate of tls_cert "auto": made once, kept, remade when it must be."""

import datetime
import logging
import os
import ssl
import stat
import sys
import time

import keystock
import pytest

from m365proxy.errors import CannotCreate
from m365proxy.server import autocert, tls

NAMES = ["proxy", "localhost", "192.0.2.10", "fd00::10"]


def ensure(state_dir, needed, found=(), **more):
    return autocert.ensure(str(state_dir), autocert.Names(list(needed), lambda: list(found)), **more)


YEAR = 365.25 * 24 * 3600


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    keystock.hand_out(monkeypatch)


def names_in(path):
    from cryptography import x509

    with open(path, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def test_it_is_made_with_names_and_addresses(tmp_path, logged):
    path = ensure(tmp_path, NAMES)
    assert path == autocert.path_in(str(tmp_path))
    assert names_in(path) == set(NAMES)
    tls.server_context(path, path)
    public = tmp_path / "tls-auto.crt"
    assert b"PRIVATE" not in public.read_bytes()
    ssl.create_default_context(cafile=str(public))
    if sys.platform != "win32":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert logged() == [f"a new self-signed certificate was made; install {public} on clients that check certificates"]


def test_it_is_kept(tmp_path, logged):
    path = ensure(tmp_path, NAMES)
    with open(path, "rb") as file:
        content = file.read()
    for names in (NAMES, NAMES[:2], NAMES[::-1]):  # an address that is gone is no reason
        assert ensure(tmp_path, names) == path
    with open(path, "rb") as file:
        assert file.read() == content
    assert len(logged()) == 1


def key_in(path):
    with open(path, encoding="ascii") as file:
        return file.read().partition("-----BEGIN PRIVATE KEY-----")[2]


def test_an_address_of_the_config_makes_a_new_one_that_knows_the_old_ones_too(tmp_path, logged):
    key = key_in(ensure(tmp_path, NAMES))
    path = ensure(tmp_path, ["proxy", "192.0.2.99"], ["found"])
    assert names_in(path) == {*NAMES, "192.0.2.99", "found"}
    assert key_in(path) == key  # who trusts the key goes on trusting
    tls.server_context(path, path)
    assert "was made for 192.0.2.99;" in logged()[-1]
    ensure(tmp_path, NAMES)
    assert len(logged()) == 2


def test_an_address_that_only_came_makes_no_new_one(tmp_path, logged):
    """A provider's new prefix, or a new name from DHCP, must not break the trust of all devices."""
    path = ensure(tmp_path, NAMES[2:], NAMES[:2])
    ensure(tmp_path, NAMES[2:], ["renamed", "192.0.2.99"])
    assert names_in(path) == set(NAMES)
    assert len(logged()) == 1


def test_the_elliptic_key_of_an_earlier_version_stays(tmp_path, logged):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(*form)
    content = b"Names: proxy\nEnds: 9999999999 (later)\n" + b"".join(tls.self_signed(["proxy"], key))
    with open(autocert.path_in(str(tmp_path)), "wb") as file:
        file.write(content)
    path = ensure(tmp_path, ["proxy"])
    with open(path, "rb") as file:
        assert file.read() == content
    assert not logged()
    assert key.decode().endswith(key_in(ensure(tmp_path, NAMES)))


def test_names_do_not_grow_for_ever(tmp_path):
    for number in range(3):
        path = ensure(tmp_path, [f"192.0.{number}.{last}" for last in range(60)])
    assert len(names_in(path)) == 100
    assert {f"192.0.2.{last}" for last in range(60)} <= names_in(path)


@pytest.mark.parametrize("years, remade", [(0, False), (9.8, False), (9.95, True), (30, True)])
def test_near_its_end_it_is_remade(tmp_path, logged, years, remade):
    path = ensure(tmp_path, NAMES)
    ensure(tmp_path, NAMES[:1], clock=lambda: time.time() + years * YEAR)
    assert len(logged()) == 1 + remade
    assert names_in(path) == set(NAMES)


@pytest.mark.parametrize("damage", [b"", b"\xff\0", b"Names: proxy\nEnds: x ()\n", None])
def test_what_cannot_be_read_is_remade(tmp_path, damage):
    path = ensure(tmp_path, NAMES)
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[: len(content) - 60] if damage is None else damage)
    ensure(tmp_path, NAMES)
    tls.server_context(path, path)


def test_a_disk_that_refuses(tmp_path):
    with pytest.raises(CannotCreate, match=r"cannot be written: .*\. Check the disk of state_dir\."):
        ensure(tmp_path / "missing", NAMES)


def test_a_board_whose_clock_is_decades_behind(monkeypatch):
    monkeypatch.setattr(tls, "_NOT_BEFORE_THIS", datetime.datetime(2100, 1, 1))
    assert tls.end_of(tls.self_signed(["proxy"])[0]).year == 2109


@pytest.mark.parametrize(
    "binds, needed, found",
    [
        (["192.0.2.10"], ["192.0.2.10"], []),
        (["0.0.0.0"], [], ["192.0.2.11"]),
        (["::"], [], ["fd00::11"]),
        (["0.0.0.0", "::"], [], ["192.0.2.11", "fd00::11"]),
        (["2003:0:0::1", "127.0.0.1", "0.0.0.0"], ["2003::1", "127.0.0.1"], ["192.0.2.11"]),
    ],
)
def test_own_addresses(monkeypatch, binds, needed, found):
    """Those of the families that are listened on; a global IPv6 address only if the config names it."""
    monkeypatch.setattr(autocert.socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(autocert.socket, "getfqdn", lambda: "localhost.localdomain")
    monkeypatch.setattr(autocert, "own_addresses", lambda: ["192.0.2.11", "2003:aa:1::5", "fd00::11"])
    names = autocert.own_names(binds)
    assert names.needed == needed
    assert names.found() == ["localhost", *found, "127.0.0.1", "::1"]


@pytest.mark.parametrize(
    "host, full, names",
    [
        ("proxy", "proxy.contoso.com", ["proxy", "proxy.contoso.com"]),
        ("proxy", "proxy", ["proxy"]),
        ("proxy", "localhost.localdomain", ["proxy"]),
        ("a.b-c.example", "other", ["a.b-c.example"]),
        ("gr\xfcn", "", []),
        ("a b", "a b.c", []),
        ("", "", []),
    ],
)
def test_own_host_names(monkeypatch, host, full, names):
    monkeypatch.setattr(autocert.socket, "gethostname", lambda: host)
    monkeypatch.setattr(autocert.socket, "getfqdn", lambda: full)
    found = autocert.own_names(["127.0.0.1"]).found()
    assert found == [*names, "localhost", "127.0.0.1", "::1"]
    tls.self_signed(found)
