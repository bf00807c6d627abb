"""Mail addresses and the patterns they are compared with."""

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st
from messages import flood

from m365proxy.mime import addresses


@each(
    "address, patterns, expected",
    [
        ("A@Contoso.com", ["a@contoso.com"], True),
        ("b@contoso.com", ["a@contoso.com"], False),
        ("b@contoso.com", ["*@Contoso.com"], True),
        ("b@sub.contoso.com", ["*@contoso.com"], False),
        ("b@evilcontoso.com", ["*@contoso.com"], False),
        ("b@contoso.com.evil.com", ["*@contoso.com"], False),
        ("@contoso.com", ["*@contoso.com"], False),
        ("contoso.com", ["*@contoso.com"], False),
        ("*@contoso.com", ["a@contoso.com"], False),
        ("", ["*@contoso.com"], False),
    ],
)
def test_address_matches(address, patterns, expected):
    assert addresses.address_matches(address, patterns) is expected


NAMES = [
    ('"Doe, John" <a@x.org>', "Doe, John"),
    (r'"J. \"Q\" Doe" <a@x.org>', 'J. "Q" Doe'),
    ("a@x.org (John Doe)", "John Doe"),
    ("=?utf-8?q?J=C3=BC?= =?utf-8?q?rgen?= <a@x.org>", "Jürgen"),
    ('"=?iso-8859-1?q?J=FCrgen?=" <a@x.org>', "Jürgen"),
    ("John Q. Doe <a@x.org>", "John Q. Doe"),
    ("a@x.org", ""),
    ("Doe, John <a@x.org>", "Doe, John"),
    ("MFP, 2nd floor, Building =?utf-8?q?=C3=96?= <a@x.org>", "MFP, 2nd floor, Building Ö"),
    ("printer, <a@x.org>", ""),
    ("Us: Doe, John <a@x.org>;", "Doe, John"),
    ("undisclosed; John <a@x.org>", "John"),
    ("Doe <>, John <a@x.org>", "Doe, John"),
    ("Doe <doe>, John <a@x.org>", "John"),
]


def test_a_name_ends_with_its_address():
    found = addresses.parse("Doe, John <a@x.org>, Jane <b@x.org>, c@x.org, (x) d@x.org")
    assert found == [("Doe, John", "a@x.org"), ("Jane", "b@x.org"), ("", "c@x.org"), ("x", "d@x.org")]


@each("text, name", NAMES)
def test_display_names_are_read(text, name):
    assert [mailbox.name for mailbox in addresses.parse(text)] == [name]


@pytest.mark.parametrize(
    "unit", ['"', "(", "<", '<\\"', '\\"', "a@", "a:", "=?utf-8?q?", '<"', "(\\", "a]", "[x]", '"a"@', "(a)", "a,"]
)
def test_hostile_lists_are_read_in_linear_time(unit):
    addresses.parse(flood(unit, 20_000))  # a quadratic reader needs minutes


@each("unit", ["@", "@[", "@a,", '@"', " @"])
def test_hostile_routes_are_read_in_linear_time(unit):
    assert addresses.parse("<" + flood(unit, 50_000) + ">, a@x.org")[-1].address == "a@x.org"


SPELLINGS = [
    ("<@relay.example,@[IPv6:::1]:a.b@x.org>", "a.b@x.org"),
    ('"a.b"@x.org', "a.b@x.org"),
    ('<"a.b"@x.org>', "a.b@x.org"),
    ('J <"a\\.b"@x.org>', "a.b@x.org"),
    ("a.b@x.org.", "a.b@x.org"),
    ('"J" <"a.b"@x.org.>', "a.b@x.org"),
    ("<a.b@x.org..>", "a.b@x.org."),
    ('<"a b"@x.org>', '"a b"@x.org'),  # "ab" is somebody else
    ("< a.b @ x.org >", "a.b@x.org"),
    ("<a.b@x.org>", "a.b@x.org"),
]


@each("text, address", SPELLINGS)
def test_an_address_is_read_in_its_plain_spelling(text, address):
    assert [mailbox.address for mailbox in addresses.parse(text)] == [address]


@each(
    "address, plain",
    [
        ('"a"@x.org', "a@x.org"),
        ('"a\\b"@x.org.', "ab@x.org"),
        ('"a b"@x.org.', '"a b"@x.org'),
        ('"a"b@x.org', '"a"b@x.org'),
        ('"a', '"a'),
        ("a.", "a."),
        ("", ""),
        ("a@x.org", "a@x.org"),
    ],
)
def test_plain(address, plain):
    assert addresses.plain(address) == plain


@each(
    "address, reason",
    [
        ("root", "it has no domain"),
        ("root@", "it has no domain"),
        ("m\u00fcller@contoso.com", "it has characters outside ASCII"),
        ("a@[10.0.0.1]", "it has an IP address in place of a domain"),
        ("a@ups_2.contoso.com", "its domain has an underscore"),
        ("a@contoso..com", "its domain is not valid"),
        ("a@(none)", "its domain is not valid"),
        ('"a b"@contoso.com', "it needs its quotes"),
        ("a b@contoso.com", "there is a blank in it"),
        ("@contoso.com", "what stands before the @ is not valid"),
        ("a@b@contoso.com", "what stands before the @ is not valid"),
        ("a" * 65 + "@contoso.com", "it is too long"),
        ("a@" + "b." * 150 + "com", "it is too long"),
    ],
)
def test_objection(address, reason):
    assert addresses.objection(address) == reason
    assert addresses.objection(address, smtputf8=True) == reason


