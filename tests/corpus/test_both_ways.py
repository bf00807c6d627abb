"""What arrives is what was sent, as MIME and as JSON: Python's own test mails, and those in this folder.

Beside a mail that is broken, `NAME.eml`, is the text that a reader must find nevertheless, `NAME.txt`.
"""

from __future__ import annotations

import email
import email.policy
import io
import pathlib
import re

import mailreader
import pytest
from mailreader import parsed
from messages import corpus

from m365proxy.delivery import jsonheader, jsonmail
from m365proxy.mime import limits, prepare, topheader

HERE = pathlib.Path(__file__).parent
DOCS = (HERE.parents[1] / "docs" / "smtp.md").read_text("utf-8")

# What does not arrive as it should yet, by what stands in the names.
NOT_YET = re.compile(
    r"comma-in-a-name|msg_47|uuencode|label-(gb|iso|unknown|utf)|raw-header-|word-of|word-with-raw|word-without-end"
)


def mail(path: pathlib.Path):
    mended = [] if not NOT_YET.match(path.name) else [pytest.mark.xfail(strict=False, reason="not mended yet")]
    return pytest.param(path, id=path.name, marks=mended)


MAILS = list(map(mail, [*sorted(HERE.glob("*.eml")), *map(pathlib.Path, corpus())]))
OFFICE = "office@fabrikam.example"

# The fields that docs/smtp.md says are taken out.
TAKEN_OUT = re.findall(r"`([\w*-]+)`", DOCS.partition("Taken out of the header:")[2].partition("\n\n")[0])

# m365proxy adds these where they are missing.
ADDED = ("From", "Subject", "Message-ID")

# What may arrive otherwise than it was sent, and why.
REPAIRS = {
    "msg_05.txt": (
        "an address without domain is none",
        ["-From: <foo>", "-To: <baz>", "+From: <alerts@contoso.com>"],
    ),
    "msg_15.txt": (
        "it closes a multipart too early, has blanks at the end of quoted-printable lines (RFC 2045 6.7), and an"
        " address and a Message-ID without @",
        [
            *(
                "-To: <XX>",
                "-Message-ID: <xxxx>",
                "+Message-ID: <made@contoso.com>",
                "-  multipart/alternative",
                "+  text/plain",
            ),
            *("-  | Some removed test. ", "+  | Some removed test."),
            '+  image/gif attachment "xx.gif" x-mac-creator=6F676C65 x-mac-type=47494666',
            "+  | Some removed base64 encoded chars.",
        ],
    ),
    "msg_17.txt": ("a multipart without parts is shown as text", ["-multipart/mixed", "+text/plain"]),
    "msg_25.txt": (
        "a multipart without parts is shown as text",
        ["-multipart/report bo= report-type=delivery-status", "+text/plain report-type=delivery-status"],
    ),
    "msg_31.txt": ("a multipart without parts is shown as text", ["-multipart/mixed", "+text/plain"]),
    "msg_36.txt": ("a group without addresses goes", ["-To: <>"]),
    "msg_39.txt": (
        "it closes multiparts too early: what follows is shown, too",
        [
            *(
                "-    multipart/alternative <20592.1022586929.2@example.com>",
                "+    text/plain <20592.1022586929.2@example.com>",
            ),
            *("+    text/plain <20592.1022586929.6@example.com>", "+    |"),
            *("+    application/octet-stream <20592.1022586929.7@example.com> (patch3)", "+    | ]u"),
            *("+    application/octet-stream <20592.1022586929.8@example.com> (patch4)", "+    | ]u"),
            *("+    text/plain <20592.1022586929.10@example.com>", "+    |"),
            *("+    application/octet-stream <20592.1022586929.11@example.com> (patch5)", "+    | ]u"),
            *("+    application/octet-stream <20592.1022586929.12@example.com> (patch6)", "+    | ]u"),
        ],
    ),
    "msg_41.txt": ("a multipart without parts is shown as text", ["-multipart/alternative =", "+text/plain"]),
    "msg_43.txt": (
        "the mailbox's address where there is none",
        ["-From: MAILER DAEMON <>", "+From: <alerts@contoso.com>"],
    ),
}


