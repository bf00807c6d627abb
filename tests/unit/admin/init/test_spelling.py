"""How answers are typed: what is understood, and the sentence for what is not."""

import ipaddress

import pytest
from cases import each

from m365proxy.admin.init import spelling
from m365proxy.admin.init.spelling import Door
from m365proxy.errors import UsageError

NET = ipaddress.ip_network
BOXES = ["scanner@contoso.com", "alerts@contoso.com"]


@each(
    "read, value",
    [
        (lambda: spelling.tenant("Contoso.COM"), "contoso.com"),
        (lambda: spelling.tenant("5F0C8D3A-7f3e-4a52-9a55-0d6a1c6f1b11"), "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"),
        (lambda: spelling.address("Relay@Contoso.com"), "relay@contoso.com"),
        (lambda: spelling.addresses("a@contoso.com, b@contoso.com;a@contoso.com"), ("a@contoso.com", "b@contoso.com")),
        (lambda: spelling.chosen("all", BOXES), tuple(BOXES)),
        (lambda: spelling.chosen("yes", BOXES), tuple(BOXES)),
        (lambda: spelling.chosen("none", BOXES), ()),
        (lambda: spelling.chosen("n", BOXES), ()),
        (lambda: spelling.chosen("ALERTS@contoso.com", BOXES), ("alerts@contoso.com",)),
        (lambda: spelling.word("app", ("account", "application")), "application"),
        (lambda: spelling.networks("192.0.2.0/24 192.0.2.7"), (NET("192.0.2.0/24"), NET("192.0.2.7/32"))),
        (lambda: spelling.networks("none"), ()),
        (lambda: spelling.networks("-"), ()),
        (lambda: spelling.devices("here"), ()),
        (lambda: spelling.devices("127.0.0.1"), ()),
        (lambda: spelling.devices("any"), spelling.EVERYWHERE),
        (lambda: spelling.doors("25, 465 8465/tls", True), (Door(25), Door(465, True), Door(8465, True))),
        (lambda: spelling.doors("465/starttls", False), (Door(465),)),
        (lambda: spelling.doors("none", False), ()),
        (lambda: spelling.doors("0 0", False), (Door(0), Door(0))),
        (lambda: spelling.relays("192.0.2.7", BOXES), ((NET("192.0.2.7/32"), BOXES[0]),)),
        (lambda: spelling.relays("192.0.2.0/28=alerts@contoso.com", BOXES), ((NET("192.0.2.0/28"), BOXES[1]),)),
    ],
)
def test_what_is_understood(read, value):
    assert read() == value


@each(
    "read, sentence",
    [
        (lambda: spelling.tenant("admin@contoso.com"), 'Did you mean "contoso.com"?'),
        (lambda: spelling.tenant("https://contoso.com/x"), 'Did you mean "contoso.com"?'),
        (lambda: spelling.tenant("common"), "must name your own tenant"),
        (lambda: spelling.tenant("contoso"), "a tenant ID (GUID) or a domain of the tenant"),
        (lambda: spelling.tenant("00000000-0000-0000-0000-000000000000"), "the sample's"),
        (lambda: spelling.tenant("müller.example"), "Did you mean xn--mller-kva.example?"),
        (lambda: spelling.tenant("\udcfc.example"), "a tenant ID (GUID) or a domain of the tenant"),
        (lambda: spelling.address("scan@müller.example"), "Did you mean scan@xn--mller-kva.example?"),
        (lambda: spelling.address("relay", ["contoso.com"]), "Did you mean relay@contoso.com?"),
        (lambda: spelling.address("büro@contoso.com"), "It must be a mail address"),
        (lambda: spelling.address("\x1b[A"), r"\u001b[A"),
        (lambda: spelling.addresses("none"), "At least one is needed"),
        (lambda: spelling.chosen("alert@contoso.com", BOXES), "Did you mean alerts@contoso.com?"),
        (lambda: spelling.chosen("maybe", BOXES), "Type addresses, `all` or `none`."),
        (lambda: spelling.chosen("nope", BOXES[:1]), "Type `yes` or `no`."),
        (lambda: spelling.word("acount", ("account", "application")), "Did you mean account?"),
        (lambda: spelling.word("a", ("account", "application")), "Type account or application."),
        (lambda: spelling.networks("192.0.2.5/24"), "192.0.2.0/24 for the network"),
        (lambda: spelling.devices("none"), "`here` for this machine only"),
        (lambda: spelling.devices("lan"), "a network such as"),
        (lambda: spelling.doors("smtp", True), '"smtp" is no port.'),
        (lambda: spelling.doors("70000", True), "from 1 to 65535"),
        (lambda: spelling.doors("9" * 5000, True), "from 1 to 65535"),
        (lambda: spelling.doors("25/ssl", True), "is no port"),
        (lambda: spelling.doors("25 25/tls", True), "there twice"),
        (lambda: spelling.doors("465", False), "there is no certificate"),
        (lambda: spelling.relays("192.0.2.7=alert@contoso.com", BOXES), "Did you mean alerts@contoso.com?"),
        (lambda: spelling.login(""), "without spaces around it"),
    ],
)
def test_what_is_not_says_what_would_be(read, sentence):
    with pytest.raises(UsageError) as caught:
        read()
    assert sentence in str(caught.value) and len(str(caught.value)) < 300


@each("typed", ["here", "any", "192.0.2.0/24 fd00::/64", "192.0.2.7"])
def test_devices_are_spelled_as_they_are_read(typed):
    assert spelling.spell_devices(spelling.devices(typed)) == typed


@pytest.mark.parametrize("typed", ["465/starttls 8465/tls", "25 465 8465/tls 995", "none"])
def test_ports_are_spelled_as_they_are_read(typed):
    assert spelling.spell_doors(spelling.doors(typed, True)) == typed


@pytest.mark.parametrize("typed", ["192.0.2.7=scanner@contoso.com fd00::/64=alerts@contoso.com", "none"])
def test_relays_are_spelled_as_they_are_read(typed):
    assert spelling.spell_relays(spelling.relays(typed, BOXES)) == typed
