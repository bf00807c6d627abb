import ipaddress
import os
import socket
import sys
import threading

import pytest

from m365proxy.system import interfaces


def test_own_addresses_are_ours():
    for address in interfaces.own_addresses():
        parsed = ipaddress.ip_address(address)
        assert not parsed.is_loopback and not parsed.is_link_local
        family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
        with socket.socket(family) as sock:
            sock.bind((address, 0))


IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000010 02 40 00 80     eth0
20010db8000000000000000000000007 02 40 00 01     eth0
20010db8000000000000000000000008 02 40 00 20     eth0
20010db8000000000000000000000009 02 40 00 00     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
garbage
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Linux has a list of its addresses, and a call for them")
def test_fleeting_addresses_are_left_out(monkeypatch):
    monkeypatch.setattr(interfaces.sys, "platform", "linux")
    monkeypatch.setattr(interfaces, "_lines", lambda path: IF_INET6.splitlines() if path.endswith("if_inet6") else [])
    # Of several documentation networks Python calls some private, none loopback.
    assert interfaces.own_addresses() == ["2001:db8::9", "fd00::10"]


def test_elsewhere_the_resolver_is_asked(monkeypatch):
    monkeypatch.setattr(interfaces.sys, "platform", "win32")
    found = [(socket.AF_INET, 1, 6, "", (a, 0)) for a in ("192.0.2.10", "fe80::1%3", "fd00::10", "127.0.0.1")]
    monkeypatch.setattr(interfaces.socket, "getaddrinfo", lambda *_: found)
    assert interfaces.own_addresses() == ["192.0.2.10", "fd00::10"]


HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"


@pytest.mark.parametrize(
    "rows, gateways",
    [
        (["eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"], ["192.0.2.1"]),
        (["eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"], []),
        (["tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0"], []),
        (["tun0\t00000000\t010200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0"], []),
        (["short", "x\ty\tz\tw\t0\t0\t0\tv"], []),
        ([], []),
    ],
)
def test_default_gateways(monkeypatch, rows, gateways):
    monkeypatch.setattr(interfaces, "_lines", lambda path: [HEAD, *rows])
    monkeypatch.setattr(interfaces.sys, "byteorder", "little")
    assert interfaces.default_gateways() == gateways


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux itself")
def test_neither_netlink_nor_the_old_place_in_proc_is_needed(monkeypatch):
    before, asked, lines = interfaces.own_addresses(), [], interfaces._lines
    monkeypatch.setattr(interfaces, "_lines", lambda path: asked.append(path) or lines(path))
    monkeypatch.setattr(interfaces.socket, "if_nameindex", None)
    assert interfaces.own_addresses() == before
    interfaces.default_gateways()
    assert asked == [f"/proc/self/net/{name}" for name in ("dev", "if_inet6", "route")]
    assert all(map(os.path.exists, asked[::2]))


def test_without_proc(monkeypatch):
    monkeypatch.setattr(interfaces, "_lines", lambda path: [])
    assert interfaces.default_gateways() == []
    assert interfaces.own_addresses() == [] or not sys.platform.startswith("linux")


@pytest.mark.parametrize("peer, own", [("127.0.0.9", "127.0.0.1"), ("no address", ""), ("fd00::1%none", "")])
def test_the_address_towards_a_peer(peer, own):
    assert interfaces.address_towards(peer) == own
    with socket.socket() as sock:
        sock.bind((own, 0))  # it is an address of this machine


@pytest.mark.parametrize(
    "name, resolved, expected",
    [
        ("relay.contoso.com", ["192.0.2.7", "192.0.2.10"], "relay.contoso.com"),
        ("relay.contoso.com", ["127.0.1.1"], ""),
        ("relay", ["192.0.2.10"], ""),
        ("relay.contoso.com", None, ""),
    ],
)
def test_a_full_name_counts_if_it_is_ours(monkeypatch, name, resolved, expected):
    def resolve(*_):
        if resolved is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", (address, 0)) for address in resolved]

    monkeypatch.setattr(interfaces.socket, "getfqdn", lambda: name)
    monkeypatch.setattr(interfaces.socket, "getaddrinfo", resolve)
    assert interfaces.full_name(["192.0.2.10"]) == expected


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(interfaces.socket, "getfqdn", lambda: answered.wait(30) and "late.contoso.com")
    assert interfaces.full_name(["192.0.2.10"], seconds=0.01) == ""
    answered.set()


def test_own_networks(monkeypatch):
    pairs = [("127.0.0.1", "255.0.0.0"), ("192.0.2.7", "255.255.255.0"), ("192.0.2.8", "255.255.255.0")]
    pairs += [("169.254.3.4", "255.255.0.0"), ("10.1.2.3", "255.0.0.0"), ("192.0.2.9", "255.0.255.0")]
    masked = [tuple(map(ipaddress.IPv4Address, pair)) for pair in pairs]
    monkeypatch.setattr(interfaces.sys, "platform", "linux")
    monkeypatch.setattr(interfaces, "_masked", lambda: masked)
    assert list(map(str, interfaces.own_networks())) == ["10.0.0.0/8", "192.0.2.0/24"]
    monkeypatch.setattr(interfaces.sys, "platform", "win32")
    assert interfaces.own_networks() == []
