"""The top header that the envelope decides."""

from __future__ import annotations

import io

import pytest
from cases import each

from m365proxy.errors import Permanent
from m365proxy.mime import addresses, header
from m365proxy.mime.topheader import TopHeader


def top(raw: bytes, recipients=("a@contoso.com", "b@contoso.com"), **options) -> TopHeader:
    options = {"sender": "scanner@contoso.com", "message_id": "<made@contoso.com>", "date": 0.0, **options}
    return TopHeader(header.read(io.BytesIO(raw)), recipients=recipients, **options)


def fields(raw: bytes, **options):
    """name -> list of unfolded values of what goes on the wire."""
    emitted = top(raw, **options).emit()
    result = {}
    for line in emitted.replace(b"\r\n ", b" ").decode("ascii").split("\r\n")[:-2]:
        name, _, value = line.partition(":")
        result.setdefault(name, []).append(value.strip())
    return result


def test_nothing_becomes_a_whole_header():
    assert top(b"").emit() == (
        b"From: scanner@contoso.com\r\nBcc: a@contoso.com, b@contoso.com\r\nSubject: \r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\nMessage-ID: <made@contoso.com>\r\n\r\n"
    )


RECIPIENTS = [
    ("all named", b"To: A@contoso.com\r\nCc: b@contoso.com\r\n", "a@contoso.com", "b@contoso.com", None, None, None),
    ("none named", b"", None, None, "a@contoso.com, b@contoso.com", None, None),
    ("one missing", b"To: a@contoso.com\r\n", "a@contoso.com", None, "b@contoso.com", None, None),
    ("one too many", b"To: a@contoso.com, c@x.org\r\n", "a@contoso.com", None, "b@contoso.com", "c@x.org", None),
    (
        "only others",
        b"To: c@x.org\r\nCc: D <d@x.org>\r\n",
        None,
        None,
        "a@contoso.com, b@contoso.com",
        "c@x.org",
        "d@x.org",
    ),
    ("empty group", b"To: undisclosed-recipients:;\r\n", None, None, "a@contoso.com, b@contoso.com", None, None),
    ("group", b"To: us: a@contoso.com, b@contoso.com;\r\n", "a@contoso.com, b@contoso.com", None, None, None, None),
    (
        "named twice",
        b"To: a@contoso.com, A@CONTOSO.COM\r\nCc: a@contoso.com\r\n",
        "a@contoso.com",
        None,
        "b@contoso.com",
        None,
        None,
    ),
    ("client's Bcc", b"Bcc: c@x.org, a@contoso.com\r\n", None, None, "a@contoso.com, b@contoso.com", None, None),
    (
        "two fields",
        b"To: a@contoso.com\r\nTO : b@contoso.com\r\n",
        "a@contoso.com, b@contoso.com",
        None,
        None,
        None,
        None,
    ),
    (
        "names",
        b'To: "Doe, J" <a@contoso.com>\r\nCc: J\xfc <b@contoso.com>\r\n',
        '"Doe, J" <a@contoso.com>',
        "=?utf-8?b?SsO8?= <b@contoso.com>",
        None,
        None,
        None,
    ),
    (
        "address as name",
        b'To: "c@x.org" <a@contoso.com>\r\nCc: =?utf-8?q?c=40x.org?= <b@contoso.com>\r\n',
        "a@contoso.com",
        "b@contoso.com",
        None,
        None,
        None,
    ),
    (
        "wide at sign",
        "To: c\uff20x.org <a@contoso.com>\r\nCc: b@contoso.com\r\n".encode(),
        "a@contoso.com",
        "b@contoso.com",
        None,
        None,
        None,
    ),
    (
        "encoded twice",
        b"To: =?utf-8?q?=3D=3Futf-8=3Fq=3Fc=3D40x.org=3F=3D?= <a@contoso.com>\r\nCc: b@contoso.com\r\n",
        "a@contoso.com",
        "b@contoso.com",
        None,
        None,
        None,
    ),
    (
        "resent",
        b"Resent-To: c@x.org\r\nResent-Bcc: d@x.org\r\nApparently-To: e@x.org\r\n",
        None,
        None,
        "a@contoso.com, b@contoso.com",
        None,
        None,
    ),
    ("forged note", b"X-Original-To: c@x.org\r\n", None, None, "a@contoso.com, b@contoso.com", None, None),
]


@each("raw, to, cc, bcc, was_to, was_cc", [row[1:] for row in RECIPIENTS], ids=[row[0] for row in RECIPIENTS])
def test_the_envelope_decides(raw, to, cc, bcc, was_to, was_cc):
    found = fields(raw + b"\r\n", recipients=["a@contoso.com", "b@contoso.com", "B@contoso.com"])
    expected = {"To": to, "Cc": cc, "Bcc": bcc, "X-Original-To": was_to, "X-Original-Cc": was_cc}
    for name, value in expected.items():
        got = found.pop(name, [None])
        assert [got[0] and got[0].lower()] == [value and value.lower()] and len(got) == 1, name
    assert set(found) == {"From", "Subject", "Date", "Message-ID"}


