"""What arrives is what was sent, as MIME and as JSON: Python's own test mails, and those in this folder.

Beside a mail that is broken, `NAME.eml`, is the text that a reader must find nevertheless, `NAME.txt`.
"""

from __future__ import annotations

import email
import email.policy
import re

import mailreader
import pytest
from mailcorpus import ADDED, MAILS, REPAIRS, TAKEN_OUT, arrived, prepared, right
from mailreader import parsed
from messages import corpus

from m365proxy.delivery import jsonheader, jsonmail
from m365proxy.mime import limits, prepare, topheader
from m365proxy.mime.skeleton import skeleton


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
        elif files and is_the_same(part, piece, files[0], raw):
            files.pop(0)
        else:
            blank = piece.kind.startswith("text/") and not "".join(piece.content).strip()
            assert blank or (piece in alternatives and f"{SPOKEN.get(piece.kind)} alternative" in made.left_out)
    assert [file.name for file in files] == []
    assert body in (None, ("text/plain", ("",)))


# In msg_15.txt: what Python shows of base64 that is none.
_NO_BASE64 = "Some removed base64 encoded chars."


def is_the_same(part, piece, file, raw):
    """Whether a file has the content of a part, and its name, type and Content-ID.

    A message in a message may be as it is in the raw mail: as a file it needs no repair.
    """
    octets = b"".join(file.chunks())
    message = piece.kind.startswith("message/")
    if message:
        [(_, inner)] = mailreader.leaves(parsed(b"Content-Type: %s\r\n\r\n%s" % (piece.kind.encode("ascii"), octets)))
        content = inner.content
    else:
        content = tuple(mailreader.content_lines(part, octets))
    undeclared = part["Content-Type"] is None and piece.disposition
    return (
        (content == piece.content or _NO_BASE64 in piece.content or (message and octets in raw))
        and file.content_type.partition(";")[0] == ("application/octet-stream" if message or undeclared else piece.kind)
        and file.content_id == piece.content_id.strip("<>")
        and (file.name == piece.name or not piece.name or (message and file.name == f"{piece.name}.eml"))
    )


# ---------------------------------------------------------------- in its form, without its largest files


@pytest.mark.parametrize("path", MAILS)
def test_in_its_form_the_rest_is_the_same(path, monkeypatch):
    """What is left out is a file; every other part, and the whole header, stays."""
    raw = path.read_bytes()
    skip_if_refused(raw)
    message, file = prepared(raw)
    files = {one.part: one for one in jsonmail.compose(message, file).attachments}
    monkeypatch.setattr(prepare, "LARGE_MIME_CEILING", message.size - message.top.envelope_size - 1)
    made = skeleton(message, file, files)
    if made is None or not made.taken:
        pytest.skip("it has no files")
    rest = parsed(b"".join(made.message.without_bcc().chunks()))
    assert list(mailreader.fields(rest)) == list(mailreader.fields(parsed(arrived(raw))))
    taken = [one for part, one in files.items() if part in made.taken]
    left = [piece for _, piece in mailreader.leaves(rest)]
    for part, piece in mailreader.leaves(parsed(arrived(raw))):
        if left and piece == left[0]:
            left.pop(0)
        else:
            assert is_the_same(part, piece, taken.pop(0), raw)
    assert taken == [] and [piece.content for piece in left] in ([], [("",)], [()])
