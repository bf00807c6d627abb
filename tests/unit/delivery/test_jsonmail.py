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
from cases import each
from messages import flood

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


def calendar(**parameters):
    part = text("BEGIN:VCALENDAR", "calendar")
    for name, value in parameters.items():
        part.set_param(name, value)
    return part


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
        multi("alternative", text("plain"), text(HTML, "html"), calendar(method="REQUEST")),
        WEB,
        ["invite.ics"],
    ),
    "calendar to keep": (multi("mixed", text(), calendar()), PLAIN, ["attachment1.ics"]),
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


@each("name", STRUCTURES)
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
    assert [attachment.content_type for attachment in mail.attachments] == ["application/pdf"] * 2 + [
        "text/plain; charset=utf-8"
    ]
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


@each(
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


@each(
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
    content = flood(character, 1_000_100 // len(character.encode()))
    mail = compose_body(multi("mixed", text(content, subtype), pdf()))
    assert mail.message["body"]["contentType"] == "text" and "attached" in mail.message["body"]["content"]
    assert [a.name for a in mail.attachments] == [name, "scan.pdf"]
    assert b"".join(mail.attachments[0].chunks()).decode() == content


@pytest.mark.parametrize("character", ["x", '"', "\U0001f4e0"])
def test_the_largest_json_fits_a_request(character):
    part = text(flood(character, 999_990 // len(character.encode())))
    part["From"] = "scanner@contoso.com"
    recipients = [f"{'x' * 50}{n}@{'d' * 60}.contoso.com" for n in range(1000)]
    part["To"] = ", ".join(f'"{character * 60}" <{address}>' for address in recipients)
    mail = compose(bytes(part), recipients)
    assert not mail.attachments
    assert len(json.dumps(mail.message, ensure_ascii=False).encode()) < 4_000_000


@each(
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


def test_a_sound_file_in_uuencode_is_decoded():
    raw = b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 \xdc.bin\r\n#86)C\r\n`\r\nend\r\n"
    (file,) = compose(raw).attachments
    assert (file.name, file.content_type) == ("\u00dc.bin", "application/octet-stream")
    assert b"".join(file.chunks()) == b"abc"


@each(
    "octets, charset, shown",
    [
        ("T\u00fcr".encode("latin-1"), b"utf-8", "T\u00fcr"),
        ("T\u00fcr".encode(), b"iso-2022-jp", "T\u00fcr"),
        ("\u30c9\u30a2".encode("cp932"), b"iso-2022-jp", "\u30c9\u30a2"),
        ("\u30c9\u30a2".encode("iso-2022-jp"), b"us-ascii", "\u30c9\u30a2"),
        ("T\u00fcr".encode(), b"utf-16", "T\u00fcr"),
        ("T\u00fcr".encode()[:-1] + b" \xc3", b"utf-8", "T\u00fc \ufffd"),
    ],
)
def test_a_text_is_read_in_the_charset_it_is_in(octets, charset, shown):
    raw = b"Content-Type: text/plain; charset=" + charset + b"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + octets
    assert compose(raw).message["body"]["content"] == shown


def test_an_undeclared_file_is_no_text():
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment; filename=x\n\nx\n--b--"
    assert compose(raw).attachments[0].content_type == "application/octet-stream"


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


def with_field(part, name, value="x"):
    part[name] = value
    return part


def with_parameter(part, name, value):
    part.set_param(name, value)
    return part


ALTERNATIVE = multi("alternative", text("plain"), text(HTML, "html"))

# name: (MIME, what is left out of its parts)
LEFT_OUT = {
    "text and file": (multi("mixed", text(), pdf()), []),
    "alternative": (ALTERNATIVE, ["plain text alternative"]),
    "alternative, html first": (multi("alternative", text(HTML, "html"), text("plain")), ["plain text alternative"]),
    "alternative of texts": (multi("alternative", text("poor"), text()), ["plain text alternative"]),
    "alternative of htmls": (multi("alternative", text("<p>", "html"), text(HTML, "html")), ["HTML alternative"]),
    "alternative, one blank": (multi("alternative", text(), text(" \r\n", "html")), []),
    "file and text": (multi("mixed", pdf(), text()), ["order of text and files"]),
    "picture and text": (multi("related", image(), text(HTML, "html")), []),
    "two texts": (multi("mixed", text(), text("second"), pdf()), ["text (attached as a file)"]),
    "a text file": (multi("mixed", text(), attached()), []),
    "a very long text": (multi("mixed", text("x" * 1_000_100), pdf()), ["text (attached as a file)"]),
    "message": (multi("mixed", text(), forwarded()), ["message/rfc822 (attached as a file)"]),
    "parameters": (
        multi("mixed", with_parameter(text(), "format", "flowed"), with_parameter(pdf(), "x-unix-mode", "0644")),
        ["parameter format of a part", "parameter x-unix-mode of a part"],
    ),
    "only files": (multi("mixed", pdf(), pdf()), []),
    "invitation": (
        multi("alternative", text("plain"), text(HTML, "html"), calendar(method="REQUEST")),
        ["plain text alternative", "calendar part (attached as a file)"],
    ),
    "invitation as a file": (
        multi("mixed", text(), with_field(calendar(method="REQUEST"), "Content-Disposition", "attachment")),
        [],
    ),
    "calendar": (multi("mixed", text(), calendar()), []),
    "fields of parts": (
        multi(
            "mixed",
            text(),
            with_field(pdf(), "Content-Description"),
            with_field(pdf(), "X-Attachment-Id"),
            with_field(with_field(pdf(), "content-description"), "Content-Location"),
        ),
        ["Content-Description of a part", "X-Attachment-Id of a part"]
        + ["content-description of a part", "Content-Location of a part"],
    ),
    "fields of the whole": (with_field(multi("mixed", text(), pdf()), "Content-Language"), ["Content-Language"]),
}


@each("name", LEFT_OUT)
def test_what_is_left_out_of_the_parts_is_named(name):
    part, left_out = LEFT_OUT[name]
    assert list(compose_body(part).left_out) == left_out


def test_what_is_left_out_begins_with_the_header():
    part = multi("alternative", text("plain"), text(HTML, "html"))
    part["User-Agent"] = "Mutt"
    assert compose_body(part).left_out == ("User-Agent", "plain text alternative")


@each(
    "head, kind",
    [
        (b"text/calendar; charset=utf-8; method=REQUEST", "text/calendar; charset=utf-8; method=REQUEST"),
        (b'text/calendar; METHOD="reply"; component=VEVENT', "text/calendar; method=reply"),
        (b"text/csv; charset=windows-1252; header=present", "text/csv; charset=windows-1252"),
        (b'text/csv; charset="a;b\r\n c"', "text/csv"),
        (b"application/pdf; charset=utf-8", "application/pdf"),
    ],
)
def test_the_type_of_a_text_keeps_charset_and_method(head, kind):
    raw = b"From: a@contoso.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
    raw += b"Content-Type: " + head + b"\r\nContent-Disposition: attachment; filename=x\r\n\r\nx\r\n--b--\r\n"
    (attachment,) = compose(raw).attachments
    assert attachment.content_type == kind


def test_the_text_that_is_shown_has_the_line_ends_it_has_in_mime():
    raw = b"From: scanner@contoso.com\r\n\r\none\r\r\ntwo\nthree\rfour\r\n"
    assert compose(raw).message["body"]["content"] == "one\r\ntwo\r\nthree\r\nfour\r\n"


@each(
    "label, content, right",
    [
        ("; charset=utf-8", b"T\xfcr", "text/csv; charset=windows-1252"),
        ("; charset=utf-8", "T\u00fcr".encode(), "text/csv; charset=utf-8"),
        ("", "T\u00fcr".encode(), "text/csv; charset=utf-8"),
        ("; charset=iso-8859-2", b"T\xfcr", "text/csv; charset=iso-8859-2"),
        ("", b"Tuer", "text/csv"),
    ],
)
def test_a_text_that_is_a_file_is_labelled_with_the_charset_it_is_in(label, content, right):
    part = f"--b\r\nContent-Type: text/csv{label}\r\nContent-Disposition: attachment; filename=a.csv\r\n\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part.encode() + content + b"\r\n--b--\r\n"
    (file,) = compose(raw).attachments
    assert (file.content_type, b"".join(file.chunks())) == (right, content)
