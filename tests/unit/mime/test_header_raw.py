"""Header text that is not as RFC 5322 wants it: charset by field, on both ways to Graph.

The reader of what goes out as MIME is Python's own.
"""

from __future__ import annotations

import email
import email.header
import email.policy
import io

from cases import each

from m365proxy.delivery import jsonmail
from m365proxy.mime import prepare

# What the first text declares; what the header is in; text that only this charset can write.
CHARSETS = [
    ("", "utf-8", "Gerät"),
    ("", "cp1252", "Gerät – 5 €"),
    ("utf-8", "cp1252", "Gerät"),
    ("us-ascii", "cp1252", "Gerät"),
    ("made-up", "cp1252", "Gerät"),
    ("utf-16", "cp1252", "Gerät"),
    ("iso-8859-1", "cp1252", "Gerät – 5 €"),
    ("iso-8859-2", "iso8859_2", "Příloha č. 1"),
    ("windows-1250", "cp1250", "Příloha č. 1 – žluť"),
    ("windows-1251", "cp1251", "Движение"),
    ("koi8-r", "koi8_r", "Движение"),
    ("iso-8859-9", "cp1254", "Çağrı"),
    ("gb2312", "gb2312", "移动侦测报警"),
    ("gb2312", "gbk", "移動偵測 镕"),
    ("gb18030", "gb18030", "移动"),
    ("big5", "cp950", "移動功許"),  # its octets have a backslash in them
    ("euc-kr", "cp949", "움직임 똠"),
    ("shift_jis", "cp932", "表示①"),  # likewise
    ("euc-jp", "euc_jp", "スキャン"),
    ("iso-2022-jp", "iso2022_jp", "スキャン完了"),
    ("", "iso2022_jp", "スキャン完了"),
    ("utf-8", "iso2022_jp", "スキャン完了"),
    ("iso-2022-jp", "cp932", "スキャン"),
    ("iso-2022-kr", "iso2022_kr", "움직임"),
]

MESSAGE = (
    b'From: "%(x)s" <scanner@contoso.com>\r\nTo: %(x)s <a@fabrikam.example>\r\nCc: b@fabrikam.example (%(x)s)\r\n'
    b"Reply-To: %(x)s <desk@contoso.com>\r\nSubject: [1] %(x)s\r\nX-Device: %(x)s here\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=BB\r\n\r\n"
    b"--BB\r\nContent-Type: text/plain%(charset)s\r\n\r\nhello\r\n"
    b'--BB\r\nContent-Type: application/pdf; name="%(x)s 1.pdf"\r\nContent-Description: %(x)s\r\n'
    b'Content-Disposition: attachment; filename="%(x)s 1.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n'
    b"--BB--\r\n"
)


def message(declared: str, octets: bytes) -> bytes:
    charset = b"; charset=" + declared.encode() if declared else b""
    return MESSAGE % {b"x": octets, b"charset": charset}


def prepared(raw: bytes):
    file = io.BytesIO(raw)
    envelope = {"recipients": ["a@fabrikam.example", "b@fabrikam.example"], "sender": "scanner@contoso.com"}
    return prepare.prepare(file, message_id="<made@contoso.com>", **envelope), file


def as_mime(raw: bytes):
    """field -> text of what goes out as MIME."""
    octets = b"".join(prepared(raw)[0].chunks())
    assert octets.isascii()
    made = email.message_from_bytes(octets, policy=email.policy.default)
    attached = list(made.iter_attachments())[-1]
    return {
        **{name: made[name].addresses[0].display_name for name in ("From", "To", "Cc", "Reply-To")},
        **{name: made[name] for name in ("Subject", "X-Device")},
        "Content-Description": attached["Content-Description"],
        "filename": attached.get_filename(),
        "name": str(email.header.make_header(email.header.decode_header(attached["Content-Type"].params["name"]))),
    }


def as_json(raw: bytes):
    """field -> text of what goes out as JSON."""
    mail = jsonmail.compose(*prepared(raw))
    made = mail.message
    people = {"From": made["from"], "To": made["toRecipients"][0], "Cc": made["ccRecipients"][0]}
    people["Reply-To"] = made["replyTo"][0]
    return {
        **{name: person["emailAddress"].get("name", "") for name, person in people.items()},
        "Subject": made["subject"],
        **{field["name"]: field["value"] for field in made["internetMessageHeaders"]},
        "filename": mail.attachments[-1].name,
    }


def expected(text: str, got):
    shapes = {"Subject": "[1] {}", "X-Device": "{} here", "filename": "{} 1.pdf", "name": "{} 1.pdf"}
    return {name: shapes.get(name, "{}").format(text) for name in got}


