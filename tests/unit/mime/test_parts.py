"""The parts of a message, found by offsets."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from cases import each

from m365proxy.mime import encodings, header
from m365proxy.mime import parts as mime


def scan(raw: bytes, **options) -> mime.Part:
    return mime.scan(io.BytesIO(raw), **options)


def outline(raw: bytes, part: mime.Part):
    """Content type, and the children or the body's octets."""
    if part.children:
        return part.content_type, [outline(raw, child) for child in part.children]
    return part.content_type, raw[part.body_start : part.body_end]


def multipart(body: bytes, kind: bytes = b"mixed", boundary: bytes = b"b") -> bytes:
    return b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"\r\n\r\n' + body


TEXT, HTML = "text/plain", "text/html"

TREES = [
    ("one part", b"Subject: x\r\n\r\nbody\r\n", (TEXT, b"body\r\n")),
    ("nothing", b"", (TEXT, b"")),
    (
        "two parts",
        multipart(b"--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one"), (HTML, b"two")]),
    ),
    (
        "lf",
        multipart(b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n").replace(b"\r", b""),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    (
        "cr",
        multipart(b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n").replace(b"\n", b""),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    (
        "cr cr lf",
        multipart(b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n").replace(b"\r", b"\r\r"),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    (
        "closed too early",
        multipart(b"--b\r\n\r\none\r\n--b--\r\n\r\n--b\r\n\r\ntwo\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    (
        "closed too early, and text",
        multipart(b"--b\r\n\r\none\r\n--b--\r\nfoot\r\n--b\r\n\r\ntwo\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"foot"), (TEXT, b"two")]),
    ),
    (
        "preamble and epilogue",
        multipart(b"pre\r\n--b\r\n\r\none\r\n--b--\r\nepi\r\n--b\r\n"),
        ("multipart/mixed", [(TEXT, b"one")]),
    ),
    (
        "no closing boundary",
        multipart(b"--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n"),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    ("closing boundary without dashes", multipart(b"--b\r\n\r\none\r\n--b\r\n"), ("multipart/mixed", [(TEXT, b"one")])),
    ("closing boundary without line end", multipart(b"--b\r\n\r\none\r\n--b--"), ("multipart/mixed", [(TEXT, b"one")])),
    ("padding", multipart(b"--b \t \r\n\r\none\r\n--b--  \r\n"), ("multipart/mixed", [(TEXT, b"one")])),
    (
        "only a line's begin",
        multipart(b"--b\r\n\r\none --b\r\n--bb\r\n--b x\r\n---b\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one --b\r\n--bb\r\n--b x\r\n---b")]),
    ),
    (
        "body ends in line ends",
        multipart(b"--b\r\n\r\none\r\n\r\n\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one\r\n\r\n")]),
    ),
    (
        "empty bodies",
        multipart(b"--b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b""), (HTML, b"")]),
    ),
    (
        "header and no body",
        multipart(b"--b\r\nContent-Type: text/html\r\n--b\r\n\r\ntwo\r\n--b--\r\n"),
        ("multipart/mixed", [(HTML, b""), (TEXT, b"two")]),
    ),
    (
        "no blank line",
        multipart(b"--b\r\nHello there\r\n--b\r\nContent-Type: text/html\r\nHello\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"Hello there"), (HTML, b"Hello")]),
    ),
    (
        "boundaries doubled",
        multipart(b"--b\r\n--b\r\n\r\none\r\n--b\r\n--b\r\n--b\r\n\r\ntwo\r\n--b--\r\n"),
        ("multipart/mixed", [(TEXT, b"one"), (TEXT, b"two")]),
    ),
    (
        "nested",
        multipart(
            b"--b\r\n"
            + multipart(b"--c\r\n\r\none\r\n--c\r\n\r\ntwo\r\n--c--\r\n", b"alternative", b"c")
            + b"\r\n--b\r\n\r\nthree\r\n--b--\r\n"
        ),
        ("multipart/mixed", [("multipart/alternative", [(TEXT, b"one"), (TEXT, b"two")]), (TEXT, b"three")]),
    ),
    (
        "inner not closed",
        multipart(
            b"--b\r\n" + multipart(b"--c\r\n\r\none\r\n", b"alternative", b"c") + b"--b\r\n\r\nthree\r\n--b--\r\n"
        ),
        ("multipart/mixed", [("multipart/alternative", [(TEXT, b"one")]), (TEXT, b"three")]),
    ),
    (
        "one boundary begins another",
        multipart(
            b"--b\r\n"
            + multipart(b"--b1\r\n\r\none\r\n--b1--\r\n", b"alternative", b"b1")
            + b"--b\r\n\r\nthree\r\n--b--\r\n"
        ),
        ("multipart/mixed", [("multipart/alternative", [(TEXT, b"one")]), (TEXT, b"three")]),
    ),
    (
        "the same boundary inside",
        multipart(b"--b\r\n" + multipart(b"--b\r\n\r\none\r\n--b--\r\n", b"alternative")),
        ("multipart/mixed", [("multipart/alternative", b""), (TEXT, b"one")]),
    ),
    (
        "message inside",
        multipart(
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
            + multipart(b"--c\r\n\r\nx\r\n--c--", b"mixed", b"c")
            + b"\r\n--b--\r\n"
        ),
        ("multipart/mixed", [("message/rfc822", multipart(b"--c\r\n\r\nx\r\n--c--", b"mixed", b"c"))]),
    ),
    (
        "digest",
        multipart(b"--b\r\n\r\nSubject: x\r\n\r\n\r\n--b--\r\n", b"digest"),
        ("multipart/digest", [("message/rfc822", b"Subject: x\r\n\r\n")]),
    ),
    ("wrong boundary", multipart(b"--c\r\n\r\none\r\n--c--\r\n"), ("multipart/mixed", b"--c\r\n\r\none\r\n--c--\r\n")),
    ("no boundary", b"Content-Type: multipart/mixed\r\n\r\n--c\r\n", ("multipart/mixed", b"--c\r\n")),
    (
        "raw boundary",
        (
            "Content-Type: multipart/mixed; boundary=gr\u00fc\u00df\r\n\r\n--gr\u00fc\u00df\r\n"
            "\r\none\r\n--gr\u00fc\u00df--"
        ).encode(),
        ("multipart/mixed", [(TEXT, b"one")]),
    ),
    (
        "raw latin boundary",
        b"Content-Type: multipart/mixed; boundary=gr\xfc\r\n\r\n--gr\xfc\r\n\r\none\r\n--gr\xfc--",
        ("multipart/mixed", [(TEXT, b"one")]),
    ),
    ("no type worth the name", b"Content-Type: text\r\n\r\nbody", (TEXT, b"body")),
]


@each("raw, expected", [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_trees(raw, expected):
    assert outline(raw, scan(raw)) == expected


def test_scan_keeps_to_its_offsets():
    raw = multipart(b"--b\r\n\r\none\r\n--b--\r\n")
    root = scan(b"x" * 100 + raw + b"--b\r\n\r\nmore", start=100, end=100 + len(raw))
    assert [(part.header_start, part.body_end) for part in root.children] == [
        (100 + raw.index(b"\r\none"), 100 + raw.index(b"\r\n--b--"))
    ]
    assert root.body_end == 100 + len(raw)


def test_preamble_and_epilogue_are_told():
    raw = multipart(b"pre\r\n--b\r\n\r\none\r\n--b-- \r\nepi\r\n")
    root = scan(raw)
    assert raw[root.body_start : root.preamble_end] == b"pre\r\n"
    assert raw[root.epilogue_start : root.body_end] == b"\r\nepi\r\n"
    assert scan(multipart(b"--b\r\n\r\none\r\n")).epilogue_start is None


@each("size", [0, 1, encodings.CHUNK, 256 * 1024 - 70, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 700_001])
def test_boundaries_anywhere_in_the_reading_window(size):
    body = b"x" * size
    raw = multipart(b"--b\r\n\r\n" + body + b"\r\n--b" + b" " * 150 + b"\r\n\r\ntwo\r\n--b--\r\n")
    root = scan(raw)
    assert outline(raw, root) == ("multipart/mixed", [(TEXT, body), (TEXT, b"two")])


def test_part_limit():
    def parts(count):
        return multipart(b"--b\r\n\r\nx\r\n" * count + b"--b--\r\n")

    assert scan(parts(mime.MOST_PARTS - 1)).broken == ""
    assert len(scan(parts(mime.MOST_PARTS - 1)).children) == mime.MOST_PARTS - 1
    assert "250 parts" in scan(parts(mime.MOST_PARTS)).broken


def test_depth_limit():
    def nested(depth):
        raw = b"\r\nx"
        for level in range(depth):
            name = b"level%d" % level
            raw = multipart(b"--" + name + b"\r\n" + raw + b"\r\n--" + name + b"--", b"mixed", name)
        return raw

    assert scan(nested(mime.DEEPEST)).broken == ""
    assert "nested" in scan(nested(mime.DEEPEST + 1)).broken


def test_header_limits():
    large = b"X-A: " + b"a" * 1000 + b"\r\n"
    with pytest.raises(header.HeaderTooLarge):
        scan(large * 1200 + b"\r\n")
    assert "header" in scan(multipart(b"--b\r\n" + large * 1200 + b"\r\n--b--")).broken


@pytest.mark.parametrize(
    "head",
    [
        b"a:\n" * 300_000,
        b"a:\n" * 20_000,
        b"X-A: " + b"b" * 60_000 + b"\n",
        b"X-A: b\n" * 100,
    ],
)
def test_the_headers_of_all_parts_together_are_bounded(head):
    raw = multipart((b"--b\n" + head + b"\nx\n") * 100 + b"--b--\n")
    tracemalloc.start()
    broken = mime.scan(io.BytesIO(raw)).broken
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "header" in broken
    assert peak < 6_000_000


def test_fields_of_a_header_are_bounded():
    with pytest.raises(header.HeaderTooLarge, match="fields"):
        scan(b"a:\n" * 300_000 + b"\n")


def test_as_many_parts_as_there_may_be_have_room_for_their_headers():
    head = b"".join(b"X-%d: " % number + b"x" * 200 + b"\r\n" for number in range(15))
    assert scan(multipart((b"--b\r\n" + head + b"\r\nx\r\n") * 249 + b"--b--\r\n")).broken == ""


def test_hostile_boundaries_cost_no_more_than_others():
    raw = multipart(b"--b\r\n\r\n" + b"\n--bx" * 500_000 + b"-" * 3_000_000 + b"\r" * 1_000_000 + b"\r\n--b--")
    assert len(scan(raw).children) == 1


def test_memory_does_not_grow_with_a_part(tmp_path):
    path = tmp_path / "message"
    with open(path, "wb") as file:
        file.write(multipart(b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n"))
        for _ in range(400):
            file.write(b"QUJD" * 19 * 500 + b"\r\n")
        file.write(b"--b--\r\n")
    with open(path, "rb") as file:
        tracemalloc.start()
        root = mime.scan(file)
        octets = sum(map(len, mime.decode(file, root.children[0])))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert octets == 400 * 500 * 57
    assert peak < 3_000_000


@each(
    "fields, expected",
    [
        (b"Content-Type: application/pdf; name=a.pdf", {"content_type": "application/pdf", "filename": "a.pdf"}),
        (b'Content-Type: APPLICATION/PDF; NAME="a b.pdf"', {"content_type": "application/pdf", "filename": "a b.pdf"}),
        (b"Content-Type: text/html charset=utf-8", {"content_type": "text/html", "charset": "utf-8"}),
        (b"Content-Type: text/html; charset=UTF-8 format=flowed", {"charset": "utf-8"}),
        (b'Content-Type: text/html (really); charset="x" ; foo', {"content_type": "text/html", "charset": "x"}),
        (b"Content-Type: text/html;\r\n charset=\r\n utf-8", {"charset": "utf-8"}),
        (b"Content-Type: garbage", {"content_type": "text/plain"}),
        (
            b"Content-Disposition: attachment; filename=My File.pdf",
            {"disposition": "attachment", "filename": "My File.pdf"},
        ),
        (b"Content-Disposition: attachment; filename*=utf-8''%C3%9C.pdf", {"filename": "\u00dc.pdf"}),
        (b"Content-Disposition: attachment; filename=x; filename*=iso-8859-1'de'%DC.pdf", {"filename": "\u00dc.pdf"}),
        (
            b"Content-Disposition: attachment; filename*0*=utf-8''%C3%9C; filename*1=.p; filename*2*=%64f",
            {"filename": "\u00dc.pdf"},
        ),
        (b"Content-Disposition: attachment; filename*1=b; filename*0=a", {"filename": "ab"}),
        (
            b'Content-Disposition: attachment; filename="=?utf-8?q?=C3=9C?=\r\n =?utf-8?q?=2Epdf?="',
            {"filename": "\u00dc.pdf"},
        ),
        (b'Content-Disposition: attachment; filename="\xdc.pdf"', {"filename": "\u00dc.pdf"}),
        (b'Content-Disposition: attachment; filename="\xc3\x9c.pdf"', {"filename": "\u00dc.pdf"}),
        (b'Content-Disposition: attachment; filename="C:\\scans\\a.pdf"', {"filename": "C:\\scans\\a.pdf"}),
        (b'Content-Disposition: attachment; filename="a \\"b\\".pdf"', {"filename": 'a "b".pdf'}),
        (b'Content-Disposition: attachment; filename="never closed', {"filename": "never closed"}),
        (b"Content-Disposition: attachment; filename=a.pdf\r\nContent-Type: x/y; name=b.pdf", {"filename": "a.pdf"}),
        (b"Content-Transfer-Encoding: BASE64 (comment)", {"encoding": "base64"}),
        (b"Subject: x", {"encoding": "7bit", "charset": "", "filename": "", "disposition": "", "content_id": ""}),
        (b"Content-ID: <image001@x>", {"content_id": "image001@x"}),
        (b"Content-Type: multipart/signed; boundary=b", {"is_signed": True, "is_encrypted": False}),
        (b"Content-Type: multipart/encrypted; boundary=b", {"is_signed": False, "is_encrypted": True}),
        (b"Content-Type: application/pkcs7-mime; smime-type=Signed-Data", {"is_signed": True, "is_encrypted": False}),
        (
            b"Content-Type: application/x-pkcs7-mime; smime-type=enveloped-data",
            {"is_signed": False, "is_encrypted": True},
        ),
        (b"Content-Type: text/plain", {"is_signed": False, "is_encrypted": False}),
    ],
)
def test_part_attributes(fields, expected):
    part = scan(fields + b"\r\n\r\n")
    assert {name: getattr(part, name) for name in expected} == expected


# ---------------------------------------------------------------- transfer encodings
