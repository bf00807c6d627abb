import base64
import re
import urllib.parse

import pytest
from cases import each

from m365proxy.admin.report import forms

FORMS = forms.compiled([], [])
GUID = "0eca3216-3251-493e-84b7-aa98d1a9f87d"


def found(text):
    return [(match.lastgroup, match.group()) for match in FORMS.finditer(text)]


@each(
    "text,expected",
    [
        ("to x@contoso.com, y@[192.0.2.1]", [("address", "x@contoso.com"), ("address", "y@[192.0.2.1]")]),
        ("users/x%40contoso.com/messages", [("address", "x%40contoso.com")]),
        ('"Max M"@contoso.com', [("address", '"Max M"@contoso.com')]),
        ("https://u:p@proxy:3128/x y", [("url", "https://u:p@proxy:3128/x")]),
        ("192.0.2.7:25 at 10:42:07", [("ip", "192.0.2.7"), ("ip", "10:42:07")]),
        ("[2001:db8::7]:25 and fe80::1%eth0", [("ip", "2001:db8::7"), ("ip", "fe80::1%eth0")]),
        ("192.0.2.0/24", [("ip", "192.0.2.0/24")]),
        ("00:1b:a9:01:02:03", [("ip", "00:1b:a9:01:02:03")]),
        (f"tenant {GUID}", [("guid", GUID)]),
        (f"(request-id {GUID})", [("kept", f"request-id {GUID}")]),
        ("id=20261129T094207-94bb5edb358a-fad91c20", [("kept", "20261129T094207-94bb5edb358a-fad91c20")]),
        ("hash scrypt$16384$8$1$abc=$def=", [("hash", "scrypt$16384$8$1$abc=$def=")]),
        ("a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY----- b", None),
        ("see /srv/mail/x.pem: no", [("path", "/srv/mail/x.pem")]),
        (r"see C:\Users\Hans\x", [("path", r"C:\Users\Hans\x")]),
        ("at nas.intern.contoso.com.", [("host", "nas.intern.contoso.com")]),
        ("A1B2C3D4E5F60718293A4B5C6D7E8F9001122334", [("opaque", "A1B2C3D4E5F60718293A4B5C6D7E8F9001122334")]),
        ("of mailbox-1@domain-2 and <secret>", [("own", "mailbox-1@domain-2"), ("own", "<secret>")]),
        ("queue.retry_interval is 5; SMTP/POP3 and 1.5 MB of TLSv1.2", []),
        ("connections_per_client_and_more_of_it", []),
    ],
)
def test_forms(text, expected):
    if expected is None:
        assert [kind for kind, _ in found(text)] == ["key"]
    else:
        assert found(text) == expected


def test_base64_of_any_length_is_opaque():
    for octets in (b"\0user\0a longer password", bytes(range(200))):
        text = base64.b64encode(octets).decode()
        assert found(f"AUTH PLAIN {text} x") == [("opaque", text)]


@each("name", ["a b/c", "Özdemir", "x\ty", 'say "x"', "100%", "half\ud800"])
def test_a_name_is_found_however_it_is_spelled(name):
    pattern = re.compile(forms.word(forms.spelled(name)), re.IGNORECASE)
    quoted = urllib.parse.quote(name, "", errors="surrogatepass")
    for spelled in (name.upper(), name, quoted, name.replace(" ", "\n   ")):
        assert pattern.search(f"({spelled})"), spelled


def test_the_longer_one_goes_first():
    assert re.match(forms.any_of(["ab", "abc"]), "abcd").group() == "abc"
    assert not re.search(forms.any_of([]), "anything")


@each(
    "word,expected",
    [("mailbox-1", True), ("network-2/24", True), ("name-3.pem", True), ("5.7.1", True), ("->", True), ("x", False)],
)
def test_harmless_words(word, expected):
    assert forms.is_harmless(word) is expected


def test_words_of_json():
    assert forms.words('{"tls": ["<secret>", "x y"]}') == ["tls", "<secret>", "x", "y"]


@pytest.mark.parametrize("text,expected", [("192.0.2.1", True), ("fe80::1%eth0", True), ("1.2.3", False)])
def test_is_ip(text, expected):
    assert forms.is_ip(text) is expected