def test_a_reply_to_without_an_address_does_not_hide_the_author():
    found = fields(b"From: x@contoso.com\r\nReply-To: printer, broken@@z\r\n\r\n")
    assert found["Reply-To"] == ["x@contoso.com"]


def test_international_domains_travel_as_a_labels():
    found = fields("To: a@bücher.example\r\n\r\n".encode(), recipients=["A@BÜCHER.example"])
    assert found["To"] == ["A@xn--bcher-kva.example"]
    assert "Bcc" not in found
    found = fields("To: a@bücher.example\r\nFrom: b@bücher.example\r\n\r\n".encode())
    assert found["X-Original-To"] == ["a@xn--bcher-kva.example"]
    assert found["Reply-To"] == ["b@xn--bcher-kva.example"]


def test_a_domain_is_not_taken_for_one_that_looks_like_it():
    found = fields("To: U <u@straße.de>\r\n\r\n".encode(), recipients=["u@xn--strae-oqa.de"])
    assert found["To"] == ["U <u@xn--strae-oqa.de>"]
    assert "Bcc" not in found
    found = fields(b"To: u@strasse.de\r\n\r\n", recipients=["u@straße.de"])
    assert (found["Bcc"], found["X-Original-To"]) == (["u@xn--strae-oqa.de"], ["u@strasse.de"])


@each("bad", ["ü@contoso.com", "a", "a@b\r\nBcc: c@x.org", "a b@x.org", ""])
def test_an_address_no_header_can_hold_is_refused(bad):
    with pytest.raises(Permanent):
        top(b"", recipients=[bad])
    with pytest.raises(Permanent):
        top(b"", sender=bad)


def test_many_removed_addresses_are_noted_in_part():
    raw = b"To: " + b", ".join(b"user%d@example.net" % i for i in range(500)) + b"\r\n\r\n"
    note = fields(raw)["X-Original-To"][0]
    assert note.startswith("user0@example.net, user1@example.net") and note.endswith(", ...")
    assert len(note) < 1000


STRIPPED = (
    *("Sender", "Return-Path", "Received", "Delivered-To", "Envelope-To", "Resent-From", "Resent-Message-ID"),
    *("DKIM-Signature", "DomainKey-Signature", "ARC-Seal", "ARC-Message-Signature", "Authentication-Results"),
    *("X-MS-Exchange-Organization-SCL", "X-Microsoft-Antispam", "X-M365Proxy-Id", "Received-SPF"),
)


def test_stripped_and_kept_fields():
    raw = "".join(f"{name}: a@x.org\r\n" for name in STRIPPED)
    raw += (
        "Reply-To: r@x.org\r\nX-Second: 2\r\nReturn-Receipt-To: q@x.org\r\nx-second: 3\r\n"
        "Importance: High\r\nContent-Type: text/plain\r\nMIME-Version: 1.0\r\n\r\n"
    )
    emitted = top(raw.encode()).emit([b"MIME-Version: 1.0\r\n"])
    names = [line.partition(b":")[0].decode() for line in emitted.split(b"\r\n")[:-2]]
    assert names == [
        "From",
        "Bcc",
        "Subject",
        "Date",
        "Message-ID",
        "Reply-To",
        "X-Second",
        "Return-Receipt-To",
        "x-second",
        "Importance",
        "MIME-Version",
    ]


def test_each_field_once():
    raw = (
        b"Subject: one\r\nsubject: two\r\nDate: Mon, 2 Jan 2023 03:04:05 +0100\r\n"
        b"Date: Tue, 3 Jan 2023 03:04:05 +0100\r\n"
    )
    raw += b"Message-ID: <a@x>\r\nMessage-Id: <b@x>\r\nFrom: scanner@contoso.com\r\nFrom: scanner@contoso.com\r\n\r\n"
    found = fields(raw)
    assert found["Subject"] == ["one"]
    assert found["Date"] == ["Mon, 2 Jan 2023 03:04:05 +0100"]
    assert found["Message-ID"] == ["<a@x>"]
    assert found["From"] == ["scanner@contoso.com"]
    assert set(found) == {"From", "Bcc", "Subject", "Date", "Message-ID"}


AUTHORS = [
    (b"From: Scanner <scanner@contoso.com>\r\n", "Scanner <scanner@contoso.com>", None),
    (b"From: SCANNER@contoso.com\r\n", "SCANNER@contoso.com", None),
    (b'From: "scanner@contoso.com" <scanner@contoso.com>\r\n', "scanner@contoso.com", None),
    (b"", "scanner@contoso.com", None),
    (b"From: root\r\n", "scanner@contoso.com", None),
    (b"From: Fax <fax@device.example>\r\n", "Fax <scanner@contoso.com>", "Fax <fax@device.example>"),
    (b"From: a@x.org, B <scanner@contoso.com>\r\n", "B <scanner@contoso.com>", "a@x.org"),
    (b"From: a@x.org, scanner@contoso.com\r\nReply-To: r@x.org\r\n", "scanner@contoso.com", "r@x.org"),
    (b"From: a@x.org\r\nReply-To:\r\n", "scanner@contoso.com", "a@x.org"),
    (b'From: "a b"@x.org\r\n', "scanner@contoso.com", None),
]


