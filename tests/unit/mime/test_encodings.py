"""Line ends, and transfer encodings in both directions."""

from __future__ import annotations

import base64
import os
import quopri

from cases import each

from m365proxy.mime import encodings


def chunked(data: bytes, size: int):
    return [data[i : i + size] for i in range(0, len(data), size)]


@each("size", [1, 2, 3, 5, 7, 64, 100_000])
def test_decoding_does_not_depend_on_the_chunks(size):
    content = bytes(octet for octet in os.urandom(600) if octet not in b"\r\n")
    encoded = base64.encodebytes(content)
    assert b"".join(encodings.decoded(chunked(encoded, size), "base64")) == content
    encoded = quopri.encodestring(content).replace(b"\n", b"\r\n")
    assert b"".join(encodings.decoded(chunked(encoded, size), "quoted-printable")) == content
    assert b"".join(encodings.decoded(chunked(content, size), "8bit")) == content
    assert base64.b64decode(b"".join(encodings.to_base64(chunked(content, size)))) == content


@each(
    "encoding, encoded, content",
    [
        ("base64", b"QUJD", b"ABC"),
        ("base64", b"Q U\r\nJ-D!", b"ABC"),
        ("base64", b"QUI", b"AB"),
        ("base64", b"QUI=QUJD", b"ABABC"),
        ("base64", b"QUI=\r\nQQ==\r\n", b"ABA"),
        ("base64", b"QUJDR", b"ABC"),
        ("base64", b"====", b""),
        ("quoted-printable", b"a=3Db=\r\nc \t\r\nd", b"a=bc\r\nd"),
        ("quoted-printable", b"a=\nb\nc", b"ab\r\nc"),
        ("quoted-printable", b"a= \r\nb", b"ab"),
        ("quoted-printable", b"=c3=BC=", b"\xc3\xbc"),
        ("quoted-printable", b"=zz=4", b"=zz=4"),
        ("quoted-printable", b"a=0Ab", b"a\nb"),
        ("x-uuencode", b"begin 644 x\r\n", b"begin 644 x\r\n"),
    ],
)
def test_decoding_is_tolerant(encoding, encoded, content):
    assert b"".join(encodings.decoded([encoded], encoding)) == content


def test_an_endless_quoted_printable_line():
    line = b"abc=C3=BC def " * 40_000
    decoded = b"".join(encodings.decoded(chunked(line, 10_000), "quoted-printable"))
    assert decoded == ("abcü def " * 40_000).encode().rstrip()


def test_base64_lines():
    encoded = b"".join(encodings.to_base64([b"a" * 57, b"b" * 56, b"c" * 2]))
    assert [len(line) for line in encoded.split(b"\r\n")] == [76, 76, 4]
    assert b"".join(encodings.to_base64([b"", b""])) == b""


@each("size", [1, 2, 3, 100])
@each(
    "raw, expected",
    [
        (b"a\r\nb\nc\rd", b"a\r\nb\r\nc\r\nd"),
        (b"a\r\r\nb", b"a\r\nb"),
        (b"a\r\rb", b"a\r\n\r\nb"),
        (b"a\n\nb\r", b"a\r\n\r\nb\r\n"),
        (b"\r\n\r\n", b"\r\n\r\n"),
        (b"", b""),
    ],
)
def test_canonical_line_ends(raw, expected, size):
    assert b"".join(encodings.canonical(chunked(raw, size))) == expected


@each(
    "chunks, wanted",
    [
        ([b"a\r\nb\r\n"], b"a\r\nb\r\n"),
        ([b"a\nb"], b"a\r\nb\r\n"),
        ([b"a\r", b"\nb\r", b"c"], b"a\r\nb\r\nc\r\n"),
        ([b"a\r", b"", b"\n"], b"a\r\n"),
        ([b"a\r"], b"a\r\n"),
        ([b"a\r\n\r"], b"a\r\n\r\n"),
        ([b"\r", b"\r", b"\n", b"\n"], b"\r\n\r\n\r\n"),
        ([b"a\r\n", b"."], b"a\r\n.\r\n"),
        ([b"\xff\x00\n"], b"\xff\x00\r\n"),
        ([b""], b""),
        ([], b""),
    ],
)
def test_line_ends_without_doubled_returns_and_one_at_the_end(chunks, wanted):
    assert b"".join(encodings.ended(encodings.canonical(chunks, doubled=False))) == wanted


@each("size", [1, 2, 3, 4, 100])
@each(
    "raw, wanted",
    [
        (b"\xef\xbb\xbfabc", b"abc"),
        (b"\xef\xbb\xbf\xef\xbb\xbfabc", b"\xef\xbb\xbfabc"),
        (b"abc\xef\xbb\xbf", b"abc\xef\xbb\xbf"),
        (b"\xef\xbb", b"\xef\xbb"),
        (b"\xef\xbbabc", b"\xef\xbbabc"),
        (b"\xef\xbb\xbf", b""),
        (b"", b""),
    ],
)
def test_a_byte_order_mark_is_left_out_before_everything_only(raw, wanted, size):
    pieces = list(encodings.without_bom(chunked(raw, size)))
    assert b"".join(pieces) == wanted
    assert b"" not in pieces


@each("doubled", [False, True])
@each("size", [1, 2, 3])
def test_no_line_end_is_split_between_chunks(size, doubled):
    raw = b"a\r\nb\r\r\nc\nd\r\r\r\r\r\ne\r"
    pieces = list(encodings.canonical(chunked(raw, size), doubled))
    assert not [piece for piece in pieces if not piece or piece.endswith(b"\r") or piece.startswith(b"\n")]