def recipients(raw: bytes):
    """The addresses of To and Cc, or one."""
    head = re.split(rb"\r?\n\r?\n", raw)[0].replace(b"\r\n", b"\n")
    found = []
    for value in re.findall(rb"(?im)^(?:to|cc)[ \t]*:((?:.|\n[ \t])*)", head):
        found += [one.decode("ascii") for one in re.findall(rb"[\w.+-]+@[\w-]+(?:\.[\w-]+)*", value)]
    return found or [OFFICE]


def prepared(raw: bytes):
    file = io.BytesIO(raw)
    made = prepare.prepare(
        file,
        recipients=recipients(raw),
        sender="alerts@contoso.com",
        message_id="<made@contoso.com>",
        may_send_as=lambda address: True,
    )
    return made, file


def arrived(raw: bytes) -> bytes:
    """As it goes to Graph as MIME, but for the recipients that were in the envelope only."""
    made, _ = prepared(raw)
    return b"".join(made.without_bcc().chunks())


def right(path: pathlib.Path) -> str:
    """What a reader must find."""
    golden = path.with_suffix(".txt")
    if path.suffix == ".eml" and golden.exists():
        return golden.read_text("utf-8")
    return mailreader.shown(path.read_bytes(), TAKEN_OUT)


@pytest.mark.skipif(not corpus(), reason="no Python here has its email package's test mails")
def test_python_s_own_test_mails_are_among_them():
    assert len(corpus()) > 40


def test_the_fields_that_are_taken_out_are_those_in_the_docs():
    names = {name.lower().rstrip("*") for name in TAKEN_OUT}
    assert names == {name.decode("ascii") for name in (*topheader._STRIPPED, *topheader._STRIPPED_PREFIXES)}


@pytest.mark.parametrize("path", MAILS)
def test_as_mime(path):
    was = right(path)
    names = {line.partition(":")[0] for line in was.partition("\n\n")[0].splitlines()}
    now = mailreader.shown(arrived(path.read_bytes()), [name for name in ADDED if name not in names])
    _, repairs = REPAIRS.get(path.name, ("", []))
    assert mailreader.differences(was, now) == repairs


@pytest.mark.parametrize("path", MAILS)
def test_every_reader_reads_the_same(path):
    """What arrives says the same to Python's newer reader, which has another parser."""
    raw = arrived(path.read_bytes())
    old, new = parsed(raw), email.message_from_bytes(raw, policy=email.policy.default)
    assert " ".join(str(new["subject"]).split()) == dict(mailreader.fields(old))["Subject"]
    for name in ("From", "To", "Cc"):
        addresses = new[name].addresses if new[name] else ()
        assert ", ".join(mailreader.person(one.display_name, one.addr_spec) for one in addresses) == dict(
            mailreader.fields(old)
        ).get(name, "")
    assert [part.get_filename() or "" for part in new.walk()] == [mailreader.name_of(part) for part in old.walk()]


# ---------------------------------------------------------------- as JSON

# Header fields that Graph's JSON has properties for.
PROPERTIES = ("From", "To", "Cc", "Reply-To", "Subject", "Message-ID", "In-Reply-To", "References")


SPOKEN = {"text/plain": "plain text", "text/html": "HTML"}


def skip_if_refused(raw: bytes):
    made, file = prepared(raw)
    if limits.obstacle(made.root, file):
        pytest.skip("signed or encrypted mail is refused if it is large")


def composed(raw: bytes):
    return jsonmail.compose(*prepared(raw))


