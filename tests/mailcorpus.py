"""The mails of tests/corpus and of Python's email package, and what a reader must find in each when it arrives."""

from __future__ import annotations

import io
import pathlib
import re

import mailreader
import pytest
from messages import corpus

from m365proxy.mime import prepare

HERE = pathlib.Path(__file__).parent / "corpus"
DOCS = (HERE.parents[1] / "docs" / "smtp.md").read_text("utf-8")


def mail(path: pathlib.Path):
    return pytest.param(path, id=path.name)


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
    "msg_47.txt": (
        "a date written in an odd way",
        ["-Date: 01 Jan 2001 00:01+0000", "+Date: Mon, 01 Jan 2001 00:01:00 +0000"],
    ),
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
