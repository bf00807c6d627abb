"""What a configuration makes of the account, the queue and the installation."""

import os

import pytest
from configs import configured

from m365proxy.account import Account, installation, spool_of
from m365proxy.errors import Temporary
from m365proxy.spool.envelope import Envelope
from m365proxy.system import files

GLOBAL, CHINA = "https://graph.microsoft.com", "https://microsoftgraph.chinacloudapi.cn"
SECRET = {"client_secret": "s3cret", "user": None}
KEY = {"client_certificate": {"private_key": "key.pem", "thumbprint": "A1" * 20}, "user": None}
USER = {"user": "relay@contoso.com"}


def account(tmp_path, **settings):
    return Account(configured(tmp_path, **settings), environ={})


@pytest.mark.parametrize(
    "settings, user",
    [
        ({}, "relay@contoso.com"),
        (SECRET, ""),
        (KEY, ""),
        ({**SECRET, **USER}, ""),
        ({**KEY, **USER}, ""),
    ],
    ids=["sign-in", "secret", "certificate", "secret and user", "certificate and user"],
)
def test_an_app_by_itself_is_nobody(tmp_path, settings, user):
    assert account(tmp_path, **settings).graph.user == user


@pytest.mark.parametrize(
    "settings, url",
    [
        ({}, GLOBAL),
        ({"cloud": "china"}, CHINA),
        ({"graph_url": "https://graph.contoso.com/"}, "https://graph.contoso.com"),
    ],
)
def test_where_graph_is(tmp_path, settings, url):
    assert account(tmp_path, **settings).graph.url == url


def test_the_way_out_is_the_one_of_the_config(tmp_path):
    with account(tmp_path, https_proxy="http://proxy.contoso.com:3128").outbound.session() as session:
        assert session.proxies["https"] == "http://proxy.contoso.com:3128"


def test_to_make_the_account_and_the_queue_writes_nothing(tmp_path):
    config = configured(tmp_path)
    assert Account(config, environ={}).token_file.load() is None
    assert spool_of(config).directory == os.path.join(config.state_dir, "queue")
    assert os.listdir(tmp_path) == ["config.json"]


def accepted(spool):
    """How many of three messages the queue takes."""
    spool.make()
    for number in range(3):
        try:
            incoming = spool.put(Envelope("a@contoso.com", "a@contoso.com", ("b@contoso.com",)))
        except Temporary:
            return number
        incoming.commit()
    return 3


@pytest.mark.parametrize(
    "queue, taken",
    [
        ({"min_free_mb": 0}, 3),
        ({"min_free_mb": 0, "max_waiting": 2}, 2),
        ({"min_free_mb": 7}, 3),
        ({"min_free_mb": 8}, 0),
    ],
    ids=str,
)
def test_the_queue_keeps_to_its_limits(tmp_path, monkeypatch, queue, taken):
    monkeypatch.setattr(files, "free_bytes", lambda path: 8 * 1024 * 1024 - 1)
    assert accepted(spool_of(configured(tmp_path, queue=queue))) == taken


def test_an_installation_keeps_its_id_and_shares_it_with_no_other(tmp_path):
    places = [str(tmp_path / name) for name in ("one", "other")]
    for place in places:
        os.mkdir(place)
    first, other = map(installation, places)
    assert first and other and first != other
    assert [installation(place) for place in places] == [first, other]


@pytest.mark.parametrize("content, kept", [("0123abcd\r\n", "0123abcd"), ("", None), (" \n", None)], ids=repr)
def test_an_id_that_is_blank_is_made_anew(tmp_path, content, kept):
    (tmp_path / "installation").write_text(content)
    found = installation(str(tmp_path))
    assert found and (kept is None or found == kept)
    assert installation(str(tmp_path)) == found
