"""Where TOP ends."""

from __future__ import annotations

import pytest
from cases import each

from m365proxy.maildrop.top import Top, top

MESSAGE = b"A: b\r\nC: d\r\n\r\none\r\n\r\nthree\r\n"


TOPS = [
    (0, b"A: b\r\nC: d\r\n\r\n"),
    (1, b"A: b\r\nC: d\r\n\r\none\r\n"),
    (2, b"A: b\r\nC: d\r\n\r\none\r\n\r\n"),
    (3, MESSAGE),
    (99, MESSAGE),
]


@each("size", [1, 2, 3, 5, 100])
@each("lines, wanted", TOPS)
def test_the_top_does_not_depend_on_the_pieces(size, lines, wanted):
    pieces = [MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size)]
    asked = iter(pieces)
    assert b"".join(top(asked, lines)) == wanted
    if wanted != MESSAGE and size < 10:
        assert sum(map(len, asked)) > 0  # the rest was not asked for


@pytest.mark.parametrize("raw", [b"A: b\r\n", b"A: " + b"x" * 70_000 + b"\r\n", b""])
def test_a_message_that_is_only_header(raw):
    assert b"".join(top([raw[:5], raw[5:]], 0)) == raw


def test_a_blank_line_is_blank_only_from_its_beginning():
    wanted = Top(0)
    assert wanted.feed(b"A: " + b"x" * 50_000) and not wanted.done
    assert wanted.feed(b"\r\n") and not wanted.done
    assert wanted.feed(b"\r\nbody\r\n") == b"\r\n" and wanted.done
