"""Which decoder reads what a mail declares."""

from __future__ import annotations

import codecs

from cases import each
from hypothesis import given
from hypothesis import strategies as st

from m365proxy.mime import charsets


@each(
    "charset, name",
    [
        ("UTF-8", "utf_8"),
        ("utf8mb4", "utf_8"),
        ('"koi8-r"', "koi8_r"),
        ("koi8-u", "koi8_u"),
        ("KOI8-RU", "koi8_u"),
        ("windows1251", "cp1251"),
        ("x-cp1251", "cp1251"),
        ("windows-874", "cp874"),
        ("iso-8859-8-i", "iso8859_8"),
        ("iso-8859-2", "iso8859_2"),
        # the larger charsets of the same family
        ("iso-8859-1", "cp1252"),
        ("iso-8859-9", "cp1254"),
        ("tis-620", "cp874"),
        ("gb2312", "gb18030"),
        ("GB_2312-80", "gb18030"),
        ("x-gbk", "gb18030"),
        ("big5", "cp950"),
        ("euc-kr", "cp949"),
        ("ks_c_5601-1987", "cp949"),
        ("shift_jis", "cp932"),
        ("x-sjis", "cp932"),
        # none
        ("made-up", None),
        ("idna", None),
        ("hex", None),
        ("", None),
        ("\0", None),
    ],
)
def test_names(charset, name):
    assert charsets.known(charset) == name


def test_every_name_is_a_codec_of_python():
    tables = (charsets._ALIASES, charsets._SUPERSETS)
    for name in {charsets.known(value) for table in tables for pair in table.items() for value in pair} - {None}:
        codecs.lookup(name)


@each(
    "octets, charset, text",
    [
        (b"T\xfcr", "iso-8859-1", "Tür"),
        (b"\x93x\x94", "iso-8859-1", "\u201cx\u201d"),
        ("镕".encode("gbk"), "gb2312", "镕"),
        ("①".encode("cp932"), "shift_jis", "①"),
        ("똠".encode("cp949"), "euc-kr", "똠"),
        (b"\x1b$B%9%-%c%s40N;\x1b(B", "iso-2022-jp", "スキャン完了"),
        ("スキャン".encode(), "iso-2022-jp", "スキャン"),
        (b"\xc3\xbc", "us-ascii", "ü"),
        (b"\xfc", "us-ascii", "ü"),
        (b"\xfc", "made-up", "ü"),
        (b"41", "hex", "41"),
        (b"M\xfcller", "utf-8", "Müller"),  # not one character of it is UTF-8
        ("ü".encode() + b"M\xfcller", "utf-8", "üM\ufffdller"),
    ],
)
def test_decoded(octets, charset, text):
    assert charsets.decoded(octets, charset) == text


@given(
    st.binary(max_size=60), st.sampled_from(["utf-8", "utf-7", "utf-16", "iso-2022-jp", "hz", "gb2312", "big5", "x"])
)
def test_never_raises(octets, charset):
    charsets.decoded(octets, charset)
