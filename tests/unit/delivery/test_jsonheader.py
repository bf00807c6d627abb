"""Which properties the top header of large mail becomes, and what of it is left out."""

from __future__ import annotations

import io
import pathlib
import re

import pytest
from cases import each

from m365proxy.delivery import jsonheader, jsonmail
from m365proxy.mime import prepare


def header_of(raw, recipients=("a@contoso.com",)):
    """The Header of a message that is given whole, or by its header fields only."""
    raw = raw if b"\r\n\r\n" in raw else raw + b"\r\n\r\nhello"
    prepared = prepare.prepare(
        io.BytesIO(raw), recipients=recipients, sender="scanner@contoso.com", message_id="<made@contoso.com>"
    )
    return jsonheader.as_properties(prepared.top)


def person(address, name=""):
    return {"emailAddress": {"address": address, **({"name": name} if name else {})}}


def test_properties():
    raw = (
        b"From: =?utf-8?q?Sc=C3=A4nner?= <scanner@contoso.com>\r\nTo: A <a@contoso.com>, out@example.org\r\n"
        b"Cc: c@contoso.com\r\nReply-To: Help <help@contoso.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Message-ID: <1@scanner>\r\nIn-Reply-To: <0@x>\r\nReferences: <-1@x>\r\n <0@x>\r\nX-Priority: 1 (Highest)\r\n"
        b"Disposition-Notification-To: scanner@contoso.com\r\nX-Mailer: Scan\r\nReceived: x\r\n\r\nhello\r\n"
    )
    found = header_of(raw, ["a@contoso.com", "c@contoso.com", "hidden@contoso.com"])
    assert found.left_out == []
    assert found.properties == {
        "subject": "Gr\u00fc\u00dfe",
        "from": person("scanner@contoso.com", "Sc\u00e4nner"),
        "toRecipients": [person("a@contoso.com", "A")],
        "ccRecipients": [person("c@contoso.com")],
        "bccRecipients": [person("hidden@contoso.com")],
        "replyTo": [person("help@contoso.com", "Help")],
        "importance": "high",
        "isReadReceiptRequested": True,
        "isDeliveryReceiptRequested": False,
        "internetMessageId": "<1@scanner>",
        "internetMessageHeaders": [{"name": "X-Mailer", "value": "Scan"}],
        "singleValueExtendedProperties": [
            {"id": "String 0x1042", "value": "<0@x>"},
            {"id": "String 0x1039", "value": "<-1@x> <0@x>"},
        ],
    }


def test_properties_of_almost_nothing():
    assert header_of(b"\r\n\r\nhello").properties == {
        "subject": "",
        "from": person("scanner@contoso.com"),
        "bccRecipients": [person("a@contoso.com")],
        "importance": "normal",
        "isReadReceiptRequested": False,
        "isDeliveryReceiptRequested": False,
        "internetMessageId": "<made@contoso.com>",
    }


@each(
    "field, importance",
    [
        (b"Importance: High", "high"),
        (b"Importance: low", "low"),
        (b"Importance: normal", "normal"),
        (b"X-Priority: 2", "high"),
        (b"X-Priority: 3", "normal"),
        (b"X-Priority: 5 (Lowest)", "low"),
        (b"X-MSMail-Priority: High", "high"),
        (b"Priority: urgent", "high"),
        (b"Priority: non-urgent", "low"),
        (b"X-Priority: rubbish", "normal"),
    ],
)
def test_importance(field, importance):
    assert header_of(field).properties["importance"] == importance


def test_fields_without_a_property_of_their_own():
    head = b"List-Unsubscribe: <mailto:off@contoso.com>,\r\n <https://contoso.com/off>\r\nSensitivity: Private"
    assert header_of(head).properties["singleValueExtendedProperties"] == [
        {"id": "String 0x1045", "value": "<mailto:off@contoso.com>, <https://contoso.com/off>"},
        {"id": "Integer 0x36", "value": "2"},
    ]
    assert "singleValueExtendedProperties" not in header_of(b"Sensitivity: Normal").properties


