"""Encoded words in both directions."""

from __future__ import annotations

import pytest

from m365proxy.mime import words


@pytest.mark.parametrize(
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
        ("=?utf-8?q?a", "=?utf-8?q?a"),
    ],
)
def test_words_decode(encoded, text):
    assert words.decode(encoded) == text


@pytest.mark.parametrize("value", ["ü", "a ü  b", "日本語" * 60, "=?utf-8?q?a?=", "x" * 2000, 'ü_?= ="', "😀" * 40])
def test_words_round_trip(value):
    line = words.encoded(value)
    assert line.isascii()
    assert max(map(len, line.split(b" "))) <= words.LONGEST
    assert words.decode(line.decode("ascii")) == value