PIECES = st.sampled_from(["a", "@", ".", '"', " ", "_", "[", "]", "-", "\u00fc", "\ud800", "a" * 70])


@given(st.lists(PIECES, max_size=9).map("".join))
def test_an_objection_is_made_to_what_is_not_valid(address):
    for smtputf8 in (True, False):
        assert bool(addresses.objection(address, smtputf8)) != addresses.valid_address(address, smtputf8)


@each(
    "address, plain, smtputf8",
    [
        ("a@contoso.com", True, True),
        ("a.b+c_d'e/f=g@sub.contoso.com", True, True),
        ("root@localhost", True, True),
        ("a@b@contoso.com", False, False),
        ("a", False, False),
        ("@contoso.com", False, False),
        ("a@", False, False),
        ("", False, False),
        ("a..b@contoso.com", False, False),
        (".a@contoso.com", False, False),
        ("a@contoso..com", False, False),
        ("a@-contoso.com", False, False),
        ("a@contoso.com.", False, False),
        ("a b@contoso.com", False, False),
        ("a\n@contoso.com", False, False),
        ("a@contoso.com\n", False, False),
        ("a\0@contoso.com", False, False),
        ('"a"@contoso.com', False, False),
        ("a,b@contoso.com", False, False),
        ("<a@contoso.com>", False, False),
        ("a@[192.0.2.1]", False, False),
        ("=?utf-8?q?a?=@contoso.com", False, False),
        ("a" * 65 + "@contoso.com", False, False),
        ("a@" + "b" * 64 + ".com", False, False),
        ("a@" + ".".join(["b" * 50] * 4) + "." + "c" * 48, True, True),  # 254 characters
        ("a@" + ".".join(["b" * 50] * 4) + "." + "c" * 49, False, False),
        ("a@b\u00fccher.example", False, True),
        ("\u00fc@contoso.com", False, False),
        ("a@.\u00fc", False, False),
        ("a@" + "\u00fc" * 400, False, False),
    ],
)
def test_valid_address(address, plain, smtputf8):
    assert addresses.valid_address(address) is plain
    assert addresses.valid_address(address, smtputf8=True) is smtputf8


def test_domain_of():
    assert addresses.domain_of("a@Contoso.COM") == "contoso.com"
    assert addresses.domain_of("a@b\u00fccher.example") == "xn--bcher-kva.example"
    assert addresses.domain_of("a") == ""


def test_a_domain_is_the_one_its_owner_registered():
    # Rules of 2003 would make strasse.de of it, which belongs to somebody else.
    assert addresses.domain_of("u@straße.de") == "xn--strae-oqa.de"
    assert addresses.domain_of("u@Straße.DE") == "xn--strae-oqa.de"
    assert addresses.domain_of("u@σίγμας.gr") == "σίγμας".encode("punycode").join((b"xn--", b".gr")).decode()
    assert not addresses.valid_address("u@☕.de", smtputf8=True)


@each(
    "domain",
    [
        "straße.de",
        "STRAẞE.de",
        "σίγμας.gr",
        "ΣΊΓΜΑΣ.gr",
        "BÜCHER.example",
        "bu\u0308cher.example",
        "ÅNGSTRÖM.se",
        "\u212bngstr\u00f6m.se",
        "例え。テスト",
        "ﾃｽﾄ.jp",
        "\uff43ontoso.com",
        "نامه\u200cای.ir",
        "ශ්\u200dරී.lk",
        "президент.рф",
    ],
)
def test_a_domain_is_written_as_the_library_of_requests_writes_it(domain):
    import idna

    # Its older tables know no capital ß.
    expected = idna.encode(domain, uts46=True).decode().replace("strasse", "xn--strae-oqa")
    assert addresses.domain_of(f"u@{domain}") == expected
    assert addresses.valid_address(f"u@{domain}", smtputf8=True)


@each(
    "domain",
    ["evil\uff20contoso.com", "evil\uff0fcontoso.com", "a℀b.com", "a b.cöm", "ü\u00ad.com", "ü.com.", "ü\ud800"],
)
def test_a_domain_that_nobody_can_register_is_not_valid(domain):
    assert not addresses.valid_address(f"u@{domain}", smtputf8=True)
    assert addresses.domain_of(f"u@{domain}") != "contoso.com"


def test_of_a_list_without_end_so_many_are_read():
    text = ", ".join(f"a@\u00fc{number}.de" for number in range(6000))
    assert [mailbox.address for mailbox in addresses.parse(text)] == [f"a@\u00fc{number}.de" for number in range(5000)]


@pytest.mark.parametrize("domain", ["\ufdfa" * 200, "\u00fc" * 240, "\ufdfa" * 14 + ".de"])
def test_a_domain_that_is_too_long_is_not_converted(monkeypatch, domain):
    monkeypatch.setattr(addresses, "_punycode", lambda label: pytest.fail("converted"))
    assert not addresses.valid_address(f"a@{domain}", smtputf8=True)
