"""What Exchange cannot take apart and put together again."""

import base64
import io

import pytest
from cases import each

from m365proxy.mime import limits, parts
from m365proxy.mime.limits import obstacle

BODY = b"--b\n\nx\n--b\nContent-Type: application/x-sig\n\ny\n--b--\n"


def of(raw):
    file = io.BytesIO(raw.replace(b"\n", b"\r\n"))
    return obstacle(parts.scan(file), file)


@each(
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


@each(
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


LIMIT = 150_000


def in_base64(columns, line_end):
    def encode(content):
        encoded = base64.b64encode(content)
        return line_end.join(encoded[i : i + columns] for i in range(0, len(encoded), columns))

    return encode


ENCODERS = {
    "binary": lambda content: content,
    "base64": in_base64(76, b"\r\n"),
    "base64 in short lines": in_base64(60, b"\r\n"),
    "base64 with LF only": in_base64(76, b"\n"),
    "base64 in one line": in_base64(10**6, b""),
    "quoted-printable": lambda content: b"=\r\n".join(b"=%02X" % octet * 25 for octet in content[::25]),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("octets, refused", [(LIMIT, False), (LIMIT + 25, True)])
def test_an_attachment_counts_with_its_content(monkeypatch, encoder, octets, refused):
    monkeypatch.setattr(limits, "LARGEST_ATTACHMENT", LIMIT)
    head = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: " + encoder.split()[0].encode() + b"\r\n\r\n"
    file = io.BytesIO(head + ENCODERS[encoder](b"\xff" * octets))
    root = parts.scan(file)
    assert sum(map(len, parts.decode(file, root))) == octets
    assert ("larger than 150 MB" in obstacle(root, file)) == refused


def test_many_attachments_may_be_larger_together(monkeypatch):
    monkeypatch.setattr(limits, "LARGEST_ATTACHMENT", LIMIT)
    head, between = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n", b"\r\n--b\r\n\r\n"
    for more, refused in ((b"", False), (b"x", True)):
        file = io.BytesIO(head + b"x" * LIMIT + between + b"x" * LIMIT + more + b"\r\n--b--\r\n")
        assert bool(obstacle(parts.scan(file), file)) is refused


def test_only_what_may_be_too_large_is_counted(monkeypatch):
    """A message that is received need not be decoded before its 250."""
    monkeypatch.setattr(limits, "decode", None)
    assert limits.LARGEST_ATTACHMENT == 150 * 1024 * 1024
    assert of(b"Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nQUJD\n") == ""
