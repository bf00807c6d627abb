"""What goes on the wire to Graph from a spooled message."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import os
import re
import tracemalloc

import pytest
from cases import each
from messages import (
    BECOMES_TEXT,
    CLOSED_EARLY,
    MADE,
    SIGNED,
    build_mixed,
    build_scanner,
    canonical,
    corpus,
    leaves,
)

from m365proxy.errors import Permanent
from m365proxy.mime import parts, words
from m365proxy.mime import prepare as message


def prepare(raw: bytes, start: int = 0, **options) -> message.Prepared:
    options = {
        "recipients": ["a@contoso.com"],
        "sender": "scanner@contoso.com",
        "message_id": "<made@contoso.com>",
        **options,
    }
    return message.prepare(io.BytesIO(raw), start, **options)


def sent(raw: bytes, **options) -> bytes:
    return b"".join(prepare(raw, **options).chunks())


def body_of(raw: bytes) -> bytes:
    """What follows the top header."""
    return sent(raw).partition(b"\r\n\r\n")[2]


def content_fields(raw: bytes):
    """MIME fields of the top header as they go out."""
    head = sent(raw).partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").split(b"\r\n")
    return [line.decode("ascii") for line in head if line.lower().startswith((b"content-", b"mime-version"))]


def is_sendable(octets: bytes) -> bool:
    """CRLF only, no NUL, no long line, and a header in ASCII."""
    head = octets.partition(b"\r\n\r\n")[0]
    return (
        octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
        and b"\0" not in octets
        and max(map(len, octets.split(b"\r\n"))) <= 998
        and head.isascii()
    )


# ---------------------------------------------------------------- single parts

PLAIN = "Content-Type: text/plain; charset=utf-8"
BASE64, SEVEN = "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: 7bit"
VERSION = "MIME-Version: 1.0"

SINGLE = [
    ("no MIME at all", b"Subject: x\r\n\r\nHello\r\n", [], b"Hello\r\n"),
    ("lf", b"Subject: x\n\nHello\nyou\n", [], b"Hello\r\nyou\r\n"),
    ("cr", b"Subject: x\r\rHello\ryou\r", [], b"Hello\r\nyou\r\n"),
    ("no header", b"Hello\r\nyou\r\n", [], b"Hello\r\nyou\r\n"),
    ("dots and From stay", b"\r\n.\r\n..\r\nFrom x\r\n", [], b".\r\n..\r\nFrom x\r\n"),
    ("no last line end", b"\r\nHello", [], b"Hello"),
    ("nothing", b"", [], b""),
    ("utf-8 without label", "\r\n\u00e4\n".encode(), [VERSION, PLAIN, BASE64], "\u00e4\r\n".encode()),
    (
        "latin without label",
        b"\r\n\xe4\r\n",
        [VERSION, "Content-Type: text/plain; charset=windows-1252", BASE64],
        b"\xe4\r\n",
    ),
    (
        "label kept",
        b"Content-Type: text/html; charset=iso-8859-15\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xa4\n",
        [VERSION, "Content-Type: text/html; charset=iso-8859-15", BASE64],
        b"\xa4\r\n",
    ),
    (
        "ascii label that lies",
        b"Content-Type: text/plain; charset=us-ascii; format=flowed\r\n\r\n\xc3\xa4\r\n",
        [VERSION, "Content-Type: text/plain; charset=utf-8; format=flowed", BASE64],
        b"\xc3\xa4\r\n",
    ),
    (
        "8bit that is ASCII",
        b"MIME-Version: 1.0 (x)\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHello\n",
        [VERSION, "Content-Type: text/plain", SEVEN],
        b"Hello\r\n",
    ),
    ("encoding nobody knows", b"Content-Transfer-Encoding: 8-bits\r\n\r\nHello\r\n", [VERSION, SEVEN], b"Hello\r\n"),
    (
        "quoted-printable",
        (
            b"Content-Type: text/plain; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\nclass=3D=\n2D=C3=A4 \n"
        ),
        [VERSION, PLAIN, BASE64],
        "class=2D\u00e4\r\n".encode(),
    ),
    (
        "quoted-printable without label",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4",
        [VERSION, BASE64, "Content-Type: text/plain; charset=windows-1252"],
        b"\xe4",
    ),
    ("long line", b"\r\n" + b"a" * 5000, [VERSION, BASE64], b"a" * 5000),
    ("nul", b"\r\na\0b\r\n", [VERSION, BASE64], b"ab\r\n"),
    (
        "utf-16",
        b"Content-Type: text/plain; charset=UTF-16LE\r\nContent-Transfer-Encoding: binary\r\n\r\na\0\n\0",
        [VERSION, "Content-Type: text/plain; charset=UTF-16LE", BASE64],
        b"a\0\n\0",
    ),
    (
        "binary",
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: binary\r\n\r\n%PDF\n\0\r\xff\r\n",
        [VERSION, "Content-Type: application/pdf", BASE64],
        b"%PDF\n\0\r\xff\r\n",
    ),
    (
        "stray cr in a file",
        b"Content-Type: application/x\r\n\r\na\rb\r\n",
        [VERSION, "Content-Type: application/x", BASE64],
        b"a\rb\r\n",
    ),
    (
        "file without type",
        b"Content-Disposition: attachment; filename=x.bin\r\n\r\na\n\0\n",
        [VERSION, "Content-Disposition: attachment; filename=x.bin", BASE64],
        b"a\n\0\n",
    ),
    (
        "uuencoded",
        b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n",
        [VERSION, "Content-Transfer-Encoding: x-uuencode"],
        b"begin 644 x\r\n",
    ),
    (
        "two of a kind",
        b"Content-Type: text/html\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nHello",
        [VERSION, "Content-Type: text/html"],
        b"Hello",
    ),
    (
        "multipart without boundary",
        b"Content-Type: multipart/mixed\r\n\r\nHello",
        [VERSION, "Content-Type: text/plain"],
        b"Hello",
    ),
    (
        "multipart with another boundary",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--y\r\n\r\nHello",
        [VERSION, "Content-Type: text/plain"],
        b"--y\r\n\r\nHello",
    ),
]


@each("raw, fields, content", [row[1:] for row in SINGLE], ids=[row[0] for row in SINGLE])
def test_single_parts(raw, fields, content):
    octets = sent(raw)
    assert is_sendable(octets)
    assert content_fields(raw) == fields
    body = octets.partition(b"\r\n\r\n")[2]
    assert (base64.b64decode(body, validate=False) if BASE64 in fields else body) == content


# (text in octets, declared charset, charset that goes out)
LABELS = [
    ("T\u00fcr".encode("latin-1"), "utf-8", "windows-1252"),
    ("T\u00fcr".encode(), "iso-2022-jp", "utf-8"),
    ("T\u00fcr".encode(), "x-made-up", "utf-8"),
    ("T\u00fcr".encode("latin-1"), "us-ascii", "windows-1252"),
    ("\u30c9\u30a2".encode("iso-2022-jp"), "us-ascii", "iso-2022-jp"),
    (b"Hello", "utf-16", "us-ascii"),
    ("T\u00fcr".encode(), "utf-16", "utf-8"),
]
ENCODERS = {
    "8bit": lambda octets: octets,
    "base64": base64.encodebytes,
    "quoted-printable": lambda octets: b"".join(b"=%02X" % octet for octet in octets),
}


@each("encoding", ENCODERS)
@each("octets, declared, right", LABELS)
@each("kind", ["text/plain; charset={}; format=flowed", "text/html; charset={}"])
def test_a_text_goes_out_with_the_charset_it_is_in(octets, declared, right, encoding, kind):
    """Alone, as a part, and in an attached message that is rewritten."""
    part = f"Content-Type: {kind.format(declared)}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    part += ENCODERS[encoding](octets)
    mixed = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    message = b"Content-Type: message/rfc822\r\n\r\nSubject: \xe4\r\n"
    for raw in (part, mixed + part + b"\r\n--b--\r\n", mixed + message + part + b"\r\n--b--\r\n"):
        made = email.message_from_bytes(sent(raw))
        (text,) = [one for one in made.walk() if one.get_content_maintype() == "text"]
        assert text.get_content_charset() == right
        assert text.get_payload(decode=True).rstrip() == octets
        assert text.get_param("format") == ("flowed" if "flowed" in kind else None)


def test_a_label_is_not_touched_in_signed_parts_and_files():
    for head in (b"multipart/signed; boundary=b", b"multipart/mixed; boundary=b"):
        body = b"--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n"
        body += b"Content-Disposition: attachment\r\n" if b"mixed" in head else b""
        body += b"\r\n5A==\r\n--b--\r\n"
        assert body_of(b"Content-Type: " + head + b"\r\n\r\n" + body) == body


def test_base64_lines_have_76_columns():
    lines = body_of(b"\r\n" + b"a" * 2000).split(b"\r\n")
    assert [len(line) for line in lines[:-2]] == [76] * (len(lines) - 2)
    assert lines[-1] == b""


def test_base64_goes_on_as_it_is_unless_its_lines_are_too_long():
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    odd = b"QUJD\r\nQUJDQUJD\r\n\r\nQUI=\r\n"
    assert body_of(head + odd) == odd
    assert body_of(head + odd.replace(b"\r\n", b"\n")) == odd
    content = os.urandom(3000)
    body = body_of(head + base64.b64encode(content))
    assert base64.b64decode(body) == content
    assert max(map(len, body.split(b"\r\n"))) == 76
    assert content_fields(head + base64.b64encode(content)) == [VERSION, "Content-Type: application/pdf", BASE64]


@each("length, copied", [(900, True), (997, True), (999, False), (70_000, False)])
@each("before", [0, 1, 65_530, 65_536, 65_537])
def test_long_lines_are_found_wherever_they_stand(length, copied, before):
    body = (b"x" * 79 + b"\r\n") * (before // 81) + b"y" * (before % 81) + b"\r\n" + b"z" * length + b"\r\nend\r\n"
    assert (body_of(b"\r\n" + body) == body) is copied


@each("shift", range(4))
def test_line_ends_on_a_reading_border_are_no_stray_ones(shift):
    body = b"x" * shift + b"\r\n" * 40_000
    assert body_of(b"Content-Type: application/x\r\n\r\n" + body) == body


def test_the_client_s_message_id_stays_unless_it_is_to_be_replaced():
    raw = b"Message-ID: <client@x.org>\r\n\r\n"
    assert b"\r\nMessage-ID: <client@x.org>\r\n" in sent(raw)
    assert b"\r\nMessage-ID: <made@contoso.com>\r\n" in sent(raw, replace_message_id=True)


def test_start_and_end():
    raw = b"X-M365Proxy-Envelope: secret\r\n" + b"Subject: x\r\n\r\nHello\r\n" + b"more"
    prepared = prepare(raw, 30, end=len(raw) - 4)
    octets = b"".join(prepared.chunks())
    assert b"secret" not in octets
    assert octets.endswith(b"\r\n\r\nHello\r\n")


# ---------------------------------------------------------------- multiparts


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1")


def test_a_clean_multipart_is_not_touched():
    body = crlf(
        'preamble\n--b\nContent-Type: multipart/alternative; boundary="c"\n\n--c\n\none\n--c\nContent-Type: text/html\n'
        'X-Odd:   two  spaces\n\n<p>\n--c--\n\n--b\nContent-Type: application/pdf;\n\tname="a.pdf"\n'
        "Content-Transfer-Encoding: base64\n\nQUJD\n--b--\nepilogue\n"
    )
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary="b"\r\n\r\n'
    assert body_of(head + body) == body
    assert sent(head + body).partition(b"MIME-Version")[2] == head.partition(b"MIME-Version")[2] + body
    assert body_of((head + body).replace(b"\r\n", b"\n")) == body


REPAIRS = [
    ("closing boundary missing", "--b\n\none\n", "--b\n\none\n--b--\n"),
    (
        "inner closing boundary missing",
        "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--b\n\ntwo\n--b--\n",
        "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n--b\n\ntwo\n--b--\n",
    ),
    (
        "blank line missing",
        "--b\nContent-Type: text/html\n--b\nHello\n--b--\n",
        "--b\nContent-Type: text/html\n\n\n--b\n\nHello\n--b--\n",
    ),
    ("padding", "--b \n\none\n--b--\t\n", "--b\n\none\n--b--\n"),
    (
        "junk in a part's header",
        "--b\nContent-Type: text/html\njunk\nX-A: b\n\none\n--b--\n",
        "--b\nContent-Type: text/html\nX-A: b\n\none\n--b--\n",
    ),
    (
        "type folded behind the colon",
        "--b\nContent-Type:\n text/html\n\none\n--b--\n",
        "--b\nContent-Type: text/html\n\none\n--b--\n",
    ),
    (
        "two types",
        "--b\nContent-Type: text/html\nContent-Type: text/plain\n\none\n--b--\n",
        "--b\nContent-Type: text/html\n\none\n--b--\n",
    ),
    (
        "raw encoding",
        "--b\nContent-Transfer-Encoding: 7bit \xe4\n\none\n--b--\n",
        "--b\nContent-Transfer-Encoding: 7bit\n\none\n--b--\n",
    ),
    (
        "raw description",
        "--b\nContent-Description: \xe4\n\none\n--b--\n",
        "--b\nContent-Description: =?utf-8?b?w6Q=?=\n\none\n--b--\n",
    ),
    (
        "recipients in a part",
        "--b\nTo: x@y.org\nBcc: x@y.org\n\none\n--b--\n",
        "--b\nTo: x@y.org\nBcc: x@y.org\n\none\n--b--\n",
    ),
    ("8-bit preamble", "\xe4\n--b\n\none\n--b--\n\xe4", "--b\n\none\n--b--\n"),
    (
        "8-bit text",
        "--b\n\n\xe4\n--b--\n",
        "--b\nContent-Type: text/plain;\n charset=windows-1252\nContent-Transfer-Encoding: base64\n\n5A==\n--b--\n",
    ),
    (
        "raw file name",
        (
            '--b\nContent-Type: application/pdf; name="\xdc.pdf"\n'
            'Content-Disposition: attachment; filename="\xdc.pdf"\n\none\n--b--\n'
        ),
        (
            '--b\nContent-Type: application/pdf;\n name="=?utf-8?b?w5wucGRm?="\n'
            "Content-Disposition: attachment;\n filename*=utf-8''%C3%9C.pdf\n\none\n--b--\n"
        ),
    ),
    (
        "raw file name once",
        '--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename="\xdc.pdf"\n\none\n--b--\n',
        (
            '--b\nContent-Type: application/pdf;\n name="=?utf-8?b?w5wucGRm?="\n'
            "Content-Disposition: attachment;\n filename*=utf-8''%C3%9C.pdf\n\none\n--b--\n"
        ),
    ),
    (
        "RFC 2231 file name",
        (
            "--b\nContent-Disposition: attachment; filename*=utf-8''%C3%9C.pdf\n"
            "Content-Type: application/pdf\n\none\n--b--\n"
        ),
        (
            "--b\nContent-Disposition: attachment; filename*=utf-8''%C3%9C.pdf\n"
            'Content-Type: application/pdf;\n name="=?utf-8?b?w5wucGRm?="\n\none\n--b--\n'
        ),
    ),
    (
        "RFC 2231 file name and no type",
        "--b\nContent-Disposition: attachment; filename*=utf-8''%C3%9C.pdf\n\none\n--b--\n",
        (
            "--b\nContent-Disposition: attachment; filename*=utf-8''%C3%9C.pdf\n"
            'Content-Type: application/octet-stream;\n name="=?utf-8?b?w5wucGRm?="\n\none\n--b--\n'
        ),
    ),
    (
        "encoding on a multipart",
        (
            "--b\nContent-Type: multipart/mixed; boundary=c\nContent-Transfer-Encoding: base64\n\n"
            "--c\n\none\n--c--\n--b--\n"
        ),
        "--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n--b--\n",
    ),
    (
        "message inside",
        "--b\nContent-Type: message/rfc822\n\nTo: x@y\nContent-Transfer-Encoding: quoted-printable\n\n=E4\n--b--\n",
        "--b\nContent-Type: message/rfc822\n\nTo: x@y\nContent-Transfer-Encoding: quoted-printable\n\n=E4\n--b--\n",
    ),
    (
        "8-bit message inside",
        (
            '--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nTo: "J, \xe4" <x@y.org>\n'
            "Bcc: z@y.org\n\n\xe4\n--b--\n"
        ),
        (
            "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nMIME-Version: 1.0\n"
            "To: =?utf-8?b?SiwgIMOk?= <x@y.org>\nBcc: z@y.org\nContent-Type: text/plain;\n charset=windows-1252\n"
            "Content-Transfer-Encoding: base64\n\n5A==\n--b--\n"
        ).replace("SiwgIMOk", "Siwgw6Q="),
    ),
    (
        "8-bit report",
        "--b\nContent-Type: message/delivery-status\n\nDiagnostic-Code: \xe4\n--b--\n",
        (
            "--b\nContent-Type: message/delivery-status\nContent-Transfer-Encoding: 8bit\n\n"
            "Diagnostic-Code: \xe4\n--b--\n"
        ),
    ),
]


@each("body, expected", [row[1:] for row in REPAIRS], ids=[row[0] for row in REPAIRS])
@each("line_end", [b"\r\n", b"\n"])
def test_repairs_in_multiparts(body, expected, line_end):
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    raw = (head + crlf(body)).replace(b"\r\n", line_end)
    assert body_of(raw) == crlf(expected)


BROKEN = b"\0 \xff " + b"x" * 2000
MESSAGE = b"Content-Type: message/rfc822\r\n\r\nSubject: s\r\nX: \0 \xff\r\n\r\n" + BROKEN


@each("depth", [0, 1, 5])
@each("head", [b"", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"])
def test_messages_in_messages_are_repaired(head, depth):
    inner = MESSAGE
    for _ in range(depth):
        inner = b"Content-Type: message/rfc822\r\n\r\n" + inner
    if depth == 5:
        with pytest.raises(Permanent, match="attached message"):
            prepare(head + inner)
        return
    octets = sent(head + inner)
    assert is_sendable(octets) and octets.isascii()
    assert base64.b64encode(BROKEN[1:60])[:40] in octets.replace(b"\r\n", b"")
    assert sent(octets).partition(b"MIME-Version")[2] == octets.partition(b"MIME-Version")[2]


UU = b"begin 644 \xdcbersicht.bin\r\n#86)C\r\n`\r\nend\r\n"


@each(
    "head, kind, name",
    [
        (b"Content-Transfer-Encoding: x-uuencode\r\n", "application/octet-stream", "\u00dcbersicht.bin"),
        (b"Content-Type: a/b\r\nContent-Transfer-Encoding: uue\r\n", "a/b", "\u00dcbersicht.bin"),
        (b"Content-Type: a/b; name=x.bin\r\nContent-Transfer-Encoding: X-UUE\r\n", "a/b", "x.bin"),
    ],
)
@each("inside", [False, True])
def test_a_file_in_uuencode_goes_as_base64(head, kind, name, inside):
    raw = head + b"\r\n" + UU
    if inside:
        raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + raw + b"\r\n--b--\r\n"
    octets = sent(raw)
    assert is_sendable(octets) and octets.isascii()
    made = email.message_from_bytes(octets, policy=email.policy.default)
    (part,) = [part for part in made.walk() if not part.is_multipart()]
    assert (part.get_content_type(), part["Content-Transfer-Encoding"]) == (kind, "base64")
    assert (part.get_filename(), part.get_payload(decode=True)) == (name, b"abc")


def test_the_name_of_a_file_in_uuencode_is_in_the_charset_of_the_text():
    text = b"Content-Type: text/plain; charset=windows-1250\r\n\r\nP\xf8\xedloha\r\n"
    file = b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 P\xf8\xedloha\r\n#86)C\r\n`\r\nend\r\n"
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + text + b"--b\r\n" + file + b"--b--\r\n"
    _, part = email.message_from_bytes(sent(raw), policy=email.policy.default).iter_parts()
    assert part.get_filename() == "P\u0159\u00edloha"


@pytest.mark.parametrize(
    "encoding, body, reason",
    [
        (b"x-uuencode", UU.replace(b"end\r\n", b""), 'in uuencode is damaged: the line "end" is missing'),
        (b"x-uuencode", UU.replace(b"86", b"\xff6"), "line 2 has an octet that is not in the alphabet"),
        (b"x-binhex", b"\xff", "an encoding nobody knows has octets that cannot be sent so"),
    ],
)
def test_a_refusal_names_the_reason(encoding, body, reason):
    with pytest.raises(Permanent, match=reason):
        prepare(b"Content-Type: a/b\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body)


def test_uuencode_in_a_text_stays_there():
    octets = sent(b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nSee:\r\n" + UU)
    assert email.message_from_bytes(octets).get_payload(decode=True) == b"See:\r\n" + UU


BOM = b"\xef\xbb\xbf"


def test_a_byte_order_mark_before_a_header_is_left_out():
    inner = BOM + b"Subject: in\r\n\r\nx"
    raw = BOM + b"Subject: out\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    raw += BOM + b"Content-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n"
    octets = sent(raw)
    assert octets.count(b"\r\nSubject: out\r\n") == 1
    assert octets.endswith(b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n")


@pytest.mark.parametrize(
    "kind, stays", [(b"application/ms-tnef", True), (b"application/vnd.ms-tnef", True), (b"application/pdf", False)]
)
def test_the_correlator_of_a_winmail_dat(kind, stays):
    raw = b"X-MS-TNEF-Correlator: <1@x>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n"
    raw += b"--b\r\nContent-Type: " + kind + b"; name=winmail.dat\r\n\r\nx\r\n--b--\r\n"
    assert (b"\r\nX-MS-TNEF-Correlator: <1@x>\r\n" in sent(raw)) == stays


def test_what_is_left_out_is_logged(caplog):
    caplog.set_level("INFO")
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    prepare(head + b"preamble\r\n--b\r\n\r\none\r\n--b--\r\n")
    assert "left out" not in caplog.text
    prepare(head + b"pr\xe4ambel\r\n--b\r\n\r\none\r\n--b--\r\n")
    assert "10 octets outside the parts" in caplog.text


def test_doubled_returns_add_no_lines():
    raw = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n".replace(b"\n", b"\r\r\n")
    assert body_of(raw) == b"--b\r\n\r\none\r\n--b--\r\n"


def test_parts_of_messages_in_messages_count():
    inner = b"--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"
    inner += b"--c\r\n\r\n\xe4\r\n" * 20
    with pytest.raises(Permanent, match="250 parts"):
        prepare(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner * 20)


@each(
    "head",
    [
        b"Content-Type: message/delivery-status\r\n\r\n",
        b"Content-Type: application/x\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n",
        b"Content-Transfer-Encoding: uue\r\n\r\n",
        b"Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n",
    ],
    ids=["report", "x-uuencode", "uue", "signed in a message"],
)
@each("octets", [b"a\0b", b"x" * 999])
def test_what_cannot_be_repaired_is_refused(head, octets):
    with pytest.raises(Permanent, match="damaged"):
        prepare(head + octets)


@each(
    "content_type, boundary",
    [
        (b'multipart/mixed boundary="x"', b"x"),
        (b'multipart/mixed; boundary="x', b"x"),
        (b'multipart/mixed; boundary="x""', b"x"),
        (b"multipart/mixed; boundary=x (c)", b"x"),
        (b"multipart/mixed (c); boundary=x", b"x"),
        (b'multipart/mixed; boundary = "x"', b"x"),
        (b"multipart/mixed, boundary=x", b"x"),
        (b"multipart/mixed; boundary=x; boundary=y", b"x"),
        (b"multipart/mixed; boundary=foo bar", b"foo bar"),
        (b"multipart/mixed; boundary=foo bar (c); type=a/b", b"foo bar"),
        (b"multipart/mixed; boundary=foo charset=utf-8", b"foo"),
    ],
)
@each("inside", [False, True])
def test_a_type_read_leniently_goes_out_for_strict_readers(content_type, boundary, inside):
    raw = b"Content-Type: " + content_type + b"\r\n\r\n--" + boundary + b"\r\n\r\none\r\n--" + boundary + b"--"
    if inside:
        raw = b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + raw + b"\r\n--o--\r\n"
    octets = sent(raw)
    assert leaves(octets) == [("text/plain", b"one")]
    plain, quoted = b";\r\n boundary=x", b';\r\n boundary="foo bar"'
    assert (quoted in octets) if boundary == b"foo bar" else (plain in octets or b" boundary=foo" in octets)
    assert sent(octets).partition(b"MIME-Version")[2] == octets.partition(b"MIME-Version")[2]


@each(
    "given, written",
    [
        (b"filename=Scan 2024 01.pdf", b'filename="Scan 2024 01.pdf"'),
        (b"filename=a;b.pdf", b'filename="a;b.pdf"'),
        (b"filename=a.pdf (c); size=3", b'filename="a.pdf (c)";\r\n size=3'),
        (b'filename="a"b".pdf"', b'filename="a\\"b\\".pdf"'),
        (b'filename="C:\\scans\\a.pdf"', b'filename="C:\\\\scans\\\\a.pdf"'),
        (b'filename="a.pdf', b"filename=a.pdf"),
    ],
)
def test_odd_file_names_go_out_quoted(given, written):
    head = b"Content-Type: application/pdf\r\nContent-Disposition: attachment; "
    octets = sent(head + given + b"\r\n\r\nx\r\n")
    assert b"Content-Disposition: attachment;\r\n " + written + b"\r\n" in octets


def test_an_encoding_with_a_comment_goes_out_without():
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64 (c)\r\n\r\n"
    assert content_fields(head + b"QUJD\r\n") == [VERSION, "Content-Type: application/pdf", BASE64]


@each("boundary", ["gr\u00fc\u00df", "x" * 100, "a b\u00e9", "b\\*"])
def test_boundaries_that_few_can_read_are_replaced(boundary):
    raw = (
        f'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n--{boundary}\r\n\r\n'
        f"one\r\n--{boundary}\r\n\r\ntwo\r\n"
    ).encode()
    octets = sent(raw)
    assert is_sendable(octets)
    assert [content for _, content in leaves(octets)] == [b"one", b"two"]
    assert boundary.encode() not in octets


def test_a_boundary_that_begins_another_is_replaced():
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
        "Content-Type: multipart/mixed; boundary=bb\n\n--bb\n\none\n--bb--\n"
        "--b\n\ntwo\n--b--\n"
    )
    octets = sent(raw)
    assert octets.count(b"\r\n--bb") == 2
    assert not re.search(rb"\r\n--b(?!b)", octets)
    assert leaves(octets) == leaves(raw)


@each("kind", [b"signed", b"encrypted"])
@each("line_end", [b"\r\n", b"\n"])
def test_signed_content_is_not_touched(kind, line_end):
    head = b"Subject: x\r\nContent-Type: multipart/" + kind + b"; boundary=s; micalg=pgp-sha256\r\n\r\n"
    assert body_of((head + SIGNED).replace(b"\r\n", line_end)) == SIGNED


def test_signed_content_inside_is_not_touched():
    inner = b"Content-Type: multipart/signed; boundary=s\r\n\r\n" + SIGNED
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + inner + b"\r\n--b\r\n\r\n\xe4\r\n--b--\r\n"
    octets = sent(raw)
    assert b"\r\n--b\r\n" + inner + b"\r\n--b\r\n" in octets
    assert octets.endswith(b"base64\r\n\r\n5A==\r\n--b--\r\n")


def test_too_many_parts_are_refused():
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * parts.MOST_PARTS + b"--b--\r\n"
    with pytest.raises(Permanent, match="250 parts"):
        prepare(raw)


def test_a_header_too_large_is_refused():
    with pytest.raises(Permanent):
        prepare(b"X-A: " + b"a" * 1_100_000 + b"\r\n\r\n")


# ---------------------------------------------------------------- fidelity


@each("name", MADE)
@each("line_end", [b"\r\n", b"\n"])
def test_fidelity(name, line_end):
    raw = canonical(MADE[name]()).replace(b"\r\n", line_end)
    octets = sent(raw)
    assert is_sendable(octets)
    assert leaves(octets) == leaves(raw)


@each("path", corpus(), ids=os.path.basename)
def test_fidelity_on_the_standard_library_s_messages(path):
    with open(path, "rb") as file:
        raw = file.read()
    octets = sent(raw)
    assert is_sendable(octets)
    before = [("text/plain" if kind in BECOMES_TEXT else kind, canonical(content)) for kind, content in leaves(raw)]
    found = [(kind, canonical(content)) for kind, content in leaves(octets)]
    assert found == before or (os.path.basename(path) in CLOSED_EARLY and set(found) >= set(before))


# ---------------------------------------------------------------- the whole


def test_every_call_begins_again():
    prepared = prepare(build_mixed())
    first = prepared.chunks()
    next(first), next(first)
    octets = b"".join(prepared.chunks())
    assert b"".join(prepared.chunks()) == octets
    out = io.BytesIO()
    prepared.write_to(out)
    assert out.getvalue() == octets
    assert prepared.size == len(octets)


def test_size_of_a_clean_message_is_near_its_own():
    raw = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(
        bytes(1_000_000)
    ).replace(b"\n", b"\r\n")
    assert 0 < prepare(raw).size - len(raw) < 300
    assert message.LARGE_MIME_CEILING * 4 / 3 < 4_000_000


def test_recipients_make_no_message_large():
    head = b"From: scanner@contoso.com\r\nTo: %s\r\n\r\n" % b", ".join(b"u%d@contoso.com" % n for n in range(900))
    body = b"x" * 77 + b"\r\n"
    everybody = [f"somebody{number}@contoso.com" for number in range(1000)]
    for spare, large in ((2000, False), (-2000, True)):
        raw = head + body * ((message.LARGE_MIME_CEILING - spare) // len(body))
        assert prepare(raw).is_large is prepare(raw, recipients=everybody).is_large is large
    assert prepare(raw, recipients=everybody).size * 4 / 3 < 4_000_000


def test_memory_does_not_grow_with_the_message(tmp_path):
    path = tmp_path / "message"
    with open(path, "wb") as file:
        file.write(
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        )
        file.write(b"=C3=A4" * 2_000_000 + b"\n--b\n\n")
        file.write(b"\xc3\xa4" * 4_000_000 + b"\n--b\nContent-Transfer-Encoding: base64\n\n")
        file.write(b"QUJD" * 2_000_000 + b"\n--b\nContent-Type: application/x\nContent-Transfer-Encoding: binary\n\n")
        file.write(b"\0" * 8_000_000 + b"\n--b--\n")
    with open(path, "rb") as file:
        tracemalloc.start()
        prepared = message.prepare(
            file, recipients=["a@contoso.com"], sender="scanner@contoso.com", message_id="<1@contoso.com>"
        )
        longest = max(map(len, prepared.chunks()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert longest < 200_000
    assert peak < 3_000_000


def test_the_parts_are_there_for_the_other_route():
    prepared = prepare(build_scanner())
    text, pdf = prepared.root.children
    assert (text.content_type, text.charset, pdf.filename) == ("text/plain", "iso-8859-1", "scan.pdf")
    assert prepared.top.subject == "Scan \u00fc"
    assert prepared.top.author.address == "scanner@contoso.com"


def test_unrepaired_leaves_out_only_the_field_that_fails(monkeypatch):
    real = words.decode

    def broken(text):
        if "broken" in text:
            raise ValueError
        return real(text)

    monkeypatch.setattr(words, "decode", broken)
    raw = (
        b"Subject: broken\r\nTo: a@contoso.com, evil@example.net\r\nX-Kept: yes\r\nX-Odd: \xe9 broken\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xe9\r\n--b--\r\n"
    )
    made = message.prepare_unrepaired(
        io.BytesIO(raw), recipients=["a@contoso.com", "b@contoso.com"], sender="s@contoso.com", message_id="<1@x>"
    )
    octets = b"".join(made.chunks())
    assert octets == (
        b"From: s@contoso.com\r\nTo: a@contoso.com\r\nBcc: b@contoso.com\r\nSubject: \r\nMessage-ID: <1@x>\r\n"
        b"X-Kept: yes\r\nX-Original-To: evil@example.net\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xe9\r\n--b--\r\n"
    )
