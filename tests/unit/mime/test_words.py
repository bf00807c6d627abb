"""Encoded words in both directions."""

from __future__ import annotations

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st
from messages import flood

from m365proxy.mime import words


@each(
    "encoded, text",
    [
        ("=?utf-8?q?a_b?=", "a b"),
        ("=?UTF-8*en?Q?=C3=BC?= x", "ü x"),
        ("x =?utf-8?b?w7w?= y", "x ü y"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?utf-8?q?a?=  =?iso-8859-1?q?=FC?=", "aü"),
        ("=?nonsense?q?=C3=BC?=", "ü"),
        ("=?us-ascii?q?=FC?=", "ü"),
        ("=?hex?q?41?=", "41"),
        ("=?punycode?q?=C3=BC?=", "ü"),
        ("=?utf-8?b?w7w=w7w=?=", "üü"),
        ("=?utf-8?b?w?=", ""),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?utf-8?q?a b", "=?utf-8?q?a b"),
        ("=?made-up?q?a", "=?made-up?q?a"),
    ],
)
def test_words_decode(encoded, text):
    assert words.decode(encoded) == text


MENDED = [
    # octets, as they are written anew; None: as they are
    ("proper", b"x =?utf-8?q?a=C3=BC?= =?gb2312?b?0sa2rw==?= (=?iso-8859-1*de?Q?=FC?=)", None),
    ("no word", b"=?utf-8?x?a?= =?utf-8 =?", None),
    ("blanks inside", b"=?utf-8?q?a =C3=BC b?=", "a ü b"),
    ("a tab inside", b"=?utf-8?q?a\t=C3=BC?=", "a ü"),
    ("blanks in base64", b"=?utf-8?b?w7 w=?= x", "ü x"),
    ("blanks around", b"=? utf-8 ?q? a=C3=BC?=", " aü"),
    ("cut in a character", b"=?UTF-8?B?U2NhbiBmww==?= =?UTF-8?B?vHIgTGFnZXI=?=", "Scan für Lager"),
    ("cut in a character of two octets", b"=?gb2312?q?=D2=C6=B6?= =?gb2312?q?=AF?=", "移动"),
    ("base64 cut anywhere", b"=?utf-8?b?w7zDv?= =?utf-8?b?MO8?=", "üüü"),
    ("padding missing", b"=?utf-8?b?w7w?=", "ü"),
    ("too much padding", b"=?utf-8?b?w7zDvA====?=", "üü"),
    ("padding in the middle", b"=?utf-8?b?w7w=w7w=?=", "üü"),
    ("raw octets", b"=?iso-8859-1?Q?Fr\xf6sche?=", "Frösche"),
    ("raw octets of UTF-8", b"=?utf-8?Q?Fr\xc3\xb6sche?=", "Frösche"),
    ("raw octets of GB2312", b"=?gb2312?Q?\xd2\xc6=B6=AF?=", "移动"),
    ("raw ISO-2022-JP", b"=?iso-2022-jp?Q?\x1b$B%9%-%c%s\x1b(B?=", "スキャン"),
    ("no end", b"Re: =?utf-8?q?=C3=BC", "Re: ü"),
    ("half an end", b"=?utf-8?b?w7w=?", "ü"),
    ("no end before another", b"=?utf-8?b?w7w= =?utf-8?q?a?=", "üa"),
    ("no end in quotes", b'"=?utf-8?q?=C3=BC" x', '"ü" x'),
    ("a question mark", b"=?utf-8?q?=C3=BC? ja?=", "ü? ja"),
    ("nothing between", b"=?utf-8?q?=C3=BC?==?utf-8?q?a?=", "üa"),
    ("too long", b"=?utf-8?q?" + b"=C3=BC" * 20 + b"?=", "ü" * 20),
    ("empty", b"a =?utf-8?q??= b", "a  b"),
    ("empty, but it keeps others from being a word", b"=?utf-8?q?=?utf-8?q??==?", "=?utf-8?q? =?"),
    ("empty, between the halves of what a word begins with", b"==?utf-8?q?=E2=80=AA?=?utf-8?q?a?=", "= ?utf-8?q?a?="),
    ("no charset", b"=??q?M=FCller?=", "Müller"),
    ("charset in quotes", b'=?"utf-8"?q?=C3=BC?=', "ü"),
    ("no charset known", b"=?unknown-8bit?q?=C3=BC?=", "ü"),
    ("UTF-8 declared as ISO-2022-JP", b"=?iso-2022-jp?q?=C3=BC?=", "ü"),
    ("a made-up charset", b"=?x-printer?q?M=FCller?=", "Müller"),
    ("ASCII with other octets", b"=?us-ascii?q?M=FCller?=", "Müller"),
    ("not UTF-8", b"=?utf-8?q?M=FCller?=", "Müller"),
    ("a charset that is not known here", b"=?euc-tw?q?=C4=E3?=", None),
    ("a character that is not known here", b"=?big5?q?=88=62?=", None),
    ("control characters", b"=?utf-8?q?a=0D=0ABcc:_b?=", "a  Bcc: b"),
    ("only one of two", b"=?utf-8?q?a_b?= x =?utf-8?q?a b?=", "a b x a b"),
]


@each("octets, text", [row[1:] for row in MENDED], ids=[row[0] for row in MENDED])
def test_improper_words_are_written_anew(octets, text):
    mended = words.mended(octets)
    assert words.is_proper(octets) is (text is None)
    assert mended == octets if text is None else words.decode(mended.decode("ascii")) == text
    assert words.is_proper(mended)
    assert words.is_proper(mended, in_phrases=True)


def test_a_word_that_would_tear_a_list():
    octets = b"=?utf-8?q?M=C3=BCller,_Bob?= <b@x.org>"
    assert words.is_proper(octets)
    assert words.mended(octets, in_phrases=True) == b"=?utf-8?b?TcO8bGxlciwgQm9i?= <b@x.org>"


@each(
    "octets, fallback, text",
    [
        ("Störung".encode(), "", "Störung"),
        (b"St\xf6rung", "", "Störung"),
        ("移动".encode("gbk"), "gb2312", "移动"),
        ("移动".encode("gbk"), "utf-8", "ÒÆ¶¯"),
        ("Движение".encode("koi8_r"), "koi8-r", "Движение"),
        ("表".encode("cp932"), "iso-2022-jp", "表"),
        (b"M\xfcller", "shift_jis", "Müller"),  # the charset cannot read it
        (b"M\xfcller", "utf-16", "Müller"),
        (b"M\xfcller", "cp037", "Müller"),
        (b"M\xfcller", "made-up", "Müller"),
        ("移动".encode("gbk")[:-1], "gbk", "移\ufffd"),  # cut inside a character
        ("Störung im G".encode() + b"\xc3", "", "Störung im G\ufffd"),
        (b"Caf\xe9", "", "Café"),
        (b"\x1b$B%9%-%c%s40N;\x1b(B", "", "スキャン完了"),
        (b"[\x1b$B%9\x1b(B] \xfc", "", "[ス] ü"),
        (b"=?iso-8859-1?Q?\xf6?= \xd2\xc6", "gb2312", "=?utf-8?b?w7Y=?= 移"),
        (b"=?x-unknown?Q?=D2=C6?=", "gb2312", "=?utf-8?b?56e7?="),
    ],
)
def test_raw_octets(octets, fallback, text):
    assert words.text(octets, fallback) == text


def test_two_characters_that_might_be_utf_8():
    octets = "图片".encode("gbk")
    assert words.text(octets, "gb2312") == "ͼƬ"
    assert words.text(octets, "gb2312", doubted=True) == "图片"
    assert words.text("图片".encode(), "gb2312", doubted=True) == "图片"
    assert words.text("über".encode(), "iso-8859-1", doubted=True) == "über"


PIECES = [b"=?", b"?=", b"utf-8", b"iso-2022-jp", b"gb2312", b"?q?", b"?B?", b"=C3", b"w7w", b"=", b"?", b" ", b'"']
PIECES += [b"\x1b$B", b"\x1b(B", b"\xc3", b"\xbc", b"a", b"<", b"(", b",", b"\r", b"utf-7", b"+2AA-", b"=?utf-8?q?"]
PIECES += [b"=?utf-8?q??=", b"=?utf-8?q?=E2=80=AA?="]  # words without a text


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=40), st.booleans())
def test_mended_is_stable_and_says_the_same(octets, in_phrases):
    mended = words.mended(octets, in_phrases=in_phrases)
    assert words.mended(mended, in_phrases=in_phrases) == mended
    text = words.text(octets)
    shown = words.clean(words.decode(text))
    assert words.clean(words.decode(words.encoded(words.decode(text)).decode("ascii"))) == shown


@pytest.mark.parametrize(
    "unit",
    [b"=?", b"=?utf-8?q?", b"=?utf-8?b?a ", b"=?utf-8?q?a?=", b"?", b"=", b"=?utf-8?q?a?", b"=?a?b?a=a=", b"(=? "],
)
def test_hostile_words_are_read_in_linear_time(unit):
    text = flood(unit, 100_000 // len(unit))
    words.text(text)  # a quadratic reader needs minutes
    words.text(b"=?utf-8?b?" + text)


@each("value", ["ü", "a ü  b", "日本語" * 60, "=?utf-8?q?a?=", "x" * 2000, 'ü_?= ="', "😀" * 40])
def test_words_round_trip(value):
    line = words.encoded(value)
    assert line.isascii()
    assert max(map(len, line.split(b" "))) <= words.LONGEST
    assert words.decode(line.decode("ascii")) == value
