"""Types, where the folders of tests/bad_configs do not reach."""

import ipaddress

import pytest
from cases import each

from m365proxy.config import types


@each(
    "type_, value, expected",
    [
        (types.ADDRESS, "O'Brien+x@Contoso.com", "o'brien+x@contoso.com"),
        (types.ADDRESS_PATTERN, "*@Contoso.com", "*@contoso.com"),
        (types.DOMAIN, "*", "*"),
        (types.NETWORK, "10.0.0.1", ipaddress.ip_network("10.0.0.1/32")),
        (types.NETWORK, "2001:DB8::/32", ipaddress.ip_network("2001:db8::/32")),
        (types.NETWORK, "::/0", ipaddress.ip_network("::/0")),
        (types.BindAddress(), "::0001", "::1"),
        (types.Number(1, 5), 2.5, 2.5),
        (types.Integer(1, 5), 5, 5),
        (types.Path("auto"), "auto", "auto"),
        (types.Choice("TLSv1", "TLSv1.2"), "tlsv1.2", "TLSv1.2"),
        (types.SentItems(), "delete_after_days:3650", 3650),
        (types.SentItems(), "keep", None),
        (types.ListOf(types.Integer(1, 5)), [], ()),
        (types.ListOf(types.Integer(1, 5)), 3, (3,)),
        (types.SecretText(), " a b ", " a b "),
        (types.Url("https"), "https://graph.microsoft.com/", "https://graph.microsoft.com"),
        (types.NoticeUrl(), "http://u:p@host:8080/a/?b={status}&c", "http://u:p@host:8080/a/?b={status}&c"),
    ],
)
def test_types_accept(type_, value, expected):
    assert type_(value) == expected


@each(
    "type_, value",
    [
        (types.ADDRESS, "a@b@contoso.com"),
        (types.ADDRESS, "a@contoso.com\n"),
        (types.ADDRESS, "ä@contoso.com"),
        (types.ADDRESS, "a@contoso..com"),
        (types.ADDRESS, "a" * 65 + "@contoso.com"),
        (types.ADDRESS, ""),
        (types.Text(), " ups"),
        (types.Text(), "a\u202eb"),
        (types.Text(), "\ud800"),
        (types.Text(), "a" * 1001),
        (types.SecretText(), "\ud800"),
        (types.Integer(0, 5), True),
        (types.Integer(0, 5), 1.0),
        (types.Number(0, 5), float("nan")),
        (types.Number(0, 5), float("inf")),
        (types.Number(0, 5), 10**400),
        (types.Number(0, 5), False),
        (types.Port(), -1),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBg==$" + "A" * 43 + "="),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBgc=$" + "A" * 42 + "=="),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBgc=$" + "*" * 44),
        (types.NETWORK, "10.0.0.0/8 "),
        (types.NETWORK, 10),
        (types.NETWORK, ""),
        (types.BindAddress(), None),
        (types.Date(), "2027-02-30"),
        (types.Date(), "2027-W13-1"),
        (types.SentItems(), "delete_after_days:"),
        (types.SentItems(), "delete_after_days:3651"),
        (types.Delete(), "move: "),
        (types.Url("https"), "https://"),
        (types.Url("https"), "https://host:99999"),
        (types.Url("https"), "https://[::1"),
        (types.Url("https"), "https://host/?q"),
        (types.Url("https"), "https://ho st"),
        (types.NoticeUrl(), "ntfy://host/topic"),
        (types.NoticeUrl(), "https:///topic"),
        (types.NoticeUrl(), "https://host/a b"),
        (types.NoticeUrl(), "https://host/?a\nb"),
        (types.NoticeUrl(), "https://host/#a"),
        (types.NoticeUrl(), "https://host/ä"),
        (types.NoticeUrl(), "https://host/" + "a" * 1000),
        (types.ListOf(types.ADDRESS), {"a": 1}),
        (types.THUMBPRINT, "g" * 40),
        (types.Path(), ""),
        (types.Path(), "a\nb"),
    ],
)
def test_types_refuse(type_, value):
    with pytest.raises(types.Mistake) as caught:
        type_(value)
    for _, predicate in caught.value.found:
        assert predicate.isprintable()
