"""What arrives is what was sent: CPython's own messages and made ones, through the running program to the tenant."""

import email
import email.policy
import os
import smtplib

import pytest
from messages import BECOMES_TEXT, CLOSED_EARLY, MADE, SIGNED, canonical, corpus, leaves
from program import ALERTS, PASSWORD, SCANS, Program, wait_until

SEALED = {
    kind: f"Subject: x\r\nContent-Type: multipart/{kind}; boundary=s; micalg=pgp-sha256\r\n\r\n".encode() + SIGNED
    for kind in ("signed", "encrypted")
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    mailbox = {"username": ALERTS, "password": PASSWORD, "rewrite_from": True}
    program = Program(tmp_path_factory.mktemp("mime"), mailboxes=[mailbox])
    try:
        yield program.sign_in().start()
        assert "Traceback" not in program.said()
    finally:
        program.close()


@pytest.fixture
def carried(running):
    """carried(messages) -> what arrived of them, all sent over one connection."""

    def carry(messages):
        running.clean()
        with smtplib.SMTP("127.0.0.1", running.port("smtp"), timeout=60) as smtp:
            smtp.login(ALERTS, PASSWORD)
            for octets in messages:
                assert smtp.sendmail(ALERTS, [SCANS], octets) == {}
        tenant = running.sandbox.tenant
        wait_until(lambda: len(tenant.delivered) == len(messages) and not running.queue(), what="every delivery")
        return [record.raw for record in tenant.delivered]

    return carry


def as_compared(raw):
    """(type, content) of every part, in order."""
    return tuple(("text/plain" if kind in BECOMES_TEXT else kind, canonical(octets)) for kind, octets in leaves(raw))


def check(messages, arrived):
    """Deliveries come in any order."""
    wanted = sorted((as_compared(octets), name) for name, octets in messages.items())
    found = sorted(map(as_compared, arrived))
    for (parts, name), got in zip(wanted, found):
        assert got == parts, name
    assert len(found) == len(wanted)


@pytest.mark.skipif(not corpus(), reason="this Python comes without its email package's test messages")
def test_the_standard_library_s_messages(carried):
    messages = {}
    for path in corpus():
        if os.path.basename(path) in CLOSED_EARLY:
            continue
        with open(path, "rb") as file:
            messages[os.path.basename(path)] = canonical(file.read())
    check(messages, carried(messages.values()))


def test_made_messages(carried):
    messages = {name: canonical(make()) for name, make in MADE.items()}
    check(messages, carried(messages.values()))


def test_signed_and_encrypted_octet_for_octet(carried):
    arrived = carried(SEALED.values())
    assert [raw.partition(b"\r\n\r\n")[2] for raw in arrived] == [SIGNED] * 2


# What devices send as a header, and the subject of what arrives.
HEADERS = {
    "telnet": (b"toner low\r\n", ""),
    "no header": (b"\r\ntoner low\r\n", ""),
    "nothing": (b"", ""),
    "unparsable from": (b"From: UPS room 2\r\nSubject: power\r\n\r\nx\r\n", "power"),
    "folded and encoded": (
        b"From: =?iso-8859-1?Q?Ger=E4t=2C_2=2E?=\r\n =?iso-8859-1?Q?_Stock?= <%s>\r\nSubject: x\r\n\r\nx\r\n"
        % ALERTS.encode(),
        "x",
    ),
    "comma": (b"From: MFP, 2nd floor <%s>\r\nSubject: x\r\n\r\nx\r\n" % ALERTS.encode(), "x"),
    "latin-1": (b"From: <%s>\r\nSubject: F\xfcllstand\r\n\r\nx\r\n" % ALERTS.encode(), "F\u00fcllstand"),
    "undeclared utf-8": (b"Subject: F\xc3\xbcllstand\r\n\r\nx\r\n", "F\u00fcllstand"),
    "undisclosed": (b"To: undisclosed-recipients:;\r\nSubject: x\r\n\r\nx\r\n", "x"),
    "only bcc": (b"Bcc: other@example.org\r\nSubject: x\r\n\r\nx\r\n", "x"),
    "to somebody else": (b"To: other@example.org\r\nSubject: x\r\n\r\nx\r\n", "x"),
    "bcc in the body": (b"Subject: x\r\n\r\nBcc: other@example.org\r\n\r\nx\r\n", "x"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_devices(carried, name):
    raw, subject = HEADERS[name]
    (arrived,) = carried([raw])
    mail = email.message_from_bytes(arrived, policy=email.policy.SMTP)
    assert [address.addr_spec for address in mail["From"].addresses] == [ALERTS]
    assert (mail["Subject"] or "") == subject
    assert mail["Date"].datetime and mail["Message-ID"]
    named = [address.addr_spec for field in ("To", "Cc", "Bcc") if mail[field] for address in mail[field].addresses]
    assert named == [SCANS]
    text = raw if name in ("telnet", "no header") else raw.partition(b"\r\n\r\n")[2]
    assert mail.get_content().strip() == text.decode().strip()
