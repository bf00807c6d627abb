"""Texts that are in another charset than their label says."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from cases import each
from messages import charsets as all_charsets

from m365proxy.mime import labels

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "200"))


def real(octets: bytes, declared: str, size: int = 3) -> str:
    return labels.real(lambda: (octets[i : i + size] for i in range(0, len(octets), size)), declared)


GERMAN, RUSSIAN, JAPANESE, CHINESE = (
    "Tür geöffnet\r\n",
    "Дверь открыта\r\n",
    "ドアが開きました。\r\n",
    "移动侦测报警\r\n",
)
KOREAN = "문이 열렸습니다\r\n"

# (text, its real charset, declared, what it is called then)
TEXTS = [
    # What is right by its label stays, in the letters it was written in.
    (GERMAN, "utf-8", "UTF-8", "UTF-8"),
    (GERMAN, "latin-1", "iso-8859-1", "iso-8859-1"),
    (GERMAN, "utf-8", "iso-8859-1", "iso-8859-1"),
    (RUSSIAN, "koi8-r", "koi8-r", "koi8-r"),
    (CHINESE, "gb18030", "gb2312", "gb2312"),
    (JAPANESE, "iso-2022-jp", "ISO-2022-JP", "ISO-2022-JP"),
    ("Hello\r\n", "ascii", "utf-8", "utf-8"),
    ("Hello\r\n", "ascii", "x-made-up", "x-made-up"),
    ("Hello\r\n", "ascii", "", ""),
    ("Hello\r\n", "utf-16", "utf-16", "utf-16"),
    (CHINESE, "utf-16-le", "utf-16le", "utf-16le"),
    ("Gr+APw-n", "ascii", "utf-7", "utf-7"),
    # By the name of a smaller charset many mean a larger one.
    ("5 € – “low”", "cp1252", "ISO-8859-1", "windows-1252"),
    ("5 €", "cp1254", "iso-8859-9", "windows-1254"),
    ("ก…", "cp874", "tis-620", "windows-874"),
    ("报警：镕", "gb18030", "gb2312", "gb18030"),
    ("报警：镕", "gb18030", "gbk", "gbk"),
    ("𠀀", "gb18030", "gbk", "gb18030"),
    ("①", "cp932", "shift_jis", "shift_jis"),
    # Declared as UTF-8.
    (GERMAN, "latin-1", "utf-8", "windows-1252"),
    (RUSSIAN, "cp1251", "utf-8", "windows-1252"),
    (CHINESE * 20, "gb18030", "utf-8", "windows-1252"),
    # No label, or one that says nothing.
    (GERMAN, "utf-8", "", "utf-8"),
    (GERMAN, "utf-8", "us-ascii", "utf-8"),
    (GERMAN, "utf-8", "ANSI_X3.4-1968", "utf-8"),
    (GERMAN, "latin-1", "unknown-8bit", "windows-1252"),
    (JAPANESE, "iso-2022-jp", "", "iso-2022-jp"),
    (JAPANESE, "iso-2022-jp", "us-ascii", "iso-2022-jp"),
    (KOREAN, "iso-2022-kr", "", "iso-2022-kr"),
    # The byte order mark of UTF-16, as files of Windows have it.
    ("\ufeff" + GERMAN, "utf-16-le", "", "utf-16"),
    ("\ufeff" + CHINESE, "utf-16-be", "us-ascii", "utf-16"),
    ("\ufeff" + GERMAN, "utf-16-le", "utf-8", "utf-16"),
    ("\ufeff" + GERMAN, "utf-16-le", "x-made-up", "utf-16"),
    ("\ufeff" + GERMAN, "utf-16-le", "utf-16le", "utf-16le"),
    ("ÿþ!", "latin-1", "", "windows-1252"),
    # A label that nobody knows.
    (GERMAN, "utf-8", "x-made-up", "utf-8"),
    (GERMAN, "latin-1", "x-made-up", "windows-1252"),
    (GERMAN, "latin-1", "zlib", "windows-1252"),
    # One that others know, but Python does not.
    (GERMAN, "latin-1", "viscii", "viscii"),
    (GERMAN, "utf-8", "viscii", "utf-8"),
    # 7-bit charsets.
    (GERMAN, "utf-8", "iso-2022-jp", "utf-8"),
    (JAPANESE, "utf-8", "iso-2022-jp", "utf-8"),
    (JAPANESE, "cp932", "iso-2022-jp", "shift_jis"),
    (JAPANESE, "euc-jp", "iso-2022-jp", "euc-jp"),
    (KOREAN, "euc-kr", "iso-2022-kr", "euc-kr"),
    (CHINESE, "gb18030", "iso-2022-cn", "gb18030"),
    (CHINESE, "gb18030", "hz-gb-2312", "gb18030"),
    (GERMAN, "utf-8", "utf-7", "utf-8"),
    # Wide ones.
    ("Hello", "ascii", "utf-16", "us-ascii"),
    ("Hell", "ascii", "utf-16", "us-ascii"),
    (GERMAN, "utf-8", "utf-16", "utf-8"),
    (GERMAN, "latin-1", "utf-32", "windows-1252"),
    # UTF-8 under a label that it cannot be.
    ("“Zitat”\r\n", "utf-8", "windows-1252", "utf-8"),
    ("ÄÖÜ€\r\n", "utf-8", "shift_jis", "utf-8"),
]


@each("size", [1, 3, 10_000])
@each("text, charset, declared, label", TEXTS)
def test_labels(text, charset, declared, label, size):
    assert real(text.encode(charset), declared, size) == label


@each(
    "octets, declared, label",
    [
        # Cut inside a character, as small devices do it, or damaged at one place.
        ("größer, schöner".encode()[:-6] + b"\xc3", "utf-8", "utf-8"),
        ("Größe und Länge: ".encode() + b"\xff", "utf-8", "utf-8"),
        (CHINESE.encode("gb18030")[:-3], "gb2312", "gb2312"),
        (b"100 \x80 \x81", "windows-1252", "windows-1252"),
        # Nothing in it is what was declared.
        (b"\xff \xff", "gb2312", "windows-1252"),
        # Escapes of a terminal are no letters.
        (b"\x1b[31mred\x1b(B\r\n", "", ""),
        (b"\x1b$B!\r\n", "", ""),
        (b"\x1b$B" + b"!!" * 50_000, "", ""),
        (b"", "utf-8", "utf-8"),
        (b"", "", ""),
    ],
)
def test_damaged_texts(octets, declared, label):
    assert real(octets, declared, 1000) == label


@each("name, text", list(all_charsets()), ids=str)
def test_every_charset_that_is_known_is_believed(name, text):
    assert real(text.encode(name), name) == name


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(
    st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace"))),
    st.sampled_from(sorted({row[2] for row in TEXTS} | {"utf-8-sig", "big5hkscs", "idna", "punycode", "mbcs"})),
    st.integers(1, 70),
)
def test_any_text_under_any_label(octets, declared, size):
    label = real(octets, declared, size)
    assert label == real(octets, declared, 1000)
    assert real(octets, label) == label


def test_memory_is_bounded():
    for declared in ("", "utf-8", "utf-7", "utf-16", "iso-2022-jp", "gb2312", "x-made-up"):
        for piece in (b"+AAAA" * 10_000, b"\x1b$B" + b"!!" * 10_000, b"\xc3\xa4" * 20_000, b"\xff" * 50_000):
            tracemalloc.start()
            labels.real(lambda piece=piece: (bytes(bytearray(piece)) for _ in range(40)), declared)
            assert tracemalloc.get_traced_memory()[1] < 1_500_000
            tracemalloc.stop()
