"""Files in uuencode, sound and damaged."""

from __future__ import annotations

import binascii
import os
import tracemalloc

import pytest
from cases import each

from m365proxy.mime import uuencode

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "200"))


def encoded(content: bytes, name: bytes = b"a.bin", grave: bool = False, line_end: bytes = b"\r\n") -> bytes:
    lines = [binascii.b2a_uu(content[i : i + 45], backtick=grave).rstrip(b"\n") for i in range(0, len(content), 45)]
    return line_end.join([b"begin 644 " + name, *lines, b"`" if grave else b" ", b"end", b""])


def chunked(data: bytes, size: int):
    return (data[i : i + size] for i in range(0, len(data), size))


def trimmed(text: bytes) -> bytes:
    """As some mail systems pass it on."""
    return b"\r\n".join(line.rstrip(b" ") for line in text.split(b"\r\n"))


CONTENTS = [b"", b"x", b"\0\0\0\0", bytes(range(256)), b"\xff" * 45, b"\0" * 46, b"abc" * 100]


@each("content", CONTENTS)
@each("grave", [False, True])
@each("size", [1, 7, 10_000])
def test_sound_files(content, grave, size):
    for text in (
        encoded(content, grave=grave),
        encoded(content, grave=grave, line_end=b"\n"),
        trimmed(encoded(content, grave=grave)),
        b"\r\n\r\n" + encoded(content, grave=grave) + b"\r\n \r\n",
        encoded(content, grave=grave).rstrip(),
    ):
        assert uuencode.examined(chunked(text, size)).name == b"a.bin"
        pieces = list(uuencode.decoded(chunked(text, size)))
        assert b"".join(pieces) == content and b"" not in pieces


@each("name", [b"\xdcbersicht.pdf", b"a b.pdf", b"", "Ü.pdf".encode(), b"end"])
def test_names(name):
    assert uuencode.examined([encoded(b"x", name)]).name == name


GOOD = encoded(bytes(range(200)), grave=True)
DAMAGED = [
    (b"", 'the line "begin" is missing'),
    (b"hello\r\n" + GOOD, 'line 1 is not "begin" with a mode and a name'),
    (GOOD.replace(b"begin 644 ", b"begin "), 'line 1 is not "begin" with a mode and a name'),
    (GOOD.replace(b"end\r\n", b""), 'the line "end" is missing'),
    (GOOD[:120], 'the line "end" is missing'),
    (GOOD + b"more\r\n", 'line 9 stands after the line "end"'),
    (GOOD + GOOD, 'line 9 stands after the line "end"'),
    (GOOD.replace(b"\r\nM", b"\r\nM\xe4", 1), "line 2 has an octet that is not in the alphabet of uuencode"),
    (GOOD.replace(b"\r\nM", b"\r\nMabc", 1), "line 2 has an octet that is not in the alphabet of uuencode"),
    (GOOD.replace(b"\r\nM", b"\r\n%", 1), "line 2 is longer than it says"),
    (GOOD[:60] + GOOD[70:], "line 2 is cut off"),
    (b"begin 644 x\r\n" + b"M" * 200 + b"\r\nend\r\n", "line 2 is too long"),
    (b"begin 644 " + b"x" * 5000, "line 1 is too long"),
]


@each("text, reason", DAMAGED, ids=[row[1] for row in DAMAGED])
@each("size", [1, 50, 10_000])
def test_damaged_ones_are_named_by_their_line(text, reason, size):
    with pytest.raises(uuencode.Damaged) as caught:
        uuencode.examined(chunked(text, size))
    assert str(caught.value) == reason


@each("content", [b"x", b"ab", bytes(range(46)), bytes(range(47))])
def test_what_fills_a_line_up_means_nothing(content):
    """Some encoders fill the last group of a line with whatever is in their memory."""
    *lines, zero, end, last = encoded(content).split(b"\r\n")
    filled = -len(content) % 3
    assert filled and lines[-1][-filled:] == b" " * filled
    lines[-1] = lines[-1][:-filled] + b"K#"[:filled]
    text = b"\r\n".join([*lines, zero, end, last])
    assert uuencode.examined([text]).name == b"a.bin"
    assert b"".join(uuencode.decoded([text])) == content


def test_a_checksum_at_the_end_of_a_line_means_nothing():
    lines = encoded(b"abc" * 30, grave=True).split(b"\r\n")
    lines[1:3] = [line + b"X" for line in lines[1:3]]
    assert b"".join(uuencode.decoded([b"\r\n".join(lines)])) == b"abc" * 30


pieces = st.sampled_from(
    [b"begin 644 x", b"end", b"\r\n", b"\n", b"`", b" ", b"M", b"#86)C", b"\xff", b"\0", b"x" * 90]
)


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(st.lists(pieces, max_size=20).map(b"".join), st.integers(1, 50))
def test_any_text(text, size):
    """It is damaged, or decoded in the same way whatever the chunks."""
    try:
        uuencode.examined(chunked(text, size))
    except uuencode.Damaged as error:
        with pytest.raises(uuencode.Damaged, match="^"):
            list(uuencode.decoded([text]))
        assert str(error)
        return
    assert b"".join(uuencode.decoded(chunked(text, size))) == b"".join(uuencode.decoded([text]))


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(st.binary(max_size=300), st.booleans())
def test_every_content_comes_back(content, grave):
    assert b"".join(uuencode.decoded([encoded(content, grave=grave)])) == content
    assert b"".join(uuencode.decoded([trimmed(encoded(content, grave=grave))])) == content


def test_memory_is_bounded():
    line = binascii.b2a_uu(b"x" * 45) * 1000
    tracemalloc.start()
    chunks = [b"begin 644 x\n", *[line] * 50, b" \nend\n"]
    assert sum(map(len, uuencode.decoded(iter(chunks)))) == 50 * 45_000
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
