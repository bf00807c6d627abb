import ipaddress

from cases import each

from m365proxy.system.networks import client_network, is_loopback, normalise_address, within


def networks(*names):
    return tuple(map(ipaddress.ip_network, names))


@each(
    "address, names, expected",
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("11.1.2.3", ["10.0.0.0/8", "11.1.2.3/32"], True),
        ("::1", ["0.0.0.0/0"], False),
        ("127.0.0.1", ["::/0"], False),
        ("fe80::1", ["fe80::/10"], True),
        ("10.1.2.3", [], False),
        ("", ["0.0.0.0/0", "::/0"], False),
        ("localhost", ["0.0.0.0/0", "::/0"], False),
    ],
)
def test_within(address, names, expected):
    assert within(address, networks(*names)) is expected


@each(
    "address, wanted",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("not an address", "not an address"),
    ],
)
def test_normalise_address(address, wanted):
    assert normalise_address(address) == wanted


@each(
    "address, network",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:1:ffff::9", "2001:db8:0:1::/64"),
        ("proxy:192.0.2.1", "proxy:192.0.2.1"),
    ],
)
def test_client_network(address, network):
    assert client_network(address) == network


@each("address, loopback", [("127.8.8.8", True), ("::1", True), ("192.0.2.1", False), ("proxy:127.0.0.1", False)])
def test_is_loopback(address, loopback):
    assert is_loopback(address) == loopback
