"""Header blocks as devices write them, and fields as they are sent."""

from __future__ import annotations

import email
import email.policy
import io

import pytest
from cases import each

from m365proxy.mime import addresses, charsets, header, words


def read(raw: bytes, **options) -> header.Block:
    return header.read(io.BytesIO(raw), **options)


def pairs(block: header.Block):
    return [(field.name, field.value) for field in block.fields]


# What is read: octets, fields, octets of the body.
BLOCKS = [
    ("crlf", b"Subject: x\r\nTo: y\r\n\r\nbody", [(b"Subject", b"x"), (b"To", b"y")], b"body"),
    ("lf", b"Subject: x\nTo: y\n\nbody", [(b"Subject", b"x"), (b"To", b"y")], b"body"),
    ("cr", b"Subject: x\rTo: y\r\rbody", [(b"Subject", b"x"), (b"To", b"y")], b"body"),
    ("double cr", b"Subject: x\r\r\nTo: y\r\r\n\r\r\nbody", [(b"Subject", b"x"), (b"To", b"y")], b"body"),
    ("folded", b"Subject: a\r\n b\r\n\tc\r\n\r\n", [(b"Subject", b"a\r\n b\r\n\tc")], b""),
    ("folded, lf", b"Subject: a\n b\n\n", [(b"Subject", b"a\r\n b")], b""),
    ("folded behind the colon", b"Subject:\r\n a\r\n\r\n", [(b"Subject", b"a")], b""),
    ("blank continuation", b"Subject: a\r\n  \r\n b\r\n\r\nx", [(b"Subject", b"a\r\n b")], b"x"),
    ("no space", b"Subject:x\r\n\r\n", [(b"Subject", b"x")], b""),
    ("space before the colon", b"Subject : x\r\n\r\n", [(b"Subject", b"x")], b""),
    ("raw octets", b"Subject: \xe4\0\r\n\r\n", [(b"Subject", b"\xe4\0")], b""),
    ("lone cr inside", b"Subject: a\rb\r\nTo: y\r\n\r\n", [(b"Subject", b"a\rb"), (b"To", b"y")], b""),
    ("mbox line", b"From x Mon\r\nSubject: x\r\n\r\nb", [(b"Subject", b"x")], b"b"),
    ("byte order mark", b"\xef\xbb\xbfSubject: x\r\n\r\n\xef\xbb\xbfb", [(b"Subject", b"x")], b"\xef\xbb\xbfb"),
    ("byte order mark and mbox line", b"\xef\xbb\xbfFrom x\nSubject: x\n\nb", [(b"Subject", b"x")], b"b"),
    ("byte order mark of a text", b"\xef\xbb\xbfHello\r\n", [], b"\xef\xbb\xbfHello\r\n"),
    ("quoted mbox line", b">From x Mon\r\nSubject: x\r\n\r\nb", [(b"Subject", b"x")], b"b"),
    ("continuation first", b" lost\r\nSubject: x\r\n\r\nb", [(b"Subject", b"x")], b"b"),
    ("junk between", b"Subject: x\r\njunk\r\n more\r\nTo: y\r\n\r\nb", [(b"Subject", b"x"), (b"To", b"y")], b"b"),
    ("bad names", b"A b: x\r\nX\xff: y\r\nTo: z\r\n\r\n", [], b"A b: x\r\nX\xff: y\r\nTo: z\r\n\r\n"),
    ("bad name inside", b"To: z\r\nA b: x\r\nX\xff: y\r\nCc: z\r\n\r\n", [(b"To", b"z"), (b"Cc", b"z")], b""),
    ("no blank line", b"Subject: x\r\nHello\r\nyou\r\n", [(b"Subject", b"x")], b"Hello\r\nyou\r\n"),
    ("no blank line before the text", b"Subject: x\r\nHello\r\n\r\nyou", [(b"Subject", b"x")], b"Hello\r\n\r\nyou"),
    ("no header", b"Hello\r\n\r\nSubject: x\r\n", [], b"Hello\r\n\r\nSubject: x\r\n"),
    ("no header, indented", b"  Hello\r\n\r\nyou", [], b"  Hello\r\n\r\nyou"),
    ("blank line first", b"\r\nSubject: x\r\n", [], b"Subject: x\r\n"),
    ("nothing", b"", [], b""),
    ("no line end", b"Subject: x", [(b"Subject", b"x")], b""),
    ("empty value", b"Subject:\r\nTo: y\r\n\r\n", [(b"Subject", b""), (b"To", b"y")], b""),
]


@each("raw, fields, body", [row[1:] for row in BLOCKS], ids=[row[0] for row in BLOCKS])
def test_read(raw, fields, body):
    block = read(b"before" + raw, offset=6)
    assert pairs(block) == fields
    assert (b"before" + raw)[block.body :] == body


