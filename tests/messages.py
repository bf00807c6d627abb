"""Messages of every kind that devices send, and how two of them are compared."""

from __future__ import annotations

import base64
import codecs
import email
import encodings.aliases
import glob
import os
import re
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText


def flood(piece, times: int):
    """A long text of one piece.  Reading it takes a while: tests of it are not of the fast tier."""
    return piece * times


def canonical(octets: bytes) -> bytes:
    return re.sub(rb"\r{0,4}\n|\r", b"\r\n", octets)


def leaves(raw: bytes):
    """(content type, decoded octets) of what the standard library finds; texts without their last line ends."""
    found = []

    def walk(part):
        if part.get_content_maintype() == "message" and part.is_multipart():
            found.append(
                (part.get_content_type(), b"".join(canonical(inner.as_bytes()) for inner in part.get_payload()))
            )
        elif part.is_multipart():
            for inner in part.get_payload():
                walk(inner)
        else:
            octets = part.get_payload(decode=True) or b""
            text = part.get_content_maintype() in ("text", "multipart")
            found.append((part.get_content_type(), canonical(octets).rstrip(b" \r\n") if text else octets))

    walk(email.message_from_bytes(raw))
    return found


def build_alternative():
    made = EmailMessage()
    made.set_content("Gr\u00fc\u00dfe\n=3D=\n", cte="quoted-printable")
    made.add_alternative('<p class="a=b">Gr\u00fc\u00dfe</p>\n', subtype="html", cte="quoted-printable")
    return made.as_bytes()


def build_related():
    made = EmailMessage()
    made.set_content("<img src=cid:x>", subtype="html", cte="8bit")
    made.add_related(b"\x89PNG" + bytes(range(256)), "image", "png", cid="<x>")
    return made.as_bytes()


def build_mixed():
    made = EmailMessage()
    made.set_content("text")
    made.add_alternative("<b>text</b>", subtype="html")
    for number in range(3):
        made.add_attachment(os.urandom(5000), "application", "octet-stream", filename=f"\u00dc{number}.bin")
    return made.as_bytes()


def build_calendar():
    made = MIMEMultipart("alternative")
    made.attach(MIMEText("invite"))
    made.attach(
        MIMEText(
            "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nSUMMARY:Gr\u00fc\u00dfe\r\nEND:VCALENDAR\r\n", "calendar", "utf-8"
        )
    )
    return made.as_bytes()


def build_message():
    made = MIMEMultipart("mixed")
    made.attach(MIMEMessage(email.message_from_bytes(build_alternative())))
    return made.as_bytes()


def build_tnef():
    made = MIMEMultipart("mixed")
    made.attach(MIMEText("text"))
    made.attach(MIMEApplication(b"\x78\x9f\x3e\x22" + os.urandom(500), "ms-tnef", name="winmail.dat"))
    return made.as_bytes()


def build_scanner():
    pdf = base64.encodebytes(os.urandom(20_000)).replace(b"\n", b"\r\n")
    return (
        b"From: scanner\r\nTo: a@contoso.com\r\nSubject: Scan \xfc\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="----=_Scan_1"\r\n\r\n------=_Scan_1\r\n'
        b"Content-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\nBcc: x@y.org\r\nDatei \xfc.pdf\r\n\r\n------=_Scan_1\r\n"
        b'Content-Type: application/pdf; name="scan.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + pdf
        + b"\r\n------=_Scan_1--\r\n"
    )


def build_charset(charset, text):
    def build():
        return (
            f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode()
            + text.encode(charset)
            + b"\r\n"
        )

    return build


TEXTS = [
    *("Gr\u00fc\u00dfe", "\u20ac", "\u041f\u0440\u0438", "\u65e5\u672c", "\u4e2d\u6587", "\ud55c\uad6d"),
    *("\u03b1\u03b2", "\u05e9", "\u0633", "\u0e01", "x"),
]


def charsets():
    """(name, a text it can write) of every character set Python knows."""
    names = sorted(set(encodings.aliases.aliases.values()) | {"koi8_t", "cp720", "cp737", "utf_8_sig"})
    for name in names:
        try:
            if not codecs.lookup(name)._is_text_encoding or name in ("mbcs", "oem"):
                continue
        except LookupError:
            continue
        for text in TEXTS:
            try:
                if text.encode(name).decode(name) == text:
                    yield name.replace("_", "-"), text
                    break
            except UnicodeError:
                continue


def build_charsets():
    """A part in each of them: as base64, and where CR and LF are what they are in ASCII as raw octets too."""
    made = [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"]
    for name, text in charsets():
        octets = text.encode(name)
        head = f"--b\r\nContent-Type: text/plain; charset={name}\r\nContent-Transfer-Encoding: ".encode()
        made += [head, b"base64\r\n\r\n", base64.encodebytes(octets).replace(b"\n", b"\r\n")]
        try:
            raw = not set(octets) & set(b"\0\r\n") and "a\r\n".encode(name) == b"a\r\n"
        except UnicodeError:
            raw = False
        if raw:
            made += [head, b"8bit\r\n\r\n", octets, b"\r\n"]
    return b"".join([*made, b"--b--\r\n"])


MADE = {
    "alternative": build_alternative,
    "related": build_related,
    "mixed": build_mixed,
    "calendar": build_calendar,
    "message": build_message,
    "tnef": build_tnef,
    "scanner": build_scanner,
    "charsets": build_charsets,
    **{
        charset: build_charset(charset, text)
        for charset, text in [
            ("iso-8859-1", "Gr\u00fc\u00dfe"),
            ("windows-1252", "\u20ac"),
            ("koi8-r", "\u041f\u0440\u0438"),
            ("iso-2022-jp", "\u65e5\u672c"),
            ("shift_jis", "\u65e5\u672c"),
            ("gb2312", "\u4e2d\u6587"),
            ("big5", "\u4e2d\u6587"),
            ("euc-kr", "\ud55c\uad6d"),
            ("utf-8", "\u65e5\u672c \U0001f600"),
        ]
    },
}


_SIGNED_PARTS = (
    "--s\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n"
    "X-Raw: \xe4\n\nsoft=\n=3D \xe4\n\n--s\n"
    'Content-Type: application/pgp-signature; name="s.asc"\n\n-----BEGIN\n--s--\n'
)
# The body of a multipart/signed or multipart/encrypted with the boundary "s".
SIGNED = _SIGNED_PARTS.replace("\n", "\r\n").encode("latin-1")


def corpus():
    """The test mails of Python's email package: this Python's, or those of one that pyenv has; Debian's has none."""
    try:
        import test.test_email as suite

        folder = os.path.dirname(suite.__file__)
    except ImportError:
        root = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
        folder = max(
            glob.glob(os.path.join(root, "versions", "3.*", "lib", "python3*", "test", "test_email")), default=""
        )
    return sorted(glob.glob(os.path.join(folder, "data", "msg_*.txt"))) if folder else []


# A multipart without parts becomes text, and its reader sees it.
BECOMES_TEXT = {"multipart/mixed", "multipart/alternative", "multipart/report"}

# These close a multipart too early: of what follows the standard library finds nothing.
CLOSED_EARLY = {"msg_15.txt", "msg_39.txt"}
