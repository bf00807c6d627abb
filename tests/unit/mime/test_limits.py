"""What Exchange cannot take apart and put together again."""

import io

import pytest

from m365proxy.mime import parts
from m365proxy.mime.limits import LARGEST_ATTACHMENT, obstacle

BODY = b"--b\n\nx\n--b\nContent-Type: application/x-sig\n\ny\n--b--\n"


def of(raw):
    return obstacle(parts.scan(io.BytesIO(raw.replace(b"\n", b"\r\n"))))


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/signed; boundary=b; protocol=x/y",
        b"multipart/encrypted; boundary=b",
        b"application/pkcs7-mime; smime-type=enveloped-data",
        b"application/x-pkcs7-mime; smime-type=signed-data",
        b"application/octet-stream; name=SMIME.p7m",
    ],
)
def test_signed_and_encrypted_mail(content_type):
    assert of(b"Content-Type: " + content_type + b"\n\n" + BODY).startswith("Signed or encrypted mail")


@pytest.mark.parametrize(
    "inner, refused",
    [
        (b"multipart/signed; boundary=b", True),
        (b"multipart/encrypted; boundary=b", True),
        # The signature of such a file covers the file only.
        (b"application/pkcs7-mime; name=invoice.xml.p7m", False),
        (b"application/octet-stream; name=smime.p7m", False),
        (b"multipart/mixed; boundary=b", False),
    ],
)
def test_what_is_inside_a_message(inner, refused):
    """As where a mailing list puts its footer below a signed message."""
    raw = b"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: " + inner + b"\n\n" + BODY
    assert bool(of(raw + b"--o\n\nfooter\n--o--\n")) == refused


def base64_octets(content):
    """As mail programs write it: 76 characters and CRLF for 57 octets."""
    return -(-content // 3) * 4 + -(-content // 57) * 2


@pytest.mark.parametrize(
    "encoding, octets, refused",
    [
        (b"binary", LARGEST_ATTACHMENT, False),
        (b"binary", LARGEST_ATTACHMENT + 1, True),
        (b"8bit", LARGEST_ATTACHMENT + 1, True),
        (b"base64", base64_octets(LARGEST_ATTACHMENT), False),
        (b"base64", base64_octets(LARGEST_ATTACHMENT + 57), True),
        # 78 octets of quoted-printable may be all there is of 26.
        (b"quoted-printable", 3 * LARGEST_ATTACHMENT, False),
        (b"quoted-printable", 3 * LARGEST_ATTACHMENT + 3, True),
    ],
)
def test_an_attachment_counts_with_its_content(encoding, octets, refused):
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    part = parts.scan(io.BytesIO(head))
    part.body_end = part.body_start + octets
    assert ("larger than 150 MB" in obstacle(part)) == refused


def test_many_attachments_may_be_larger_together():
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\n\r\ny\r\n--b--\r\n"
    root = parts.scan(io.BytesIO(raw))
    root.body_end = 2 * LARGEST_ATTACHMENT
    for child in root.children:
        child.body_end = child.body_start + LARGEST_ATTACHMENT
    assert len(root.children) == 2 and obstacle(root) == ""
    root.children[1].body_end += 1
    assert obstacle(root)
