"""What is a bounce, and which bounces give back another one."""

import io

import pytest
from cases import each

from m365proxy.mime import parts
from m365proxy.smtp import bounces


@each(
    "null_sender, authors, expected",
    [
        (True, ["MAILER-DAEMON@nas"], True),  # Postfix, sendmail, OpenSMTPD
        (True, ["Mailer-Daemon@nas.contoso.com"], True),  # Exim
        (True, ["postmaster@contoso.com"], True),  # Courier, Windows
        (True, ["mailer-daemon@a.example", "MAILER-DAEMON@b.example"], True),
        (False, ["MAILER-DAEMON@nas"], False),
        (True, [], False),
        (True, ["boss@contoso.com"], False),
        (True, ["MAILER-DAEMON@nas", "boss@contoso.com"], False),
        (True, ["mailer-daemon.boss@contoso.com"], False),
        (True, ["boss@mailer-daemon"], False),
    ],
)
def test_is_bounce(null_sender, authors, expected):
    assert bounces.is_bounce(null_sender, authors) is expected


def bounce(kind, returned):
    return (
        b"From: MAILER-DAEMON@nas\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nSorry.\r\n--b\r\n"
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; nas\r\n--b\r\nContent-Type: "
        + kind
        + b"\r\n\r\n"
        + returned
        + b"\r\n--b--\r\n"
    )


@each("kind", [b"message/rfc822", b"text/rfc822-headers", b"Message/Global", b"message/global-headers"])
@each(
    "returned, expected",
    [
        (b"From: cron@contoso.com\r\nAuto-Submitted: auto-generated\r\nSubject: backup\r\n", False),
        (b"From: cron@contoso.com\r\nContent-Type: multipart/mixed\r\n", False),
        (b"Subject: mailer-daemon@x\r\n\r\nFrom: mailer-daemon@x\r\n", False),
        (b"", False),
        (b"From: MAILER-DAEMON@nas\r\n", True),
        (b"From: scanner@contoso.com\r\nReply-To: Mail <Mailer-Daemon@nas.contoso.com>\r\n", True),
        (b"From: scanner@contoso.com\r\nAuto-Submitted: auto-replied (vacation)\r\n", True),
        (b"From: scanner@contoso.com\r\nContent-Type: Multipart/Report; boundary=c\r\n", True),
    ],
)
def test_is_of_a_bounce(kind, returned, expected):
    file = io.BytesIO(bounce(kind, returned))
    assert bounces.is_of_a_bounce(file, parts.scan(file)) is expected


@pytest.mark.parametrize(
    "raw",
    [
        b"From: MAILER-DAEMON@nas\r\n\r\nFrom: MAILER-DAEMON@nas\r\n",
        bounce(b"text/plain", b"From: MAILER-DAEMON@nas\r\n"),
        bounce(b"message/rfc822", b"x: y\r\n" * 5000 + b"From: MAILER-DAEMON@nas\r\n"),  # more fields than are read
    ],
)
def test_what_cannot_be_read_is_none(raw):
    file = io.BytesIO(raw)
    assert not bounces.is_of_a_bounce(file, parts.scan(file))
