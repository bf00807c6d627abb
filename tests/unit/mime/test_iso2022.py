"""Text with escape sequences between 7-bit charsets."""

from __future__ import annotations

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st

from m365proxy.mime import iso2022


@pytest.mark.parametrize("text", ["スキャン完了", "a 移动 b", "ｶﾅ half", "\\ yen~"])
@pytest.mark.parametrize("codec", ["iso2022_jp_2", "iso2022_jp_3", "iso2022_jp_ext", "iso2022_jp_2004"])
def test_what_python_writes(text, codec):
    try:
        octets = text.encode(codec)
    except UnicodeEncodeError:
        pytest.skip("not in this charset")
    assert iso2022.decoded(octets) == text


@each(
    "octets, text",
    [
        ("가각 a\n나".encode("iso2022_kr"), "가각 a\n나"),
        (b"\x1b$)A\x0e" + bytes(octet & 0x7F for octet in "移动".encode("gb2312")) + b"\x0f!", "移动!"),
        (b"\x1b$B-!|b\x1b(B", "①髙"),  # characters of Windows
        (b"\x1b$@F|\x1b(J\\", "日\\"),
        (b"\x1b(I1C\x1b(B", "ｱﾃ"),
        (b"\x1b$BF| K\\\x1b(B", "日 本"),
        (b"\x1b$BF|K", "日\ufffd"),  # cut inside a character
        (b"\x1b$BF|\nab", "日\nab"),  # every line begins in ASCII
        (b"a\x0eb\x0fc\x1b", "abc\x1b"),
    ],
)
def test_sequences(octets, text):
    assert iso2022.decoded(octets) == text


@each(
    "octets, escaped",
    [
        (b"\x1b$B%9\x1b(B", True),
        (b"\x1b$)C", True),
        (b"\x1b(I1", True),
        (b"\x1b(B", False),
        (b"\x1b[31mred\x1b[0m", False),
        (b"$B%9", False),
    ],
)
def test_is_escaped(octets, escaped):
    assert iso2022.is_escaped(octets) is escaped


@given(st.lists(st.sampled_from([b"\x1b$B", b"\x1b(B", b"\x1b$)C", b"\x0e", b"\x0f", b"\n", b"a", b"!}", b"\xff"])))
def test_never_raises(pieces):
    iso2022.decoded(b"".join(pieces))
