"""What is read of the MIME that Exchange writes: names of fields, kinds of parts."""

import os
import random

from cases import each
from hypothesis import given
from hypothesis import strategies as st

from m365proxy.delivery.form import Form, Reader

PLAIN = b"Content-Type: text/plain\r\n\r\nhello\r\n"
WEB = b"Content-Type: text/html\r\n\r\n<p>hello\r\n"
PDF = b"Content-Type: application/pdf; name=scan.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n"
INVITATION = b"Content-Type: text/calendar;\r\n\tmethod=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n"
INNER = (
    b'Content-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary="z"\r\n\r\n--z\r\n\r\nx\r\n--z--\r\n'
)


def multi(subtype, *parts, boundary=None):
    boundary = boundary or f"={subtype}"
    lines = [f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\npreamble\r\n'.encode()]
    return b"".join(lines + [f"--{boundary}\r\n".encode() + part for part in parts]) + f"--{boundary}--\r\n".encode()


def read(raw, size=7):
    reader = Reader()
    for start in range(0, len(raw), size):
        reader.feed(raw[start : start + size])
    return reader.form


MESSAGES = {
    "text": (PLAIN, ["text/plain"], 1),
    "nothing declared": (b"Subject: x\r\n\r\nhello\r\n", ["text/plain"], 1),
    "a file": (multi("mixed", PLAIN, PDF), ["multipart/mixed", "text/plain", "application/pdf"], 2),
    "alternatives": (
        multi("mixed", multi("alternative", PLAIN, WEB), PDF, PDF),
        ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", *2 * ["application/pdf"]],
        4,
    ),
    "an invitation": (
        multi("alternative", PLAIN, INVITATION),
        ["multipart/alternative", "text/plain", "text/calendar"],
        2,
    ),
    "a message in it": (multi("mixed", PLAIN, INNER), ["multipart/mixed", "text/plain", "message/rfc822"], 2),
    "a part without a header": (multi("mixed", b"\r\nhello\r\n"), ["multipart/mixed", "text/plain"], 1),
    "bare LF": (
        multi("mixed", PLAIN, PDF).replace(b"\r\n", b"\n"),
        ["multipart/mixed", "text/plain", "application/pdf"],
        2,
    ),
}


@each("size", [1, 5, 100_000])
@each("name", MESSAGES)
def test_kinds_of_parts(name, size):
    raw, kinds, leaves = MESSAGES[name]
    form = read(b"From: a@b\r\nX-Foo: 1\r\n" + raw, size)
    assert sorted(form.kinds.elements()) == sorted(kinds) and form.leaves == leaves
    assert {b"from", b"x-foo"} <= form.fields


@each(
    "raw, telling",
    [
        (b"From: a@b\r\nTo: a@b\r\nThread-Index: x\r\nX-MS-Has-Attach: x\r\n" + PLAIN, False),
        (multi("mixed", PLAIN, PDF), False),
        (multi("mixed", multi("alternative", PLAIN, WEB), PDF), True),
        (multi("mixed", PLAIN, INVITATION), True),
        (b"In-Reply-To: <0@x>\r\n" + PLAIN, True),
        (b"X-Foo: 1\r\n" + PLAIN, True),
    ],
)
def test_what_would_tell_that_a_form_was_kept(raw, telling):
    assert read(raw).is_telling is telling


BEFORE = b"X-Foo: 1\r\nReferences: <0@x>\r\n" + multi("mixed", multi("alternative", PLAIN, WEB), PDF)
AFTER = [
    (b"X-Foo: 1\r\nReferences: <0@x>\r\n" + multi("mixed", multi("alternative", PLAIN, WEB), PDF, PDF), []),
    (b"X-Foo: 1\r\n" + multi("mixed", multi("alternative", PLAIN, WEB), PDF, PDF), ["references"]),
    (
        b"X-Foo: 1\r\nReferences: <0@x>\r\n" + multi("mixed", WEB, PDF, PDF),
        ["multipart/alternative", "text/plain"],
    ),
    (
        b"Date: x\r\nReferences: <0@x>\r\nX-Foo: 1\r\n"
        + multi("mixed", multi("related", multi("alternative", PLAIN, WEB)), PDF, PDF),
        [],
    ),
    (WEB, ["references", "x-foo", "application/pdf", "multipart/alternative", "multipart/mixed", "text/plain"]),
]


@each("after, missing", AFTER)
def test_what_is_missing(after, missing):
    assert read(BEFORE).missing_in(read(after)) == missing


@given(st.binary(max_size=4000), st.integers(1, 900))
def test_any_octets_can_be_read(raw, size):
    assert isinstance(read(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + raw, size), Form)


def test_memory_is_bounded_and_a_boundary_in_the_middle_of_a_long_line_is_none():
    reader = Reader()
    reader.feed(b"X: " + b"x" * 10_000_000 + b"\r\n" * 2 + b"y" * 10_000_000)
    assert len(reader._line) <= 1024 and len(reader._header) == 0 and reader.form.fields == {b"x"}
    reader = Reader()
    for number in range(2000):
        reader.feed(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (number, number))
    assert sum(reader.form.kinds.values()) <= 600


def test_random_mutations():
    raw = BEFORE + AFTER[0][0]
    chooser = random.Random(13)
    for _ in range(300):
        mutated = bytearray(raw)
        for _ in range(5):
            mutated[chooser.randrange(len(raw))] = os.urandom(1)[0]
        read(bytes(mutated), 50)
