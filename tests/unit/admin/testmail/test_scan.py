"""The mail of `test`: what a device sends, and what counts as the same mail when it comes back."""

import email
import email.policy

import pytest
from cases import each

from m365proxy.admin.testmail.scan import Scan

ALERTS, SCANS = "alerts@contoso.com", "scans@contoso.com"


def test_it_is_a_mail_with_a_pdf():
    scan = Scan(ALERTS, SCANS)
    mail = email.message_from_bytes(scan.octets, policy=email.policy.default)
    assert (mail["From"].addresses[0].addr_spec, mail["To"]) == (ALERTS, SCANS)
    assert mail["Message-ID"] == scan.message_id and mail["Date"].datetime is not None
    text, file = mail.iter_parts()
    assert "m365proxy test" in text.get_content()
    assert (file.get_content_type(), file.get_filename()) == ("application/pdf", "test.pdf")
    assert file.get_content() == scan.pdf and scan.pdf.startswith(b"%PDF-1.4")


def test_it_can_be_sent_as_it_is():
    """ASCII in short lines with CRLF (RFC 5321 4.5.3.1)."""
    octets = Scan(ALERTS, SCANS).octets
    lines = octets.split(b"\r\n")
    assert octets.isascii() and lines[-1] == b"" and max(map(len, lines)) <= 998
    assert not any(b"\r" in line or b"\n" in line for line in lines)


def test_each_is_another_one():
    first, second = Scan(ALERTS, SCANS), Scan(ALERTS, SCANS)
    assert first.message_id != second.message_id
    assert not first.has_arrived_as(second.octets)
    assert first.is_named_in(first.octets) and not first.is_named_in(second.octets)


@pytest.mark.parametrize("field", ["Message-ID", "Subject"])
def test_it_is_known_by_either_field(field):
    scan = Scan(ALERTS, SCANS)
    mail = email.message_from_bytes(scan.octets, policy=email.policy.default)
    del mail[field]
    assert scan.is_named_in(bytes(mail))


@each(
    "change, same",
    [
        (lambda octets: b"Received: from here\r\n" + octets, True),
        (lambda octets: octets.replace(b"It can be deleted.", b"It was kept."), True),
        (lambda octets: octets.replace(b"application/pdf", b"application/octet-stream"), True),
        (lambda octets: octets.replace(b"JVBERi0", b"JVBERi1"), False),  # base64 of the PDF's beginning
        (lambda octets: octets[:-400], False),
        (lambda octets: b"", False),
    ],
)
def test_it_is_the_same_as_long_as_its_pdf_is(change, same):
    scan = Scan(ALERTS, SCANS)
    assert scan.has_arrived_as(change(scan.octets)) is same