@each("way", [as_mime, as_json])
@each("declared, codec, text", CHARSETS)
def test_raw_octets(declared, codec, text, way):
    got = way(message(declared, text.encode(codec)))
    assert got == expected(text, got)


# Encoded words as bad programs write them.
WORDS = [
    (b"=?utf-8?q?Ger=C3=A4t?=", "Gerät"),
    (b"=?iso-8859-1?Q?Fr\xf6sche?=", "Frösche"),
    (b"=?utf-8?Q?Ger=C3=A4t eins?=", "Gerät eins"),
    (b"=?UTF-8?B?U2NhbiBmww==?=\r\n =?UTF-8?B?vHIgTGFnZXI=?=", "Scan für Lager"),
    (b"=?UTF-8?B?R2Vyw6R0?=", "Gerät"),
    (b"=?UTF-8?B?R2Vyw6R0IA?=", "Gerät"),
    (b"=?gb2312?B?0sa2rw?=", "移动"),
    (b"=?gb2312?Q?\xd2\xc6=B6=AF?=", "移动"),
    (b"=?iso-2022-jp?B?GyRCJTklLSVjJXMbKEI=?=", "スキャン"),
    (b"=?utf-8?q?Ger=C3=A4t?==?utf-8?q?_1?=", "Gerät 1"),
    (b"=?utf-8?q?M=C3=BCller,_Bob?=", "Müller, Bob"),
    (b"=?unknown-8bit?q?Ger=E4t?=", "Gerät"),
    (b"=?us-ascii?q?Ger=E4t?=", "Gerät"),
]


@each("way", [as_mime, as_json])
@each("octets, text", WORDS)
def test_words(octets, text, way):
    got = way(message("", octets))
    wanted = {name: " ".join(value.split()) for name, value in expected(text, got).items()}
    assert {name: " ".join(value.split()) for name, value in got.items()} == wanted


def test_proper_words_stay_octet_for_octet():
    subject = b"Subject: x =?utf-8?q?Ger=C3=A4t?=\r\n =?iso-8859-1*de?Q?=FC?= (=?gb2312?b?0sa2rw==?=)\r\n"
    raw = subject + b"Content-Description: =?koi8-r?b?5NfJ1sXOycU=?=\r\n\r\nhello"
    sent = b"".join(prepared(raw)[0].chunks())
    assert subject in sent
    assert b"Content-Description: =?koi8-r?b?5NfJ1sXOycU=?=\r\n" in sent


def test_the_first_text_that_says_something_else_than_utf_8_counts():
    raw = (
        b"Subject: %s\r\nContent-Type: multipart/alternative; boundary=B\r\n\r\n--B\r\n\r\nx\r\n"
        b"--B\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx\r\n"
        b"--B\r\nContent-Type: text/html; charset=koi8-r\r\n\r\nx\r\n"
        b"--B\r\nContent-Type: text/x-more; charset=gb2312\r\n\r\nx\r\n--B--\r\n"
    ) % "Движение".encode("koi8_r")
    assert as_subject(raw) == "Движение"


def as_subject(raw: bytes) -> str:
    return email.message_from_bytes(b"".join(prepared(raw)[0].chunks()), policy=email.policy.default)["Subject"]


def test_a_message_in_the_message_has_a_charset_of_its_own():
    inner = b"Subject: %s\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n" % "Движение".encode("koi8_r")
    raw = (
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain; charset=gb2312\r\n\r\nx\r\n"
    )
    raw += b"--B\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--B--\r\n"
    sent = email.message_from_bytes(b"".join(prepared(raw)[0].chunks()), policy=email.policy.default)
    assert sent.get_payload(1).get_payload(0)["Subject"] == "Движение"
    assert jsonmail.compose(*prepared(raw)).attachments[-1].name == "Движение.eml"


def test_a_boundary_that_looks_like_a_word_or_has_raw_octets():
    for boundary in (b"=?utf-8?q?a b?=", b"\xe4\xff", b"=?utf-8?q?\xe4?="):
        raw = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n--' + boundary
        raw += (
            b"\r\nContent-Type: text/plain; charset=gb2312\r\n\r\none\r\n--"
            + boundary
            + b"\r\n\r\ntwo\r\n--"
            + boundary
        )
        sent = email.message_from_bytes(b"".join(prepared(raw + b"--\r\n")[0].chunks()))
        assert [part.get_payload() for part in sent.get_payload()] == ["one", "two"]
