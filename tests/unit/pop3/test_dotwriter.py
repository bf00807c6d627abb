"""Doubled dots and the closing one."""

from __future__ import annotations

from cases import each
from hypothesis import given
from hypothesis import strategies as st

from m365proxy.pop3.dotwriter import stuffed
from m365proxy.smtp.dotreader import DotReader

LINES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"\0."]), max_size=10)
CUTS = st.lists(st.integers(0, 30), max_size=12)


def in_chunks(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:])]


@given(LINES, st.booleans(), CUTS)
def test_a_reader_of_dots_gets_every_octet(lines, ended, cuts):
    data = b"\r\n".join(lines) + b"\r\n" * ended
    reader = DotReader()
    message = reader.feed(b"".join(stuffed(in_chunks(data, cuts))))
    assert reader.done and reader.rest == b""
    assert message == data or message == data + b"\r\n"


@each(
    "chunks, sent",
    [
        ([], b".\r\n"),
        ([b""], b".\r\n"),
        ([b"a"], b"a\r\n.\r\n"),
        ([b".a\r\n", b".b"], b"..a\r\n..b\r\n.\r\n"),
        ([b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n.\r\n"),
        ([b"a\r\n", b"", b"."], b"a\r\n..\r\n.\r\n"),
        ([b"a", b".b"], b"a.b\r\n.\r\n"),
    ],
)
def test_stuffed(chunks, sent):
    assert b"".join(stuffed(chunks)) == sent
