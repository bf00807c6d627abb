"""The answers a config gives, and the network that is proposed."""

import ipaddress

import pytest
from configs import configured

from m365proxy.admin.init import answers
from m365proxy.admin.init.spelling import EVERYWHERE, Certificate, Door

NET = ipaddress.ip_network
BOX = "scanner@contoso.com"


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, {"devices": (), "smtp": (Door(2525),), "pop3": (), "certificate": Certificate(), "app_only": False}),
        ({"bind": "0.0.0.0"}, {"devices": EVERYWHERE}),
        (
            {"bind": "0.0.0.0", "allowed_networks": ["127.0.0.0/8", "192.0.2.0/24"]},
            {"devices": (NET("192.0.2.0/24"),)},
        ),
        ({"tls": {"tls_cert": "auto"}, "smtps_port": 465}, {"smtp": (Door(2525), Door(465, True))}),
        ({"tls": {"tls_cert": "auto"}}, {"certificate": Certificate("auto", "")}),
        ({"bind": ["127.0.0.1", "::1"], "pop3_port": 110}, {"pop3": (Door(110),), "devices": ()}),
        ({"listeners": [{"protocol": "smtp", "port": 25}]}, {"smtp": (Door(25),)}),
        ({"plaintext_networks": ["127.0.0.0/8", "192.0.2.7"]}, {"plaintext": (NET("192.0.2.7"),)}),
        ({"relay_networks": {"192.0.2.7": BOX}}, {"relays": ((NET("192.0.2.7"), BOX),)}),
        ({"client_secret": "s", "user": None}, {"app_only": True, "account": ""}),
    ],
)
def test_what_a_config_answers(tmp_path, settings, expected):
    found = answers.of_config(configured(tmp_path, **settings), "contoso.com", [BOX])
    assert found.tenant == "contoso.com" and found.new == {BOX} and found.mailboxes == (BOX,)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    "devices, binds",
    [
        ((), ["127.0.0.1"]),
        (EVERYWHERE, ["0.0.0.0"]),
        ((NET("192.0.2.0/24"),), ["0.0.0.0"]),
        ((NET("192.0.2.0/24"), NET("fd00::/64")), ["0.0.0.0", "::"]),
    ],
)
def test_where_to_listen(tmp_path, devices, binds):
    found = answers.of_config(configured(tmp_path), "contoso.com", [])
    assert found._replace(devices=devices).binds == binds


@pytest.mark.parametrize(
    "own, gateways, proposed",
    [
        (["192.0.2.0/24", "198.51.100.0/24"], ["198.51.100.1"], ["198.51.100.0/24"]),
        (["192.0.2.0/24", "198.51.100.0/24"], [], ["192.0.2.0/24"]),
        ([], [], []),
        (["0.0.0.0/0"], ["192.0.2.1"], []),
    ],
)
def test_the_network_proposed_is_the_one_with_the_gateway(monkeypatch, own, gateways, proposed):
    monkeypatch.setattr(answers.machine, "is_container", lambda: False)
    monkeypatch.setattr(answers.interfaces, "own_networks", lambda: list(map(NET, own)))
    monkeypatch.setattr(answers.interfaces, "default_gateways", lambda: gateways)
    monkeypatch.setattr(answers.machine, "is_openwrt", lambda: False)
    assert answers.proposed_networks() == tuple(map(NET, proposed))
    monkeypatch.setattr(answers.machine, "is_container", lambda: True)
    assert answers.proposed_networks() == EVERYWHERE


def test_a_routers_devices_are_behind_it(monkeypatch):
    own = ["10.1.2.0/24", "192.168.1.0/24", "192.168.7.0/24", "8.8.8.0/24"]
    monkeypatch.setattr(answers.machine, "is_container", lambda: False)
    monkeypatch.setattr(answers.machine, "is_openwrt", lambda: True)
    monkeypatch.setattr(answers.interfaces, "own_networks", lambda: list(map(NET, own)))
    monkeypatch.setattr(answers.interfaces, "default_gateways", lambda: ["10.1.2.1"])
    assert answers.proposed_networks() == (NET("192.168.1.0/24"), NET("192.168.7.0/24"))