def json_fields(message):
    """The same as mailreader.fields of a message resource, of what is compared."""

    def listed(found):
        return ", ".join(
            mailreader.person(one["emailAddress"].get("name", ""), one["emailAddress"]["address"]) for one in found
        )

    tagged = {one["id"]: one["value"] for one in message.get("singleValueExtendedProperties", [])}
    found = {
        "From": listed([message["from"]]),
        "To": listed(message.get("toRecipients", [])),
        "Cc": listed(message.get("ccRecipients", [])),
        "Reply-To": listed(message.get("replyTo", [])),
        "Subject": " ".join(message["subject"].split()),
        "Message-ID": message["internetMessageId"],
        "In-Reply-To": tagged.get(jsonheader.IN_REPLY_TO, ""),
        "References": tagged.get(jsonheader.REFERENCES, ""),
    }
    return {name: text for name, text in found.items() if text}


@pytest.mark.parametrize("path", MAILS)
def test_as_json_the_fields_are_the_same(path):
    raw = path.read_bytes()
    skip_if_refused(raw)
    message = composed(raw).message
    fields = dict(mailreader.fields(parsed(arrived(raw))))
    assert json_fields(message) == {name: fields[name] for name in PROPERTIES if fields.get(name)}
    for one in message.get("internetMessageHeaders", []):
        assert fields[one["name"]] == " ".join(one["value"].split())


@pytest.mark.parametrize("path", MAILS)
def test_as_json_what_is_lost_is_named(path):
    raw = path.read_bytes()
    skip_if_refused(raw)
    made = composed(raw)
    carried = {one["name"] for one in made.message.get("internetMessageHeaders", [])} | {*PROPERTIES, "Date"}
    lost = {
        name
        for name, _ in mailreader.fields(parsed(arrived(raw)))
        if name not in carried and name.lower().encode("ascii") not in jsonheader.PROPERTIES
    }
    named = {name for name in made.left_out if re.fullmatch(r"[\w-]+", name)}
    assert lost == named - {"Content-Description"}  # a part has that, too


@pytest.mark.parametrize("path", MAILS)
def test_as_json_the_parts_are_the_same(path):
    """Each part is the text that is shown, or a file in the same order; but for texts that say the same."""
    raw = path.read_bytes()
    skip_if_refused(raw)
    made = composed(raw)
    kind = "text/html" if made.message["body"]["contentType"] == "html" else "text/plain"
    body = (kind, tuple(mailreader.lines_of(made.message["body"]["content"])))
    files = list(made.attachments)
    mail = parsed(arrived(raw))
    alternatives = {
        piece
        for part in mail.walk()
        if part.get_content_type() == "multipart/alternative"
        for piece in mailreader.pieces(part)
    }
    for part, piece in mailreader.leaves(mail):
        if body and (piece.kind, piece.content) == body:
            body = None
        elif files and is_the_same(part, piece, files[0]):
            files.pop(0)
        else:
            blank = piece.kind.startswith("text/") and not "".join(piece.content).strip()
            assert blank or (piece in alternatives and f"{SPOKEN.get(piece.kind)} alternative" in made.left_out)
    assert [file.name for file in files] == []
    assert body in (None, ("text/plain", ("",)))


# In msg_15.txt: what Python shows of base64 that is none.
_NO_BASE64 = "Some removed base64 encoded chars."


def is_the_same(part, piece, file):
    """Whether a file has the content of a part, and its name, type and Content-ID."""
    octets = b"".join(file.chunks())
    message = piece.kind.startswith("message/")
    if message:
        [(_, inner)] = mailreader.leaves(parsed(b"Content-Type: %s\r\n\r\n%s" % (piece.kind.encode("ascii"), octets)))
        content = inner.content
    else:
        content = tuple(mailreader.content_lines(part, octets))
    undeclared = part["Content-Type"] is None and piece.disposition
    return (
        (content == piece.content or _NO_BASE64 in piece.content)
        and file.content_type.partition(";")[0] == ("application/octet-stream" if message or undeclared else piece.kind)
        and file.content_id == piece.content_id.strip("<>")
        and (file.name == piece.name or not piece.name or (message and file.name == f"{piece.name}.eml"))
    )
