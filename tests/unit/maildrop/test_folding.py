"""Long lines, cut."""

from __future__ import annotations

import email

from cases import each

from m365proxy.maildrop.folding import folded
from m365proxy.mime.encodings import canonical, ended

WORDS = b"word " * 600


FOLDS = [
    (b"A: b\r\n\r\n" + b"x" * 2045 + b"\r\n", None),
    (b"A: b\r\n\r\n" + b"x" * 2046 + b"\r\n", [998, 998, 50]),
    (b"A: b\r\n\r\n" + WORDS + b"\r\n", [994, 995, 995, 16]),
    (b"A: " + WORDS + b"\r\n\r\nbody\r\n", [997, 995, 995, 16]),
    (b"A: b\r\n\r\n" + b"\xc3\xbc" * 1100, [998, 998, 204]),
    (b"A: b\r\n\r\n" + b" " * 3000 + b"\r\n", [998, 998, 998, 6]),
]


@each("piece", [1, 700, 1 << 20])
@each("message, lengths", FOLDS)
def test_lines_poplib_stops_at_are_folded_and_no_octet_is_lost(message, lengths, piece):
    chunks = (message[start : start + piece] for start in range(0, len(message), piece))
    got = b"".join(folded(ended(canonical(chunks, doubled=False))))
    assert got.endswith(b"\r\n")
    whole = message if message.endswith(b"\r\n") else message + b"\r\n"
    if lengths is None:
        assert got == whole
        return
    assert got.replace(b"\r\n", b"") == whole.replace(b"\r\n", b"")
    lines = [line for line in got.split(b"\r\n") if line not in (b"A: b", b"", b"body")]
    assert [len(line) for line in lines] == lengths
    for line in lines:
        line.decode()


def test_a_field_without_white_space_stays_one_field():
    message = b"A: b\r\nReferences:" + b"x" * 5000 + b"\r\nC: d\r\n\r\n"
    fields = email.message_from_bytes(b"".join(folded([message])))
    assert list(fields) == ["A", "References", "C"]
    assert "".join(fields["References"].split()) == "x" * 5000