@each(
    "raw, sound",
    [
        (b"A: x\r\nB: y\r\n z\r\n\r\n", True),
        (b"\r\n", True),
        (b"A: x\r\njunk\r\nB: y\r\n\r\n", False),
        (b"A: x\r\n", False),
        (b"A:\r\n x\r\n\r\n", False),
        (b"A : x\r\n\r\n", False),
        (b"A: x\r\n \r\n\r\n", False),
        (b"\xef\xbb\xbfA: x\r\n\r\n", False),
        (b"text", False),
    ],
)
def test_sound_only_if_nothing_was_supposed(raw, sound):
    assert read(raw).sound is sound


def test_read_stops_at_the_end_it_is_given():
    block = read(b"A: x\r\nB: y\r\n\r\n", end=6)
    assert pairs(block) == [(b"A", b"x")]
    assert block.body == 6


def test_header_limit():
    line = b"X-A: " + b"a" * 70 + b"\r\n"
    fits = line * 10 + b"\r\n"
    assert len(read(fits, limit=len(fits)).fields) == 10
    with pytest.raises(header.HeaderTooLarge):
        read(line * 11 + b"\r\n", limit=len(fits))
    # Text without header has no header that could be too large.
    assert read(b"just text " * 100_000, limit=1000).body == 0


def test_header_longer_than_a_read():
    raw = b"".join(b"X-%d: %s\r\n" % (i, b"v" * 60) for i in range(2000)) + b"\r\nbody"
    block = read(raw)
    assert len(block.fields) == 2000
    assert raw[block.body :] == b"body"


