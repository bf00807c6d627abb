"""What is refused at the end of DATA."""

from __future__ import annotations

import io

import pytest
from smtp_house import House, user

from m365proxy import message
from m365proxy.errors import Permanent
from m365proxy.intake import Intake

SCANNER = b"scanner@contoso.com"
CEILING = message.LARGE_MIME_CEILING
BOUNDARY = b"Content-Type: multipart/mixed; boundary=b\r\n"
SIGNED = b"Content-Type: multipart/signed; boundary=b; protocol=x/y\r\n"
ENCRYPTED = b"Content-Type: multipart/encrypted; boundary=b\r\n"
SMIME = b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n"


def mail(octets, head=BOUNDARY, sender=SCANNER):
    """A message of about so many octets."""
    line = b"A" * 76 + b"\r\n"
    body = line * (octets // len(line))
    if b"boundary" in head:
        part = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        body = b"--b\r\n\r\nhello\r\n--b\r\n" + part + body + b"--b--\r\n"
    return b"From: " + sender + b"\r\n" + head + b"\r\n" + body


def check(raw, large_allowed=True, start=b"X-Envelope: 1\r\n", **options):
    file = io.BytesIO(start + raw)
    file.seek(len(start))
    return Intake(large_allowed).check(file, user(**options))


@pytest.mark.parametrize("head", [BOUNDARY, SIGNED, ENCRYPTED, SMIME])
@pytest.mark.parametrize("large_allowed", [True, False])
@pytest.mark.parametrize("octets", [100, CEILING - 2000])
def test_what_fits_a_request_is_taken(head, large_allowed, octets):
    assert check(mail(octets, head), large_allowed) is None


# Once made ready as a whole, once only scanned.
@pytest.mark.parametrize("octets", [CEILING + 2000, 5 * CEILING])
@pytest.mark.parametrize(
    "head, large_allowed, words",
    [
        (BOUNDARY, True, None),
        (SIGNED, True, "Signed or encrypted"),
        (ENCRYPTED, True, "Signed or encrypted"),
        (SMIME, True, "Signed or encrypted"),
        (BOUNDARY, False, '"permissions": "full"'),
        (SIGNED, False, '"permissions": "full"'),
    ],
)
def test_large_mail(head, large_allowed, words, octets):
    reply = check(mail(octets, head), large_allowed)
    if words is None:
        assert reply is None
    else:
        assert (reply.code, reply.enhanced) == (552, "5.3.4")
        assert words in reply.lines[0]


@pytest.mark.parametrize("octets", [100, 5 * CEILING])
def test_a_foreign_author_is_refused_at_any_size(octets):
    reply = check(mail(octets, sender=b"boss@contoso.com"))
    assert (reply.code, reply.enhanced) == (550, "5.7.60")
    assert check(mail(octets, sender=b"boss@contoso.com"), rewrite_from=True) is None


@pytest.mark.parametrize("octets", [10, 5 * CEILING])
def test_too_many_parts(octets):
    with pytest.raises(Permanent, match="250 parts"):
        check(b"From: scanner@contoso.com\r\n" + BOUNDARY + b"\r\n" + b"--b\r\n\r\nx\r\n" * 251 + b"y" * octets)


def test_an_attachment_beyond_exchange(tmp_path):
    with open(tmp_path / "mail", "w+b") as file:
        file.write(b"From: scanner@contoso.com\r\n" + BOUNDARY + b"\r\n--b\r\nContent-Type: application/x\r\n\r\n")
        file.truncate(151 * 1024 * 1024)
        file.seek(0)
        reply = Intake(True).check(file, user())
    assert reply.code == 552 and "150 MB" in reply.lines[0]


def test_the_client_is_told():
    with House(check_message=Intake(True).check, relay=lambda peer: user()) as house, house.client() as talk:
        for command in ("EHLO x", "MAIL FROM:<scanner@contoso.com>", "RCPT TO:<a@contoso.com>", "DATA"):
            talk.ask(command)
        talk.send(mail(CEILING + 2000, SIGNED) + b".\r\n")
        assert talk.reply().startswith("552 5.3.4 Signed or encrypted mail of more than 2.9 MB cannot pass")
        assert not house.spool.accepted
