"""What is refused at the end of DATA."""

from __future__ import annotations

import io

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st
from messages import flood
from smtp_harness import Harness, user

from m365proxy.errors import Permanent
from m365proxy.mime import addresses, header, prepare
from m365proxy.mime.topheader import TopHeader
from m365proxy.smtp.acceptance import Intake

SCANNER = b"scanner@contoso.com"
CEILING = prepare.LARGE_MIME_CEILING
BOUNDARY = b"Content-Type: multipart/mixed; boundary=b\r\n"
SIGNED = b"Content-Type: multipart/signed; boundary=b; protocol=x/y\r\n"
ENCRYPTED = b"Content-Type: multipart/encrypted; boundary=b\r\n"
SMIME = b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n"


LINE = b"A" * 76 + b"\r\n"


def mail(head=BOUNDARY, sender=SCANNER, body=LINE):
    if b"boundary" in head:
        part = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        body = b"--b\r\n\r\nhello\r\n--b\r\n" + part + body + b"--b--\r\n"
    return b"From: " + sender + b"\r\n" + head + b"\r\n" + body


def lines(octets):
    """About so many octets."""
    return flood(LINE, octets // len(LINE))


def check(raw, large_allowed=True, start=b"X-Envelope: 1\r\n", null_sender=False, **options):
    file = io.BytesIO(start + raw)
    file.seek(len(start))
    return Intake(large_allowed).check(file, user(**options), null_sender)


@pytest.mark.parametrize("head", [BOUNDARY, SIGNED, ENCRYPTED, SMIME])
@pytest.mark.parametrize("large_allowed", [True, False])
@pytest.mark.parametrize("octets", [100, CEILING - 4000])
def test_what_fits_a_request_is_taken(head, large_allowed, octets):
    assert check(mail(head, body=lines(octets)), large_allowed) is None


# Once made ready as a whole, once only scanned.
@pytest.mark.parametrize("octets", [CEILING - 1000, CEILING + 2000, 2 * CEILING])
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
    reply = check(mail(head, body=lines(octets)), large_allowed)
    if words is None:
        assert reply is None
    else:
        assert (reply.code, reply.enhanced) == (552, "5.3.4")
        assert words in reply.lines[0]


@pytest.mark.parametrize("octets", [100, 2 * CEILING])
def test_a_foreign_author_is_refused_at_any_size(octets):
    reply = check(mail(sender=b"boss@contoso.com", body=lines(octets)))
    assert (reply.code, reply.enhanced) == (550, "5.7.60")
    assert check(mail(sender=b"boss@contoso.com", body=lines(octets)), rewrite_from=True) is None


UNREADABLE = ["", "Scanner", "printer@", "Xerox <@>", "<scan@[192.168.1.5]>", "scan@-", '"Kopierer @ 2.OG" <>']


@each("author", UNREADABLE)
def test_an_author_nobody_can_read_is_repaired(author):
    assert check(mail(sender=author.encode())) is None


@pytest.mark.parametrize("octets", [100, 2 * CEILING])
def test_a_bounce_is_taken_for_its_empty_sender_only(octets):
    raw = mail(sender=b"Mail Delivery System <Mailer-Daemon@nas.contoso.com>", body=lines(octets))
    assert check(raw, null_sender=True) is None
    assert check(raw).code == 550


def test_who_sends_with_the_empty_sender_may_not_write_any_author():
    assert check(mail(sender=b"boss@contoso.com"), null_sender=True).code == 550
    assert check(mail(sender=b"Mailer-Daemon@x.org, boss@contoso.com"), null_sender=True).code == 550


@pytest.mark.parametrize("options", [{}, {"rewrite_from": True}, {"send_as": ["*@contoso.com"]}])
def test_a_bounce_of_a_bounce_is_refused(options):
    returned = b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: MAILER-DAEMON@nas.contoso.com\r\n\r\nx\r\n--b--\r\n"
    raw = b"From: MAILER-DAEMON@nas.contoso.com\r\n" + BOUNDARY + b"\r\n" + returned
    reply = check(raw, null_sender=True, **options)
    assert (reply.code, reply.enhanced) == (554, "5.4.6")


@each("author", [b"MAILER-DAEMON", b"Mailer-Daemon@my_nas", b"Mailer-Daemon@[192.168.1.5]", b""])
def test_a_bounce_of_a_bounce_is_refused_whatever_its_author_is(author):
    returned = b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: MAILER-DAEMON@nas.contoso.com\r\n\r\nx\r\n--b--\r\n"
    raw = b"From: " + author + b"\r\n" + BOUNDARY + b"\r\n" + returned
    assert check(raw, null_sender=True).enhanced == "5.4.6"
    assert check(raw) is None


def test_an_international_domain_is_the_one_of_the_config():
    assert check(mail(sender="x@b\xfccher.de".encode()), send_as=["x@xn--bcher-kva.de"]) is None
    assert check(mail(sender="x@b\xfccher.de".encode())).code == 550


ADDRESS_LIST = st.lists(
    st.sampled_from(
        [
            "scanner@contoso.com",
            "SCANNER@Contoso.com",
            "boss@contoso.com",
            "x@b\xfccher.de",
            "@",
            "<",
            ">",
            ",",
            ":",
            ";",
            '"',
            " ",
            "\r\n ",
            "(",
            ")",
            "Xerox",
            "[192.0.2.1]",
            "\\",
            "=?utf-8?q?boss=40contoso.com?=",
            "\xe4",
        ]
    ),
    max_size=8,
).map("".join)


@given(ADDRESS_LIST)
def test_intake_and_the_writer_of_from_agree(author):
    """Taken is what is then written with an author the user may send as: the named one, or its own."""
    raw, person = mail(sender=author.encode()), user(send_as=["x@xn--bcher-kva.de"])
    block = header.read(io.BytesIO(raw))
    top = TopHeader(
        block, recipients=["a@contoso.com"], sender=person.mailbox, message_id="<1@x>", may_send_as=person.may_send_as
    )
    assert person.may_send_as(top.author.address)
    foreign = [mailbox for mailbox in top.reply_to if not person.may_send_as(mailbox.address)]
    own = [one for one in block.mailboxes("From") if person.may_send_as(addresses.key(one.address))]
    refused = Intake(True).check(io.BytesIO(raw), person) is not None
    assert refused == bool(foreign and not own)


@pytest.mark.parametrize("octets", [10, 2 * CEILING])
def test_too_many_parts(octets):
    with pytest.raises(Permanent, match="250 parts"):
        check(b"From: scanner@contoso.com\r\n" + BOUNDARY + b"\r\n" + b"--b\r\n\r\nx\r\n" * 251 + b"y" * octets)


@pytest.mark.parametrize("octets", [10, CEILING // 4, 2 * CEILING])
def test_what_can_never_be_sent_is_refused_at_any_size(octets):
    head = b"Content-Transfer-Encoding: x-uuencode\r\n"
    with pytest.raises(Permanent, match="uuencode"):
        check(mail(head, body=lines(octets)) + b"\0")


def test_an_attachment_beyond_exchange(tmp_path):
    with open(tmp_path / "mail", "w+b") as file:
        file.write(b"From: scanner@contoso.com\r\n" + BOUNDARY + b"\r\n--b\r\nContent-Type: application/x\r\n\r\n")
        file.truncate(151 * 1024 * 1024)
        file.seek(0)
        reply = Intake(True).check(file, user())
    assert reply.code == 552 and "150 MB" in reply.lines[0]


def test_the_client_is_told():
    with Harness(check_message=Intake(True).check, relay=lambda peer: user()) as harness, harness.client() as talk:
        for command in ("EHLO x", "MAIL FROM:<scanner@contoso.com>", "RCPT TO:<a@contoso.com>", "DATA"):
            talk.ask(command)
        talk.send(mail(SIGNED, body=lines(CEILING + 2000)) + b".\r\n")
        assert talk.reply().startswith("552 5.3.4 Signed or encrypted mail of more than 2.9 MB cannot pass")
        assert not harness.spool.accepted


@pytest.mark.parametrize(
    "where", ["m365proxy.mime.parts.scan", "m365proxy.mime.addresses.parse", "m365proxy.mime.words.decode"]
)
def test_a_fault_of_ours_refuses_no_message(monkeypatch, where):
    """A device would send the same message for ever."""

    def broken(*_):
        raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "a fault")

    monkeypatch.setattr(where, broken)
    assert check(b"From: scanner@contoso.com\r\nSubject: =?utf-8?q?x?=\r\n\r\nx\r\n") is None