@pytest.mark.parametrize("date", [b"Sat, 28 Nov 2026 00:30:00 +0100", b"2026-11-27T23:30:00Z"])
def test_the_date_is_the_time_of_submission(date):
    assert header_of(b"Date: " + date + b"\r\n").properties["singleValueExtendedProperties"] == [
        {"id": "SystemTime 0x0039", "value": "2026-11-27T23:30:00Z"}
    ]


def test_exchange_writes_its_own_correlator():
    found = header_of(b"X-MS-TNEF-Correlator: <1@x>\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\n")
    assert "internetMessageHeaders" not in found.properties
    assert found.left_out == ["X-MS-TNEF-Correlator"]


def test_five_x_fields_at_most_and_only_good_ones():
    lines = [b"X-Priority: 1", b"X-Empty:", b"X-MS-Exchange-Foo: 1", b"X-Original-To: a@b", b"List-Id: <l>"]
    lines += [b"X-A: =?utf-8?q?=E2=82=AC?=", b"x-a: again", b"X-B: 1", b"X-C: " + b"w " * 600, b"X-D: a\r\n\tb"]
    lines += [b"X-E: 1", b"X-F: 1", b"X-G: 1", b"X-H!: 1"]
    found = header_of(b"\r\n".join(lines))
    fields = found.properties["internetMessageHeaders"]
    assert [(field["name"], field["value"]) for field in fields] == [
        ("X-A", "\u20ac"),
        ("X-B", "1"),
        ("X-D", "a b"),
        ("X-E", "1"),
        ("X-F", "1"),
    ]
    assert found.left_out == ["X-Empty", "List-Id", "x-a (repeated)", "X-C", "X-G", "X-H!"]


def test_a_long_thread_keeps_its_first_and_its_last():
    ids = [f"<{number}@{'x' * 40}>" for number in range(500)]
    found = header_of(b"References: " + "\r\n ".join(ids).encode())
    (references,) = found.properties["singleValueExtendedProperties"]
    kept = references["value"].split()
    assert len(references["value"]) <= 8000 and len(kept) > 100
    assert kept == [ids[0], *ids[-len(kept) + 1 :]]
    assert found.left_out == ["middle of References"]


def test_the_five_are_those_of_most_use():
    own = [b"X-Ticket", b"X-Device", b"X-Customer"]
    notes = [b"X-Spam-Status", b"X-Google-Smtp-Source", b"X-PHP-Originating-Script", b"X-Virus-Scanned"]
    head = b"\r\n".join(name + b": 1" for name in [*notes, *own, b"X-Mailer", b"X-Loop"])
    found = header_of(head)
    names = [field["name"] for field in found.properties["internetMessageHeaders"]]
    assert names == ["X-Ticket", "X-Device", "X-Customer", "X-Mailer", "X-Loop"], "in the order of the message"
    assert found.left_out == [name.decode() for name in notes]


MANY_IDS = b" ".join(b"<%d@x>" % number for number in range(80_000))

# header fields -> what is left out of them
LEFT_OUT = {
    b"User-Agent: Mutt\r\nX-Mailer: Scan": ["User-Agent"],
    b"Auto-Submitted: auto-generated\r\nPrecedence: bulk\r\nComments: a": ["Auto-Submitted", "Precedence", "Comments"],
    b"List-Unsubscribe: <mailto:a@b>\r\nList-Unsubscribe-Post: One-Click": ["List-Unsubscribe-Post"],
    b"List-Unsubscribe: " + b" ".join([b"<https://contoso.com/%s>" % (b"x" * 300)] * 30): ["end of List-Unsubscribe"],
    b"Subject: " + b" ".join([b"word"] * 60): ["end of Subject"],
    b"Comments: a\r\ncomments: b\r\nX-A: 1\r\nX-A: 2\r\nX-B: 1\r\nX-B: 1": ["Comments", "comments", "X-A (repeated)"],
    b"In-Reply-To: <0@x>\r\nIn-Reply-To: <1@x>": ["In-Reply-To (repeated)"],
    b"In-Reply-To: your letter of Monday": ["In-Reply-To"],
    b"References: " + MANY_IDS: ["middle of References"],
    b"Sensitivity: Personal": [],
    b"Sensitivity: For your eyes only": ["Sensitivity"],
    b"Importance: high\r\nPriority: urgent\r\nX-Priority: 1\r\nX-MSMail-Priority: High": [],
    b"Disposition-Notification-To: Scanner <Scanner@contoso.com>": [],
    b"Disposition-Notification-To: boss@contoso.com": ["address in Disposition-Notification-To (receipts go to From)"],
    b"X-Confirm-Reading-To: boss@contoso.com": ["address in X-Confirm-Reading-To (receipts go to From)"],
    b"Return-Receipt-To: boss@contoso.com": ["address in Return-Receipt-To (receipts go to From)"],
    b"Reply-To: a@contoso.com\r\nReply-To: b@contoso.com": [],
    # taken out of every message, not of large mail only
    b"Received: x\r\nDKIM-Signature: x\r\nBcc: b@contoso.com\r\nX-MS-Foo: 1\r\nReturn-Path: <a@b>": [],
}


