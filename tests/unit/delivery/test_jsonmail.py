"""What JSON and which attachments are made of a message too large for the MIME form."""

from __future__ import annotations

import base64
import io
import json
import tracemalloc
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from m365proxy.delivery import jsonmail
from m365proxy.errors import Permanent
from m365proxy.mime import prepare

HTML = '<p>hello <img src="cid:logo@contoso"></p>'


def compose(raw, recipients=("a@contoso.com",), **options):
    raw = raw.replace(b"\n", b"\r\n") if b"\r\n" not in raw else raw
    file = io.BytesIO(raw)
    prepared = prepare.prepare(
        file, recipients=recipients, sender="scanner@contoso.com", message_id="<made@contoso.com>", **options
    )
    return jsonmail.compose(prepared, file)


def compose_body(part):
    """Of a message that consists of a MIME object."""
    part["From"] = "scanner@contoso.com"
    return compose(bytes(part))


def multi(subtype, *parts):
    made = MIMEMultipart(subtype)
    for part in parts:
        made.attach(part)
    return made


def pdf(name="scan.pdf", content=b"%PDF \0\xff\r\n"):
    part = MIMEApplication(content, "pdf")
    part.add_header("Content-Disposition", "attachment", filename=name)
    return part


def image(content_id="<logo@contoso>", disposition="inline"):
    part = MIMEImage(b"\x89PNG", "png")
    part.add_header("Content-ID", content_id)
    part.add_header("Content-Disposition", disposition, filename="logo.png")
    return part


def text(content="hello", subtype="plain", **headers):
    part = MIMEText(content, subtype, "utf-8")
    for name, value in headers.items():
        part.add_header(name.replace("_", "-"), value)
    return part


def attached(content="notes"):
    return text(content, Content_Disposition="attachment; filename=notes.txt")


def forwarded():
    inner = EmailMessage()
    inner["Subject"] = "Old news"
    inner.set_content("inside")
    return MIMEMessage(inner)


def calendar():
    return text("BEGIN:VCALENDAR", "calendar")


def tnef():
    return MIMEApplication(b"\x78\x9f\x3e\x22", "ms-tnef", name="winmail.dat")


PLAIN, WEB = ("text", "hello"), ("html", HTML)

