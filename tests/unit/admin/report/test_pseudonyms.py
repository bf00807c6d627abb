import ipaddress

import pytest

from m365proxy.admin.report.pseudonyms import Kind, Pseudonyms

TENANT = "11111111-2222-3333-4444-555555555555"
REQUEST = "0eca3216-3251-493e-84b7-aa98d1a9f87d"


@pytest.fixture
def known():
    pseudonyms = Pseudonyms()
    pseudonyms.mailbox("m.mueller@contoso.com")
    pseudonyms.hide("tr0ub4dor&3")
    pseudonyms.name(Kind.HOST, "nas01")
    pseudonyms.name(Kind.LOGIN, "Frau Özdemir")
    pseudonyms.path("/home/Max Mustermann/my config.json")
    pseudonyms.name(Kind.TENANT, TENANT)
    pseudonyms.network(ipaddress.ip_network("192.168.10.0/24"))
    return pseudonyms


CASES = [
    ("M.Mueller@CONTOSO.com", "mailbox-1@domain-1"),
    ("mailbox=m.mueller@contoso.com sender=x@y.example", "mailbox=mailbox-1@domain-1 sender=address-1@domain-2"),
    ("users/m.mueller%2540contoso.com/messages", "users/mailbox-1@domain-1/messages"),
    ("M.MUELLER of Contoso", "mailbox-1 of domain-1"),
    ("*@contoso.com", "*@domain-1"),
    ("TR0UB4DOR%263, xtr0ub4dor&3x, dHIwdWI0ZG9yJjM", "<secret>, x<secret>x, <secret>"),
    ("nas01 and nas011", "host-1 and nas011"),
    ("Frau\n  Özdemir, frau%20%C3%96zdemir, \u00d6ZDEMIR, O\u0308zdemir", "login-1, login-1, login-1, login-1"),
    ("/home/Max Mustermann/my config.json: no", "/home/name-1/name-2.json: no"),
    ("/etc/ssl/private/customer.pem.", "/etc/ssl/private/name-3.pem."),
    ("192.168.10.7, 192-168-10-7, ::ffff:192.168.10.7", "device-1, device-1, device-1"),
    ("192.168.10.1-192.168.10.7, client:192.168.10.7", "device-1-device-2, client:device-2"),
    ("192.168.010.007 ip-192-168-10-7 v192.168.10.7_x", "device-1 ip-device-1 vdevice-1_x"),
    ("[IPv6:2001:db8::1] IPv6:2001:db8::1 and 999.1.2.3", "[IPv6:device-1] IPv6:device-1 and name-3"),
    ("127.0.0.1 ::1 0.0.0.0 at 10:42:07", "127.0.0.1 ::1 0.0.0.0 at 10:42:07"),
    ("192.168.10.0/24 and 192.0.2.7/32 and 0.0.0.0/0", "network-1/24 and device-1 and 0.0.0.0/0"),
    ("https://u:p@proxy.contoso.com:3128/x.", "https://host-2:3128/...."),
    ("https://graph.microsoft.com/v1.0/users", "https://graph.microsoft.com/..."),
    (f"(request-id {REQUEST}) {REQUEST}", f"(request-id {REQUEST}) id-1"),
    (f"(request-id {TENANT})", "(request-id tenant-1)"),
    (
        "status.json, secret-plan.json, logging.file, urllib3.error",
        "status.json, name-3.json, logging.file, urllib3.error",
    ),
    ("nothing of anybody's", "nothing of anybody's"),
]


@pytest.mark.parametrize("text,expected", CASES)
def test_scrub(known, text, expected):
    assert known.scrub(text) == expected


@pytest.mark.parametrize("text", [text for text, _ in CASES])
def test_what_was_scrubbed_stays_as_it_is(known, text):
    once = known.scrub_foreign(text)
    assert known.scrub_foreign(once) == once


@pytest.mark.parametrize(
    "text,expected",
    [
        ("the folder 'Kunden A' is missing", "the folder '<text>' is missing"),
        ('not "hunter2"; the device\'s own', 'not "<text>"; the device\'s own'),
        ('put "tls": {"tls_cert": "auto"} there', 'put "tls": {"tls_cert": "auto"} there'),
        ("chmod o-rwx '/etc/x/key.pem'", "chmod o-rwx '/etc/name-3/key.pem'"),
        ('add "send_as": ["m.mueller@contoso.com"]', 'add "send_as": ["mailbox-1@domain-1"]'),
    ],
)
def test_what_a_foreign_text_quotes_goes(known, text, expected):
    assert known.scrub_foreign(text) == expected


def test_values_of_json(known):
    scrubbed = known.scrub_all({"m.mueller@contoso.com": ["nas01", 5, None, {"error": "tr0ub4dor&3"}]})
    assert scrubbed == {"mailbox-1@domain-1": ["host-1", 5, None, {"error": "<secret>"}]}


def test_words_of_ours_are_no_secrets(known):
    """A password that is one of these would be given away where it is missing."""
    known.hide("password")
    known.hide("abc")
    assert known.scrub("the password abc") == "the password abc"


def test_a_short_secret_is_found_as_a_word_only(known):
    known.hide("c4fe")
    assert known.scrub("c4fe xc4fex") == "<secret> xc4fex"


def test_the_legend_says_what_kind_of_device(known):
    known.scrub("192.168.10.7 and 8.8.8.8 and fe80::1")
    assert known.legend() == [
        "device-1: private IPv4, in network-1/24",
        "device-2: public IPv4",
        "device-3: private IPv6",
    ]