@pytest.mark.parametrize("head", LEFT_OUT, ids=lambda head: head[:30].decode())
def test_what_is_left_out_is_named(head):
    assert header_of(b"From: scanner@contoso.com\r\n" + head).left_out == LEFT_OUT[head]


@each(
    "head, read, delivery",
    [
        (b"Disposition-Notification-To: scanner@contoso.com", True, False),
        (b"Disposition-Notification-To: boss@contoso.com", True, False),
        (b"X-Confirm-Reading-To: scanner@contoso.com", True, False),
        (b"Return-Receipt-To: scanner@contoso.com", False, True),
        (b"Return-Receipt-To: nobody", False, False),
    ],
)
def test_receipts(head, read, delivery):
    found = header_of(b"From: scanner@contoso.com\r\n" + head).properties
    assert (found["isReadReceiptRequested"], found["isDeliveryReceiptRequested"]) == (read, delivery)


def rows_of_the_docs(title):
    """The cells of the table in docs/smtp.md whose header begins with this title."""
    docs = pathlib.Path(__file__).parents[3] / "docs" / "smtp.md"
    table = docs.read_text(encoding="utf-8").partition(f"\n| {title} | ")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


# TopHeader writes them from the envelope, or they are Graph's own.
BY_TOP_HEADER = {"from", "to", "cc", "bcc", "subject", "date", "message-id"}


def test_the_docs_name_the_fields_that_stay():
    rows = rows_of_the_docs("field")
    named = [name.lower() for fields, _ in rows for name in fields.split(", ") if "five" not in name]
    assert sorted(named) == sorted(BY_TOP_HEADER | {name.decode() for name in jsonheader.PROPERTIES})
    ((_, order),) = [row for row in rows if "five" in row[0]]
    first = [name.decode() for name in jsonheader.FIRST_X]
    assert re.findall(r"x-[a-z-]+(?=,| and| come)", order.lower().partition("first")[0]) == first
    last = re.findall(r"x-[a-z]+-(?=\u2026)", order.lower())
    assert last and {name.encode() for name in last} <= set(jsonheader.LAST_X)


def test_the_docs_name_what_the_log_line_may_say():
    said = {re.match(r"`([^`]+)`", row[0]).group(1) for row in rows_of_the_docs("in this line")}
    names = (
        "User-Agent",
        "X-Foo",
        "Subject",
        "References",
        "Return-Receipt-To",
        "plain text",
        "Content-Description",
        "format",
    )
    names += ("message/rfc822",)
    forms = ["{}", *(getattr(module, form) for module, form in FORMS)]
    assert {next(f for f in said if f in {form.format(name) for name in names}) for form in forms} == said
    assert len(said) == len(forms)


# Everything that is written into the line, where it is.
FORMS = [
    (module, name)
    for module in (jsonheader, jsonmail)
    for name in ("REPEATED", "CUT", "CUT_IDS", "OTHER_ADDRESS", "ALTERNATIVE", "ORDER", "INVITATION", "TEXT", "MESSAGE")
    + ("PART_FIELD", "PARAMETER")
    if hasattr(module, name)
]