@each("raw, author, reply_to", AUTHORS)
def test_author(raw, author, reply_to):
    found = fields(raw + b"\r\n")
    assert found["From"] == [author]
    assert found.get("Reply-To") == (reply_to and [reply_to])


def test_the_caller_says_who_may_be_author():
    found = fields(
        b"From: a@x.org, Bee <bee@contoso.com>\r\n\r\n", may_send_as=lambda address: address.endswith("@contoso.com")
    )
    assert found["From"] == ["Bee <bee@contoso.com>"]
    assert found["Reply-To"] == ["a@x.org"]


@each(
    "client, replace, expected",
    [
        (b"<a@x.org>", False, "<a@x.org>"),
        (b"<a@x.org>", True, "<made@contoso.com>"),
        (b"a@x.org", False, "<made@contoso.com>"),
        (b"<a>", False, "<made@contoso.com>"),
        (b"<a@x> <b@x>", False, "<made@contoso.com>"),
        (b"<\xe4@x>", False, "<made@contoso.com>"),
        (b"<" + b"a" * 500 + b"@x>", False, "<made@contoso.com>"),
    ],
)
def test_message_id(client, replace, expected):
    made = top(b"Message-ID: " + client + b"\r\n\r\n", replace_message_id=replace)
    assert made.message_id == expected
    assert b"\r\nMessage-ID: " + expected.encode() + b"\r\n" in made.emit()


@each(
    "client, ours, expected",
    [
        ("Mon, 2 Jan 2023 03:04:05 +0100", 0.0, "Mon, 2 Jan 2023 03:04:05 +0100"),
        ("2 Jan 23 03:04 GMT", 0.0, "Mon, 02 Jan 2023 03:04:00 +0000"),
        ("Mon, 2 Jan 2023 03:04:05 +0100 (CET)", None, "Mon, 2 Jan 2023 03:04:05 +0100 (CET)"),
        ("2023-01-02T03:04:05+01:00", 0.0, "Mon, 02 Jan 2023 03:04:05 +0100"),
        ("2023-01-02", 0.0, "Thu, 01 Jan 1970 00:00:00 +0000"),
        ("", 1_700_000_000.0, "Tue, 14 Nov 2023 22:13:20 +0000"),
        ("", None, None),
        ("yesterday", None, None),
    ],
)
def test_date(client, ours, expected):
    assert fields(b"Date: " + client.encode() + b"\r\n\r\n", date=ours).get("Date") == (expected and [expected])


def test_of_several_dates_the_first_that_can_be_read_counts():
    raw = b"Date: \r\nDate: 2 Jan 2023 03:04 EST\r\nDate: Tue, 3 Jan 2023 03:04:05 +0100\r\n\r\n"
    assert fields(raw)["Date"] == ["Mon, 02 Jan 2023 03:04:00 -0500"]


@pytest.mark.parametrize("has_tnef", [False, True])
def test_the_correlator_stays_where_a_winmail_dat_goes_along(has_tnef):
    found = fields(b"X-MS-TNEF-Correlator: <1@x>\r\nX-MS-Has-Attach: yes\r\n\r\n", has_tnef=has_tnef)
    assert found.get("X-MS-TNEF-Correlator") == (["<1@x>"] if has_tnef else None)
    assert "X-MS-Has-Attach" not in found


def test_reply_to_holds_only_what_can_be_answered():
    assert "Reply-To" not in fields(b"Reply-To: nobody\r\nFrom: scanner@contoso.com\r\n\r\n")
    assert fields(b"Reply-To: (hi) <r@x.org>\r\n\r\n")["Reply-To"] == ["hi <r@x.org>"]


def test_texts_for_the_other_route():
    made = top(b"To: =?utf-8?q?J=C3=BC?= <a@contoso.com>\r\nSubject: =?utf-8?q?=C3=A4?=\r\n b\r\n\r\n")
    assert made.subject == "ä b"
    assert made.to == [addresses.Mailbox("Jü", "a@contoso.com")]
    assert made.bcc == [addresses.Mailbox("", "b@contoso.com")]


@pytest.mark.parametrize("zone", ["Центральная Европа".encode("cp1251"), "Jõulud".encode("latin-1"), b"\xff\x80"])
def test_a_zone_named_in_any_language_leaves_the_moment(zone):
    raw = b"Date: Sat, 20 Sep 2008 20:04:30 +0300 (" + zone + b")\r\n\r\n"
    assert fields(raw, date=0.0)["Date"] == ["Sat, 20 Sep 2008 20:04:30 +0300"]
