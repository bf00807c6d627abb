"""Hostile and broken messages: what goes to Graph stays well formed and goes to nobody but the envelope."""

from __future__ import annotations

import email
import email.policy
import email.utils
import io
import os
import re

import pytest
from smtp_harness import user

from m365proxy.delivery import jsonheader, jsonmail
from m365proxy.errors import Permanent
from m365proxy.mime import parts as mime
from m365proxy.mime import prepare as message
from m365proxy.mime.skeleton import skeleton
from m365proxy.smtp.acceptance import Intake

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

ENVELOPE = ["a@contoso.com", "B@contoso.com", "c@contoso.com"]
WANTED = sorted(address.lower() for address in ENVELOPE)
SENDER = "scanner@contoso.com"

# What a reader that knows nothing of quoting would take for an address.
NAIVE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "100"))
short = hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)


def prepare(raw: bytes) -> bytes:
    prepared = message.prepare(
        io.BytesIO(raw), recipients=ENVELOPE, sender=SENDER, message_id="<made@contoso.com>", date=0.0
    )
    octets = b"".join(prepared.chunks())
    assert prepared.size == len(octets)
    return octets


def check_form(octets: bytes) -> None:
    head = octets.partition(b"\r\n\r\n")[0]
    assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
    assert head.isascii()
    assert b"\0" not in octets
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    made = email.message_from_bytes(octets)
    assert made.defects == []
    assert [made.get_all(name) is not None for name in ("From", "Subject", "Date", "Message-ID")] == [True] * 4
    for name in ("From", "To", "Cc", "Bcc", "Subject", "Date", "Message-ID"):
        assert len(made.get_all(name, [])) <= 1


def check_recipients(octets: bytes) -> None:
    """The envelope, read in three ways."""
    made = email.message_from_bytes(octets)
    values = [re.sub(r"\r\n", "", made[name]) for name in ("To", "Cc", "Bcc") if made[name] is not None]
    assert sorted(address.lower() for _, address in email.utils.getaddresses(values)) == WANTED
    assert sorted(found.lower() for value in values for found in NAIVE.findall(value)) == WANTED
    made = email.message_from_bytes(octets, policy=email.policy.default)
    fields = [made[name] for name in ("To", "Cc", "Bcc") if made[name] is not None]
    assert sorted(address.addr_spec.lower() for field in fields for address in field.addresses) == WANTED
    assert not any("@" in address.display_name for field in fields for address in field.addresses)
    assert [address.addr_spec for address in made["From"].addresses] == [SENDER]
    assert not {"sender", "resent-to", "resent-bcc", "apparently-to"} & {name.lower() for name in made}


pieces = st.sampled_from(
    [
        *ENVELOPE,
        "evil@example.net",
        "evil",
        "example.net",
        "Doe",
        "J\u00fc",
        "\u65e5\u672c",
        "\U0001f600",
        "\uff20",
        "<",
        ">",
        '"',
        "(",
        ")",
        ",",
        ";",
        ":",
        "@",
        ".",
        "\\",
        "'",
        "=",
        "?",
        "[192.0.2.1]",
        "<@x:",
        "mailto:",
        " ",
        "\t",
        "\r\n ",
        "\n\t",
        "\r",
        "\0",
        "\x0b",
        "\x85",
        "\u2028",
        "undisclosed-recipients:;",
        "=?utf-8?q?evil=40example.net?=",
        "=?utf-8?b?ZXZpbEBleGFtcGxlLm5ldA==?=",
        "=?utf-8?q?Doe=2C_J?=",
        "=?",
        "?=",
        "=?x?q?=0D=0ABcc:_evil=40example.net?=",
        "=?utf-7?q?+2AA-?=",
        "=?iso-2022-jp?b?GyRC?=",
        "=?utf-8?q?evil <evil@example.net>, evil@example.net",
        "=?utf-8?b?ZXZpbEBleGFtcGxlLm5ldA",
        "=?gb2312?q?",
        "\x1b$B",
        "\x1b(B",
        "\x0e",
        "text/plain; charset=gb2312",
        "x" * 1200,
    ]
)
values = st.lists(st.one_of(pieces, pieces, pieces, st.text(max_size=3)), max_size=14).map("".join)
names = st.sampled_from(
    [
        *("To", "to", "Cc", "Bcc", "From", "Sender", "Resent-To", "Resent-Bcc", "Reply-To", "Apparently-To", "Subject"),
        *("Date", "Message-ID", "References", "X-Original-To", "X-Foo", "X\u00e4", "To\u00a0"),
        *("Content-Type", "Content-Disposition", "Content-Transfer-Encoding"),
    ]
)
line_ends = st.sampled_from(["\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r"])
fields = st.tuples(names, st.sampled_from([": ", ":", " : ", ""]), values, line_ends).map("".join)
headers = st.lists(fields, max_size=8).map("".join)
bodies = st.sampled_from(
    ["\r\nbody\r\n", "\n\u00fc\n", "", "\r\n\0" + "y" * 2000, "\r\nBcc: evil@example.net\r\n\r\nx"]
)


