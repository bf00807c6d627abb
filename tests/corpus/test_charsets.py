"""Raw 8-bit header text in the charset of the message's first text: every field, as MIME and as JSON."""

from __future__ import annotations

import base64

import mailreader
import pytest
from mailcorpus import OFFICE, arrived, prepared
from mailreader import parsed

from m365proxy.delivery import jsonmail

# Of each charset a text that is not valid UTF-8; some octets of it are backslashes in Big5 and Shift_JIS, quotes in
# ISO-2022-JP.
TEXTS = {
    "big5": "\u6210\u529f\u8a31\u53ef",
    "euc-jp": "\u5de5\u5834\u3067\u8b66\u5831",
    "euc-kr": "\uacf5\uc7a5 \uacbd\ubcf4",
    "gb18030": "\u5de5\u5382\u62a5\u8b66",
    "gb2312": "\u5de5\u5382\u62a5\u8b66",
    "iso-2022-jp": "\u3042\u3079\u8868\u793a",
    "iso-8859-1": "T\u00fcr ge\u00f6ffnet",
    "iso-8859-2": "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd",
    "iso-8859-5": "\u0412\u043d\u0438\u043c\u0430\u043d\u0438\u0435",
    "iso-8859-7": "\u03a3\u03c5\u03bd\u03b1\u03b3\u03b5\u03c1\u03bc\u03cc\u03c2",
    "iso-8859-9": "G\u00fcvenlik \u015fifresi",
    "iso-8859-15": "5 \u20ac f\u00fcr T\u00fcr",
    "koi8-r": "\u0412\u043d\u0438\u043c\u0430\u043d\u0438\u0435",
    "koi8-u": "\u0423\u0432\u0430\u0433\u0430 \u0457\u0436\u0430",
    "shift_jis": "\u8868\u793a\u30bd\u30d5\u30c8",
    "windows-1250": "P\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd",
    "windows-1251": "\u0412\u043d\u0438\u043c\u0430\u043d\u0438\u0435",
    "windows-1252": "5 \u20ac \u2013 T\u00fcr",
    "windows-1253": "\u03a3\u03c5\u03bd\u03b1\u03b3\u03b5\u03c1\u03bc\u03cc\u03c2",
    "windows-1254": "G\u00fcvenlik \u015fifresi",
    "windows-1257": "Durys u\u017erakintos \u0161iandien",
    "windows-874": "\u0e1b\u0e23\u0e30\u0e15\u0e39\u0e40\u0e1b\u0e34\u0e14",
}
PYTHON = {"windows-874": "cp874"}


def mail(charset: str) -> bytes:
    text = TEXTS[charset].encode(PYTHON.get(charset, charset))
    lines = [
        b"From: %s <alerts@contoso.com>" % text,
        b"To: %s <%s>" % (text, OFFICE.encode()),
        b'Reply-To: "%s" <help@contoso.com>' % text,
        b"Subject: %s" % text,
        b"X-Place: %s" % text,
        b"Comments: %s" % text,
        b"MIME-Version: 1.0",
        b"Content-Type: multipart/mixed; boundary=BB",
        b"",
        b"--BB",
        b"Content-Type: text/plain; charset=%s" % charset.encode(),
        b"Content-Transfer-Encoding: 8bit",
        b"",
        text,
        b"--BB",
        b'Content-Type: application/pdf; name="%s.pdf"' % text,
        b'Content-Disposition: attachment; filename="%s.pdf"' % text,
        b"Content-Description: %s" % text,
        b"Content-Transfer-Encoding: base64",
        b"",
        base64.b64encode(b"%PDF"),
        b"--BB",
        b"Content-Type: application/pdf; name=%s.pdf" % text.replace(b" ", b""),
        b"",
        b"--BB--",
        b"",
    ]
    return b"\r\n".join(lines)


@pytest.mark.parametrize("charset", TEXTS)
def test_as_mime(charset):
    text = TEXTS[charset]
    found = parsed(arrived(mail(charset)))
    fields = dict(mailreader.fields(found))
    assert {name: fields[name] for name in ("From", "To", "Reply-To", "Subject", "X-Place", "Comments")} == {
        "From": f"{text} <alerts@contoso.com>",
        "To": f"{text} <{OFFICE}>",
        "Reply-To": f"{text} <help@contoso.com>",
        "Subject": text,
        "X-Place": text,
        "Comments": text,
    }
    body, file, other = mailreader.pieces(found)
    assert body.content == (text,)
    assert (file.name, file.rest) == (f"{text}.pdf", f"({text})")
    assert other.name == f"{text}.pdf".replace(" ", "")


@pytest.mark.parametrize("charset", TEXTS)
def test_as_json(charset):
    text = TEXTS[charset]
    made = jsonmail.compose(*prepared(mail(charset)))
    people = [made.message["from"], *made.message["toRecipients"], *made.message["replyTo"]]
    assert [one["emailAddress"]["name"] for one in people] == [text] * 3
    assert made.message["subject"] == text
    assert made.message["internetMessageHeaders"] == [{"name": "X-Place", "value": text}]
    assert made.message["body"]["content"].strip() == text
    assert [one.name for one in made.attachments] == [f"{text}.pdf", f"{text}.pdf".replace(" ", "")]
