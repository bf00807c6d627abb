"""Certificates, and who may read the status port."""

import ssl

import pytest
from configs import configured

from m365proxy.config.sockets import status_addresses
from m365proxy.listening import status_access, tls_contexts
from m365proxy.system.networks import within

PASSWORD = "a drawer full"
AUTO = {"tls_cert": "auto"}
OPEN = {"status_port": 8025, "status_password": PASSWORD, "tls": AUTO, "bind": ["192.0.2.1", "127.0.0.1"]}


def access(directory, config, built=None):
    built = built or config
    return status_access(built, config, tls_contexts(built, config, str(directory)), str(directory))


@pytest.mark.parametrize("settings", [{}, {"status_port": 8025}, {"status_port": 8025, "tls": AUTO}])
def test_without_certificate_and_password_it_is_for_this_machine(tmp_path, settings):
    config = configured(tmp_path, bind="0.0.0.0", **settings)
    assert status_addresses(config) == ("127.0.0.1", "::1")
    assert access(tmp_path, config) == (None, "", None, None)


def test_with_both_it_is_where_mail_is(tmp_path):
    config = configured(tmp_path, **OPEN, allowed_networks=["192.0.2.0/24"])
    assert list(status_addresses(config)) == ["192.0.2.1", "127.0.0.1"]
    found = access(tmp_path, config)
    assert (found.certificate, found.password) == (str(tmp_path / "tls-auto.pem"), PASSWORD)
    assert [within(peer, found.networks) for peer in ("192.0.2.9", "127.0.0.1", "::1", "198.51.100.1")] == [
        *[True] * 3,
        False,
    ]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    "version, minimum",
    [("TLSv1", "TLSv1_2"), ("TLSv1.1", "TLSv1_2"), ("TLSv1.2", "TLSv1_2"), ("TLSv1.3", "TLSv1_3")],
)
def test_old_tls_is_for_devices_only(tmp_path, version, minimum):
    config = configured(tmp_path, **{**OPEN, "tls": {**AUTO, "min_version": version}})
    assert access(tmp_path, config).tls.minimum_version is ssl.TLSVersion[minimum]


def test_a_reload_changes_the_password_and_keeps_tls_without_one(tmp_path):
    built = configured(tmp_path, **OPEN)
    changed = configured(tmp_path, **{**OPEN, "status_password": "another one"})
    assert access(tmp_path, changed, built).password == "another one"
    gone = configured(tmp_path, **{**OPEN, "status_password": None})
    found = access(tmp_path, gone, built)
    assert found.password is None and found.tls is not None  # StatusPort goes on with the last one


def test_no_certificate_is_made_for_nobody(tmp_path):
    config = configured(tmp_path, tls=AUTO, listeners=[{"protocol": "smtp", "port": 0, "tls": "none"}])
    assert tls_contexts(config, config, str(tmp_path)) == {}
    assert not (tmp_path / "tls-auto.pem").exists()