@short
@hypothesis.given(headers, bodies, st.sampled_from(["utf-8", "cp1252", "gb18030"]))
def test_nobody_but_the_envelope(head, body, charset):
    try:
        octets = prepare((head + body).encode(charset, "replace"))
    except Permanent:
        hypothesis.reject()  # an encoding nobody knows, around octets that need one
    hypothesis.assume(b"Content-Type: m" not in octets)
    check_form(octets)
    check_recipients(octets)


@short
@hypothesis.given(st.binary(max_size=400))
def test_any_octets(raw):
    octets = prepare(raw)
    check_form(octets)
    check_recipients(octets)


# Good values of fields that a program reads more out of than text; each octet of them may be another one.
SOUND = {
    b"Date": b"Sat, 20 Sep 2008 20:04:30 +0300 (EEST)",
    b"From": b'"Scanner" <scanner@contoso.com>',
    b"To": b"A <a@contoso.com>, b@contoso.com",
    b"Cc": b"group: c@contoso.com;",
    b"Reply-To": b"alerts@contoso.com",
    b"Subject": b"=?utf-8?q?Scan_1?=",
    b"Message-ID": b"<1@scanner.contoso.com>",
    b"In-Reply-To": b"<1@contoso.com>",
    b"References": b"<1@contoso.com> <2@contoso.com>",
    b"Disposition-Notification-To": b"<alerts@contoso.com>",
    b"MIME-Version": b"1.0 (made by a scanner)",
    b"Content-Type": b"multipart/mixed; charset=utf-8; boundary*0=b; name*=utf-8'en'%41",
    b"Content-Disposition": b'attachment; filename*0=a; filename*1="b.pdf"; size=12',
    b"Content-Transfer-Encoding": b"base64 (really)",
    b"Content-ID": b"<part1@contoso.com>",
    b"Importance": b"high",
    b"X-Priority": b"1 (Highest)",
    b"List-Unsubscribe": b"<mailto:alerts@contoso.com>",
}


@st.composite
def spoiled_field(draw):
    """A field with an octet or two put in, taken out or changed."""
    name = draw(st.sampled_from(sorted(SOUND)))
    value = bytearray(SOUND[name])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value) - 1))
        value[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=3)).replace(b"\n", b"\n ")
        value = value or bytearray(b"x")
    return name + b": " + bytes(value) + b"\r\n"


@short
@hypothesis.given(spoiled_field(), st.sampled_from([b"\xe9\r\n", b"--b\r\n\r\nx\r\n--b--\r\n"]))
def test_every_octet_of_a_field_may_be_anything(field, body):
    """At the end of DATA, on the way to Graph, and on the way of large mail."""
    raw = field + b"\r\n" + body
    try:
        assert Intake(True).check(io.BytesIO(raw), user(rewrite_from=True)) is None
        octets = prepare(raw)
        jsonmail.compose(
            message.prepare(io.BytesIO(raw), recipients=ENVELOPE, sender=SENDER, message_id="<1@contoso.com>"),
            io.BytesIO(raw),
        )
    except Permanent:
        return
    assert octets.partition(b"\r\n\r\n")[0].isascii()


other_field = st.builds(
    lambda name, value: name + b": " + value.replace(b"\n", b"\n ") + b"\r\n",
    st.sampled_from([b"X-A", b"x-a", b"X-B", b"X-C", b"X-Mailer", b"X-Spam-A", b"X-Loop", b"X-!", b"Comments", b"X-"]),
    st.binary(max_size=20),
)