FROMS = [
    (b"a@contoso.com", ["a@contoso.com"]),
    (b"<a@contoso.com>", ["a@contoso.com"]),
    (b'"Doe, John" <a@contoso.com>', ["a@contoso.com"]),
    (b'"b@x.org" <a@contoso.com>', ["a@contoso.com"]),
    (b"b@x.org <a@contoso.com>", ["a@contoso.com"]),
    (b"=?utf-8?q?Doe=2C_J=C3=BC?= <a@contoso.com>", ["a@contoso.com"]),
    (b"=?utf-8?q?J=C3=BC?=\r\n =?utf-8?q?rgen?=\r\n <a@contoso.com>", ["a@contoso.com"]),
    (b"J\xfcrgen <a@contoso.com>", ["a@contoso.com"]),
    (b"a@contoso.com (Doe, John <x@y>)", ["a@contoso.com"]),
    (b"a@contoso.com, b@contoso.com", ["a@contoso.com", "b@contoso.com"]),
    (b"a@contoso.com; b@contoso.com", ["a@contoso.com", "b@contoso.com"]),
    (b"a@contoso.com b@contoso.com", ["a@contoso.com", "b@contoso.com"]),
    (b"One <a@contoso.com> Two <b@contoso.com>", ["a@contoso.com", "b@contoso.com"]),
    (b"Us: a@contoso.com, B <b@contoso.com>;, c@x.org", ["a@contoso.com", "b@contoso.com", "c@x.org"]),
    (b"undisclosed-recipients:;", []),
    (b"<@relay.x.org,@y.org:a@contoso.com>", ["a@contoso.com"]),
    (b"< a . b @ contoso.com >", ["a.b@contoso.com"]),
    (b"a @ contoso.com", ["a@contoso.com"]),
    (b"a(comment)@contoso.com", ["a@contoso.com"]),
    (b'"a"@contoso.com', ["a@contoso.com"]),
    (b'"a b"@contoso.com', ['"a b"@contoso.com']),
    (b'"a@contoso.com"', ["a@contoso.com"]),
    (b"=?utf-8?q?Scan_=3Ca=40contoso=2Ecom=3E?=", ["a@contoso.com"]),
    (b"<Mailto:a@contoso.com>", ["a@contoso.com"]),
    (b"mailto:a@contoso.com", ["a@contoso.com"]),
    (b"Scanner <a@contoso.com", ["a@contoso.com"]),
    (b'"Scanner <a@contoso.com>', ["a@contoso.com"]),
    (b"Scanner (2nd floor <a@contoso.com>", ["a@contoso.com"]),
    (b"<<a@contoso.com>>", ["a@contoso.com"]),
    (b'<"a"@contoso.com>', ["a@contoso.com"]),
    (b'<"a>b"@contoso.com>', ['"a>b"@contoso.com']),
    (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
    (b"<>", []),
    (b"Scanner <>", []),
    (b"root", []),
    (b"", []),
    (b",,;;::", []),
]


@each("value, expected", FROMS)
def test_from_addresses(value, expected):
    assert header.from_addresses(read(b"From: " + value + b"\r\n\r\n")) == expected


def test_from_addresses_of_every_from_field():
    assert header.from_addresses(read(b"From: a@x.org\r\nfrom : b@x.org\r\n\r\n")) == ["a@x.org", "b@x.org"]
    assert header.from_addresses(read(b"Sender: a@x.org\r\n\r\n")) == []


EMITTED = [
    ("some not valid", b"Reply-To", b"printer, <x@y.de>, broken@@z", b"Reply-To: x@y.de\r\n"),
    ("all valid", b"Reply-To", b"X <x@y.de>, z@y.de", b"Reply-To: X <x@y.de>, z@y.de\r\n"),
    ("as it is", b"Subject", b"plain =?utf-8?q?=C3=A4?= text", b"Subject: plain =?utf-8?q?=C3=A4?= text\r\n"),
    ("folds stay", b"X-A", b"a\r\n\t b", b"X-A: a\r\n\t b\r\n"),
    ("long but legal", b"X-A", b"a " * 400 + b"b", b"X-A: " + b"a " * 400 + b"b\r\n"),
    ("utf-8", b"Subject", "Störung".encode(), b"Subject: =?utf-8?q?St=C3=B6rung?=\r\n"),
    ("windows-1252", b"Subject", b"St\xf6rung \x80", b"Subject: =?utf-8?b?U3TDtnJ1bmcg4oKs?=\r\n"),
    ("one word of many", b"Subject", b"Die St\xf6rung ist weg", b"Subject: Die =?utf-8?q?St=C3=B6rung?= ist weg\r\n"),
    ("nul and cr", b"Subject", b"a\0b\rBcc: x", b"Subject: a b Bcc: x\r\n"),
    ("hidden line end", b"Subject", b"=?utf-8?q?a=0D=0ABcc:_b?=", b"Subject: =?utf-8?q?a__Bcc=3A_b?=\r\n"),
    ("empty", b"Subject", b"", b"Subject: \r\n"),
    ("addresses", b"Reply-To", b"J\xfc <a@x.org>, b@x.org", b"Reply-To: =?utf-8?b?SsO8?= <a@x.org>, b@x.org\r\n"),
    ("comma in a name", b"Reply-To", b'"D\xfc, J" <a@x.org>', b"Reply-To: =?utf-8?b?RMO8LCBK?= <a@x.org>\r\n"),
    ("domain", b"Reply-To", "a@b\u00fccher.example".encode(), b"Reply-To: a@xn--bcher-kva.example\r\n"),
    ("references", b"References", b"<a@x>\r\n\t\r\n  <b@x>", b"References: <a@x> <b@x>\r\n"),
    ("encoded reference", b"In-Reply-To", b"=?us-ascii?q?=3Ca=40x=3E?=", b"In-Reply-To: <a@x>\r\n"),
]


@each("name, value, expected", [row[1:] for row in EMITTED], ids=[row[0] for row in EMITTED])
def test_emit(name, value, expected):
    assert header.emit(header.Field(name, value)) == expected


@each(
    "value",
    [
        b"x" * 5000,
        b"word " * 1000,
        b"word " + b"x" * 2000,
        b"word\r\n " + b"word " * 600,
        b"a" + b" " * 3000 + b"b",
        "ü".encode() * 2000,
        "日本語 テキスト ".encode() * 100,
        b"\xff" * 1000,
        b"=?utf-8?q?" + b"a" * 3000 + b"?=",
        "ascii ü ascii ".encode() * 100,
        b"a\r\n" + b" " * 990 + b"\r\n b",
        "a \u202ecod.exe".encode(),
        b"=?utf-7?q?+2AA-?= b",
    ],
)
def test_emitted_fields_can_be_read_by_anybody(value):
    line = header.emit(header.Field(b"Subject", value))
    assert line.isascii() and line.endswith(b"\r\n")
    assert all(len(part) <= 998 and part.strip() for part in line[:-2].split(b"\r\n"))
    assert all(part[:1] in (b" ", b"\t") for part in line[:-2].split(b"\r\n")[1:])
    wanted = words.clean(words.decode(charsets.text(value.replace(b"\r\n", b""))))
    shown = email.message_from_bytes(line + b"\r\n", policy=email.policy.default)["Subject"]
    assert " ".join(shown.split()) == " ".join(wanted.replace("\x81", " ").split())


def test_folded_where_it_can_be():
    lines = header.emit(header.Field(b"Subject", ("ü " + "word " * 60).encode())).split(b"\r\n")
    assert len(lines) > 4
    assert max(map(len, lines)) <= 78


def test_an_international_address_is_converted_once_for_each_pass(monkeypatch):
    """A list longer than what is remembered: the conversion of each must not be done for every question about it."""
    converted = []
    monkeypatch.setattr(addresses, "_punycode", lambda label: converted.append(label) or f"x{len(converted)}")
    raw = "Reply-To: " + ",\r\n ".join(f"a@\u00fc{number}.de" for number in range(3000)) + "\r\n\r\n"
    block = header.read(io.BytesIO(raw.encode()))
    header.emit(block.all("Reply-To")[0])
    assert len(converted) == 3000


def test_many_fields_are_not_a_way_round_the_end_of_a_list():
    block = read(("To: " + ", ".join(f"a{number}@b.de" for number in range(3000)) + "\r\n").encode() * 4 + b"\r\n")
    assert len(block.mailboxes("To")) == 6000
