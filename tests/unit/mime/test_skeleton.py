"""A large message without its largest files: what is taken out, and that nothing else changes."""

import email
import email.policy
import io

import pytest
from cases import each

from m365proxy.mime import prepare
from m365proxy.mime.skeleton import skeleton

CEILING = 2000

HEAD = (
    b"From: Scanner <scanner@contoso.com>\r\nTo: a@contoso.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Thu, 05 Nov 2026 09:00:00 +0000\r\nIn-Reply-To: <0@x>\r\nX-Foo: 1\r\nAuto-Submitted: auto-generated\r\n"
    b"Disposition-Notification-To: desk@contoso.com\r\nMIME-Version: 1.0\r\n"
)
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\nhello\r\n"
WEB = b'Content-Type: text/html\r\n\r\n<p>hello <img src="cid:logo@x">\r\n'
CALENDAR = b"Content-Type: text/calendar; method=REQUEST; name=invite.ics\r\n\r\nBEGIN:VCALENDAR\r\n"


def octets(size, name="scan.pdf", kind="application/pdf", more=""):
    head = f"Content-Type: {kind}; name={name}\r\n{more}Content-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + b"QUJD\r\n" * (size // 6)


def picture(size):
    return octets(size, "logo.png", "image/png", "Content-ID: <logo@x>\r\nContent-Disposition: inline\r\n")


def multi(subtype, *parts):
    boundary = f"{subtype}-{len(parts)}"
    pieces = [f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()]
    for part in parts:
        pieces.append(f"--{boundary}\r\n".encode() + part + b"\r\n")
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


def prepared(raw):
    file = io.BytesIO(raw)
    return file, prepare.prepare(
        file, recipients=["a@contoso.com", "hidden@contoso.com"], sender="scanner@contoso.com", message_id="<1@x>"
    )


def made_of(raw, ceiling=CEILING):
    file, whole = prepared(raw)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare, "LARGE_MIME_CEILING", ceiling)
        return whole, skeleton(whole, file, whole.root.leaves())


def shape(raw):
    """The types of all parts, nested."""

    def of(part):
        return (
            [part.get_content_type(), *map(of, part.iter_parts())] if part.is_multipart() else part.get_content_type()
        )

    return of(email.message_from_bytes(raw, policy=email.policy.default))


BIG, SMALL = octets(6000), octets(60, "small.pdf")
LOG = b"Content-Type: text/plain; name=log.txt\r\n\r\n" + b"line\r\n" * 1000
LONG = b"Content-Type: text/plain\r\n\r\n" + b"text\r\n" * 1000

# name: (content, types of what is left, names of what is taken, whether others may be files); None: nothing fits
STRUCTURES = {
    "text and file": (multi("mixed", PLAIN, BIG), ["multipart/mixed", "text/plain"], ["scan.pdf"], False),
    "file and text": (multi("mixed", BIG, PLAIN), ["multipart/mixed", "text/plain"], ["scan.pdf"], False),
    "alternatives stay": (
        multi("mixed", multi("alternative", PLAIN, WEB), BIG),
        ["multipart/mixed", ["multipart/alternative", "text/plain", "text/html"]],
        ["scan.pdf"],
        False,
    ),
    "small files stay": (
        multi("mixed", PLAIN, SMALL, BIG, octets(60, "b.pdf")),
        ["multipart/mixed", "text/plain", "application/pdf", "application/pdf"],
        ["scan.pdf"],
        True,
    ),
    "an invitation stays": (
        multi("mixed", multi("alternative", PLAIN, CALENDAR), BIG),
        ["multipart/mixed", ["multipart/alternative", "text/plain", "text/calendar"]],
        ["scan.pdf"],
        True,
    ),
    "a picture that the text shows": (
        multi("alternative", PLAIN, multi("related", WEB, picture(6000))),
        ["multipart/alternative", "text/plain", ["multipart/related", "text/html"]],
        ["logo.png"],
        False,
    ),
    "a text that is a file": (multi("mixed", PLAIN, LOG), ["multipart/mixed", "text/plain"], ["log.txt"], False),
    "nothing but files": (multi("mixed", BIG), "text/plain", ["scan.pdf"], False),
    "nothing but a file": (BIG, "text/plain", ["scan.pdf"], False),
    "an inner multipart of files": (
        multi("mixed", PLAIN, multi("parallel", BIG, octets(6000, "b.pdf"))),
        ["multipart/mixed", "text/plain"],
        ["b.pdf", "scan.pdf"],
        False,
    ),
    "no more than needed": (
        multi("mixed", PLAIN, octets(1500, "a.pdf"), octets(600, "b.pdf"), octets(300, "c.pdf")),
        ["multipart/mixed", "text/plain", "application/pdf", "application/pdf"],
        ["a.pdf"],
        True,
    ),
    "a long text": (multi("mixed", LONG, BIG), None, [], False),
    "a second long text": (multi("mixed", PLAIN, LONG), None, [], False),
    "a multipart without parts": (
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"text\r\n" * 1000,
        None,
        [],
        0,
    ),
}


@each("name", STRUCTURES)
def test_the_largest_files_are_taken_out(name):
    content, left, taken, has_files = STRUCTURES[name]
    whole, made = made_of(HEAD + content)
    if left is None:
        assert made is None
        return
    raw = b"".join(made.message.chunks())
    assert made.message.size == len(raw) <= CEILING + made.message.top.envelope_size
    assert sorted(part.filename for part in made.taken) == taken and made.has_files is has_files
    assert shape(raw) == left
    before = b"".join(whole.chunks()).partition(b"\r\n\r\n")[0].split(b"\r\nMIME-Version")[0]
    assert raw.startswith(before), "the header is the same"


def test_what_is_left_is_octet_for_octet_what_it_was():
    first, last = multi("alternative", PLAIN, WEB), octets(60, "last.bin", "application/x-odd", "X-Part: kept\r\n")
    whole, made = made_of(HEAD + multi("mixed", first, BIG, last))
    raw, without = b"".join(whole.chunks()), b"".join(made.message.chunks())
    assert without == raw.replace(b"--mixed-3\r\n" + BIG + b"\r\n", b"")


def test_quoted_printable_that_grows_less_than_it_seems_is_measured():
    parts = [
        b"Content-Type: text/x-log; name=%d.log\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" % number
        + b"=41=42=43=\r\n" * 50
        for number in range(40)
    ]
    _, made = made_of(HEAD + multi("mixed", PLAIN, *parts))
    assert made is not None and 30 < len(made.taken) <= 40


def test_without_bcc_as_a_draft_needs_it():
    _, made = made_of(HEAD + multi("mixed", PLAIN, BIG))
    raw = b"".join(made.message.without_bcc().chunks())
    assert b"hidden@" not in raw and b"hidden@" in b"".join(made.message.chunks())


def test_only_leaves_of_the_message_are_taken():
    file, whole = prepared(HEAD + multi("mixed", PLAIN, BIG))
    _, other = prepared(HEAD + multi("mixed", PLAIN, BIG))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prepare, "LARGE_MIME_CEILING", CEILING)
        assert skeleton(whole, file, other.root.leaves()) is None