@short
@hypothesis.given(st.lists(st.one_of(spoiled_field(), other_field), max_size=12))
def test_what_large_mail_loses_of_a_header_is_said(fields):
    """A field has a property, is one of the five, or is named; and what names it is fit for the log."""
    raw = b"".join(fields) + b"\r\nx"
    try:
        prepared = message.prepare(io.BytesIO(raw), recipients=ENVELOPE, sender=SENDER, message_id="<1@contoso.com>")
        found = jsonheader.as_properties(prepared.top)
    except Permanent:
        return
    carried = {one["name"].lower() for one in found.properties.get("internetMessageHeaders", ())}
    carried |= {name.decode() for name in jsonheader.PROPERTIES}
    named = {one.lower() for one in found.left_out}
    assert {field.name.decode().lower() for field in prepared.top.kept} <= carried | named
    assert all(one.isprintable() and one.isascii() for one in found.left_out)
    assert len(found.properties.get("internetMessageHeaders", ())) <= jsonheader.MOST_HEADERS


part_pieces = st.sampled_from(
    [
        b"--b",
        b"--c",
        b"--b--",
        b"--c--",
        b"--bc",
        b"--",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"Content-Type: multipart/mixed; boundary=c\r\n",
        b"Content-Type: multipart/alternative; boundary=b\r\n",
        b"Content-Type: text/html\r\n",
        b"Content-Type: text/plain; charset=utf-16\r\n",
        b"Content-Type: a/b\r\n",
        b"Content-Type: multipart/digest; boundary=c\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: multipart/mixed\r\n",
        b'Content-Disposition: attachment; filename="\xfc"\r\n',
        b"Content-Disposition: x; filename*=utf-8''%C3%BC\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Content-Transfer-Encoding: 8bit\r\n",
        b"Content-Transfer-Encoding: binary\r\n",
        b"X: \xff\r\n",
        b"junk\r\n",
        b"text",
        b"\xc3\xa4",
        b"\xff",
        b"\0",
        b"QUJD",
        b"=3D=\r\n",
        b"=C3=A4",
        b"y" * 1500,
    ]
)


@short
@hypothesis.given(st.sampled_from([b"b", b"c", b'"b c"']), st.lists(part_pieces, max_size=30).map(b"".join))
def test_any_structure(boundary, body):
    raw = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + body
    octets = prepare(raw)
    check_form(octets)
    # Nothing is left to repair, and no part went: both trees have the same content.
    again = prepare(octets)
    assert again == octets
    assert contents(octets) == contents(raw)


@short
@hypothesis.given(
    st.sampled_from([b"b", b"c", b'"b c"']), st.lists(part_pieces, max_size=30).map(b"".join), st.integers(0, 500)
)
def test_without_its_largest_files_any_structure_is_well_formed(boundary, body, more):
    raw = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + body
    file = io.BytesIO(raw)
    whole = message.prepare(file, recipients=ENVELOPE, sender=SENDER, message_id="<made@contoso.com>", date=0.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(message, "LARGE_MIME_CEILING", 200 + more)
        made = skeleton(whole, file, whole.root.leaves())
        if made is None:
            return
        octets = b"".join(made.message.chunks())
        assert made.message.size == len(octets) <= 200 + more + made.message.top.envelope_size
    check_form(octets)
    check_recipients(octets)
    whole_parts = contents(b"".join(whole.chunks()))
    assert all(content in whole_parts for content in contents(octets) if content)


def contents(raw: bytes):
    file = io.BytesIO(raw)
    parts = [part for part in mime.scan(file).leaves() if part.content_type != "message/rfc822"]  # these are rewritten
    found = [b"".join(mime.decode(file, part)) for part in parts]
    return [re.sub(rb"\r{0,4}\n|\r", b"\n", content).replace(b"\0", b"").rstrip() for content in found]


@short
@hypothesis.given(st.lists(part_pieces, max_size=30).map(b"".join), st.integers(1, 40))
def test_decoding_does_not_depend_on_the_chunks(body, size):
    for encoding in (b"base64", b"quoted-printable", b"8bit"):
        file = io.BytesIO(b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body)
        part = mime.scan(file)
        assert b"".join(mime.decode(file, part, size)) == b"".join(mime.decode(file, part))


@short
@hypothesis.given(st.binary(max_size=300))
def test_only_permanent_refusals(raw):
    """An envelope from outside may be refused, but by name."""
    recipient = raw.decode("latin-1")
    try:
        prepared = message.prepare(io.BytesIO(b""), recipients=[recipient], sender=SENDER, message_id="<1@contoso.com>")
    except Permanent:
        return
    if recipient.isascii():
        assert b"\r\nBcc: " + recipient.encode() + b"\r\n" in b"".join(prepared.chunks())