# name: (MIME, body, names of the attachments in order)
STRUCTURES = {
    "text": (text(), PLAIN, []),
    "html": (text(HTML, "html"), WEB, []),
    "other text": (text("hello", "x-log"), PLAIN, []),
    "text and file": (multi("mixed", text(), pdf()), PLAIN, ["scan.pdf"]),
    "file and text": (multi("mixed", pdf(), text()), PLAIN, ["scan.pdf"]),
    "alternative": (multi("alternative", text("plain"), text(HTML, "html")), WEB, []),
    "alternative, html first": (multi("alternative", text(HTML, "html"), text("plain")), WEB, []),
    "alternative of texts": (multi("alternative", text("poor"), text()), PLAIN, []),
    "alternative, html blank": (multi("alternative", text(), text(" \r\n", "html")), PLAIN, []),
    "alternative with files inside": (
        multi("alternative", text("plain"), multi("mixed", text(HTML, "html"), pdf())),
        WEB,
        ["scan.pdf"],
    ),
    "alternative with a file on the plain side": (
        multi("alternative", multi("mixed", text("plain"), pdf()), text(HTML, "html")),
        WEB,
        ["scan.pdf"],
    ),
    "alternative with calendar": (
        multi("alternative", text("plain"), text(HTML, "html"), calendar()),
        WEB,
        ["attachment1.ics"],
    ),
    "related": (multi("related", text(HTML, "html"), image()), WEB, ["logo.png"]),
    "the whole zoo": (
        multi("mixed", multi("alternative", text("plain"), multi("related", text(HTML, "html"), image())), pdf()),
        WEB,
        ["logo.png", "scan.pdf"],
    ),
    "two texts": (multi("mixed", text(), text("second"), pdf()), PLAIN, ["attachment1.txt", "scan.pdf"]),
    "text, then html": (multi("mixed", text(), text(HTML, "html")), PLAIN, ["attachment1.html"]),
    "blank text, then html": (multi("mixed", text("\n"), text(HTML, "html")), WEB, []),
    "two alternatives": (
        multi(
            "mixed",
            multi("alternative", text("plain"), text(HTML, "html")),
            multi("alternative", text("plain 2"), text("<p>2", "html")),
        ),
        WEB,
        ["attachment1.html"],
    ),
    "text file": (multi("mixed", text(), attached()), PLAIN, ["notes.txt"]),
    "only a text file": (multi("mixed", attached()), ("text", ""), ["notes.txt"]),
    "text file before the text": (multi("mixed", attached(), text()), PLAIN, ["notes.txt"]),
    "a named text is a file": (
        multi("mixed", text(), text("log", Content_Disposition="inline; filename=log.txt")),
        PLAIN,
        ["log.txt"],
    ),
    "only a file": (pdf(), ("text", ""), ["scan.pdf"]),
    "message": (multi("mixed", text(), forwarded()), PLAIN, ["Old news.eml"]),
    "digest": (multi("digest", forwarded(), forwarded()), ("text", ""), ["Old news.eml", "Old news.eml"]),
    "tnef": (multi("mixed", text(), tnef()), PLAIN, ["winmail.dat"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_body_and_files(name):
    part, (kind, content), names = STRUCTURES[name]
    mail = compose_body(part)
    assert (mail.message["body"]["contentType"], mail.message["body"]["content"].strip()) == (kind, content)
    assert [attachment.name for attachment in mail.attachments] == names


def test_every_leaf_is_somewhere_with_its_octets():
    parts = [text("a"), pdf("1.pdf", bytes(range(256)) * 300), pdf("2.pdf", b""), attached("x\r\ny=\t \r\n")]
    mail = compose_body(multi("mixed", *parts))
    contents = [b"".join(attachment.chunks()) for attachment in mail.attachments]
    assert contents == [bytes(range(256)) * 300, b"", b"x\r\ny=\t \r\n"]
    assert [attachment.size for attachment in mail.attachments] == list(map(len, contents))
    assert [attachment.content_type for attachment in mail.attachments] == ["application/pdf"] * 2 + ["text/plain"]
    assert b"".join(mail.attachments[0].chunks()) == contents[0], "every call begins again"


def test_attached_message_is_exact():
    inner = b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nX-Odd:   two  spaces \r\n\r\nbody \xe4\r\n\r\n"
    raw = (
        b"From: scanner@contoso.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
    )
    (attachment,) = compose(raw).attachments
    assert b"".join(attachment.chunks()) == inner
    assert (attachment.name, attachment.content_type) == ("Gr\u00fc\u00dfe.eml", "application/octet-stream")


@pytest.mark.parametrize(
    "html, inline",
    [
        ('<img src="cid:logo@contoso">', True),
        ("<img src=cid:LOGO@contoso>", True),
        ("<img src='CID:logo%40contoso'>", True),
        ("<img src=cid:logo&#64;contoso>", True),
        ('<td style="background:url(cid:logo@contoso)">', True),
        ('<img src="cid:other@contoso">', False),
        ("logo@contoso", False),
    ],
)
def test_inline_is_what_the_html_shows(html, inline):
    for disposition in ("inline", "attachment"):
        (found,) = compose_body(multi("related", text(html, "html"), image(disposition=disposition))).attachments
        assert (found.inline, found.content_id) == (inline, "logo@contoso")


def test_no_inline_without_html():
    (found,) = compose_body(multi("mixed", text("cid:logo@contoso"), image())).attachments
    assert not found.inline


@pytest.mark.parametrize(
    "head, octets, shown",
    [
        (b"text/plain; charset=utf-8", "Gr\u00fc\u00dfe \u20ac".encode(), "Gr\u00fc\u00dfe \u20ac"),
        (b"text/plain; charset=windows-1252", b"\x80 \xfc", "\u20ac \u00fc"),
        (b"text/plain; charset=utf-16", "\u20ac".encode("utf-16"), "\u20ac"),
        (b"text/plain; charset=shift_jis", "\u65e5\u672c".encode("shift_jis"), "\u65e5\u672c"),
        (b"text/plain; charset=no-such", "\u00fc".encode(), "\u00fc"),
        (b"text/plain; charset=us-ascii", b"\xfc", "\u00fc"),
        (b"text/plain", b"\xef\xbb\xbfx", "x"),
        (b"text/plain; charset=utf-8", b"Gr\xfc\xdfe", "Gr\u00fc\u00dfe"),
        (b"text/plain; charset=utf-8", b"\xc3\xbc\xffb", "\u00fc\ufffdb"),
        (b"text/plain", b"a\0b\x0b\x1bc\td", "abc\td"),
    ],
)
def test_charsets(head, octets, shown):
    raw = (
        b"From: scanner@contoso.com\r\nContent-Type: "
        + head
        + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(octets)
    )
    assert compose(raw).message["body"]["content"] == shown


@pytest.mark.parametrize("subtype, name", [("plain", "attachment1.txt"), ("html", "attachment1.html")])
@pytest.mark.parametrize("character", ["x", "\u00fc", "\u20ac", '"'])
def test_a_very_long_text_is_attached(subtype, name, character):
    content = character * (1_000_100 // len(character.encode()))
    mail = compose_body(multi("mixed", text(content, subtype), pdf()))
    assert mail.message["body"]["contentType"] == "text" and "attached" in mail.message["body"]["content"]
    assert [a.name for a in mail.attachments] == [name, "scan.pdf"]
    assert b"".join(mail.attachments[0].chunks()).decode() == content


@pytest.mark.parametrize("character", ["x", "\u20ac", '"', "\U0001f4e0"])
def test_the_largest_json_fits_a_request(character):
    part = text(character * (999_990 // len(character.encode())))
    part["From"] = "scanner@contoso.com"
    recipients = [f"{'x' * 50}{n}@{'d' * 60}.contoso.com" for n in range(1000)]
    part["To"] = ", ".join(f'"{character * 60}" <{address}>' for address in recipients)
    mail = compose(bytes(part), recipients)
    assert not mail.attachments
    assert len(json.dumps(mail.message, ensure_ascii=False).encode()) < 4_000_000


@pytest.mark.parametrize(
    "headers, name",
    [
        (b"Content-Type: application/pdf\n", "attachment1.pdf"),
        (b"Content-Type: application/x-odd\n", "attachment1"),
        (b"Content-Disposition: attachment\n", "attachment1"),
        (b"Content-Type: application/pdf; name*=utf-8''%E2%82%AC.pdf\n", "\u20ac.pdf"),
        (b'Content-Type: application/pdf; name="=?utf-8?q?=E2=82=AC=2Epdf?="\n', "\u20ac.pdf"),
        (b'Content-Type: application/pdf; name=" "\n', "attachment1.pdf"),
        (b'Content-Type: application/pdf; name="' + b"n" * 400 + b'.pdf"\n', "n" * 251 + ".pdf"),
        (b'Content-Type: application/pdf; name="a\x01\x0bb.pdf"\n', "a  b.pdf"),
        (b'Content-Type: message/rfc822; name="mail"\n', "mail.eml"),
        (b'Content-Type: message/rfc822; name="mail.EML"\n', "mail.EML"),
        (b"Content-Type: application/pdf; name=a.pdf\nContent-Transfer-Encoding: x-uuencode\n", "a.pdf.uue"),
    ],
)
def test_names(headers, name):
    raw = (
        b"From: scanner@contoso.com\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\n"
        + headers
        + b"\nxxx\n--b--\n"
    )
    (attachment,) = compose(raw).attachments
    assert attachment.name == name


def test_an_undeclared_file_is_no_text():
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename=x\n\nx\n--b--"
    assert compose(raw).attachments[0].content_type == "application/octet-stream"


def person(address, name=""):
    return {"emailAddress": {"address": address, **({"name": name} if name else {})}}


def test_properties():
    raw = (
        b"From: =?utf-8?q?Sc=C3=A4nner?= <scanner@contoso.com>\r\nTo: A <a@contoso.com>, out@example.org\r\n"
        b"Cc: c@contoso.com\r\nReply-To: Help <help@contoso.com>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Message-ID: <1@scanner>\r\nIn-Reply-To: <0@x>\r\nReferences: <-1@x>\r\n <0@x>\r\nX-Priority: 1 (Highest)\r\n"
        b"Disposition-Notification-To: scanner@contoso.com\r\nX-Mailer: Scan\r\nReceived: x\r\n\r\nhello\r\n"
    )
    mail = compose(raw, ["a@contoso.com", "c@contoso.com", "hidden@contoso.com"])
    assert mail.message == {
        "subject": "Gr\u00fc\u00dfe",
        "body": {"contentType": "text", "content": "hello\r\n"},
        "from": person("scanner@contoso.com", "Sc\u00e4nner"),
        "toRecipients": [person("a@contoso.com", "A")],
        "ccRecipients": [person("c@contoso.com")],
        "bccRecipients": [person("hidden@contoso.com")],
        "replyTo": [person("help@contoso.com", "Help")],
        "importance": "high",
        "isReadReceiptRequested": True,
        "internetMessageId": "<1@scanner>",
        "internetMessageHeaders": [{"name": "X-Mailer", "value": "Scan"}],
        "singleValueExtendedProperties": [
            {"id": "String 0x1042", "value": "<0@x>"},
            {"id": "String 0x1039", "value": "<-1@x> <0@x>"},
        ],
    }


def test_properties_of_almost_nothing():
    assert compose(b"\r\nhello").message == {
        "subject": "",
        "body": {"contentType": "text", "content": "hello"},
        "from": person("scanner@contoso.com"),
        "bccRecipients": [person("a@contoso.com")],
        "importance": "normal",
        "isReadReceiptRequested": False,
        "internetMessageId": "<made@contoso.com>",
    }


@pytest.mark.parametrize(
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
    assert compose(field + b"\r\n\r\nhello").message["importance"] == importance


def test_fields_without_a_property_of_their_own():
    head = b"List-Unsubscribe: <mailto:off@contoso.com>,\r\n <https://contoso.com/off>\r\nSensitivity: Private\r\n"
    assert compose(head + b"\r\nhello").message["singleValueExtendedProperties"] == [
        {"id": "String 0x1045", "value": "<mailto:off@contoso.com>, <https://contoso.com/off>"},
        {"id": "Integer 0x36", "value": "2"},
    ]
    assert "singleValueExtendedProperties" not in compose(b"Sensitivity: Normal\r\n\r\nhello").message


def test_five_x_fields_at_most_and_only_good_ones():
    lines = [b"X-Priority: 1", b"X-Empty:", b"X-MS-Exchange-Foo: 1", b"X-Original-To: a@b", b"List-Id: <l>"]
    lines += [b"X-A: =?utf-8?q?=E2=82=AC?=", b"x-a: again", b"X-B: 1", b"X-C: " + b"w " * 600, b"X-D: a\r\n\tb"]
    lines += [b"X-E: 1", b"X-F: 1", b"X-G: 1", b"X-H!: 1"]
    fields = compose(b"\r\n".join(lines) + b"\r\n\r\nhello").message["internetMessageHeaders"]
    assert [(field["name"], field["value"]) for field in fields] == [
        ("X-A", "\u20ac"),
        ("X-B", "1"),
        ("X-D", "a b"),
        ("X-E", "1"),
        ("X-F", "1"),
    ]


def test_a_long_thread_keeps_its_first_and_its_last():
    ids = [f"<{number}@{'x' * 40}>" for number in range(500)]
    mail = compose(b"References: " + "\r\n ".join(ids).encode() + b"\r\n\r\nhello")
    (references,) = mail.message["singleValueExtendedProperties"]
    kept = references["value"].split()
    assert len(references["value"]) <= 8000 and len(kept) > 100
    assert kept == [ids[0], *ids[-len(kept) + 1 :]]


def test_what_exchange_cannot_put_together_again_is_refused():
    body = b"--b\n\nx\n--b\nContent-Type: application/x-sig\n\ny\n--b--\n"
    with pytest.raises(Permanent, match="Signed or encrypted"):
        compose(b"From: scanner@contoso.com\nContent-Type: multipart/signed; boundary=b\n\n" + body)


def test_a_signed_file_is_a_file():
    invoice = MIMEApplication(b"\x30\x80", "pkcs7-mime", name="invoice.xml.p7m")
    invoice.add_header("Content-Disposition", "attachment", filename="invoice.xml.p7m")
    mail = compose_body(multi("mixed", text(), invoice))
    assert mail.attachments[0].name == "invoice.xml.p7m"


def test_memory_does_not_grow_with_the_attachment(tmp_path):
    with open(tmp_path / "mail", "w+b") as file:
        file.write(
            b"From: scanner@contoso.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
            b"Content-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        )
        for _ in range(16):
            file.write(base64.encodebytes(bytes(1024 * 1024)).replace(b"\n", b"\r\n"))
        file.write(b"--b--\r\n")
        prepared = prepare.prepare(file, recipients=["a@contoso.com"], sender="a@contoso.com", message_id="<1@a>")
        tracemalloc.start()
        try:
            (attachment,) = jsonmail.compose(prepared, file).attachments
            assert attachment.size == 16 * 1024 * 1024
            assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
        finally:
            tracemalloc.stop()
