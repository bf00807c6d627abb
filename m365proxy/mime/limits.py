"""What large mail Exchange accepts."""

from __future__ import annotations

from .parts import Part

# Octets of the largest attachment that Exchange accepts (outlook-large-attachments.md).
LARGEST_ATTACHMENT = 150 * 1024 * 1024

# How many octets of content 78 octets of an encoding hold at least.
_LEAST_CONTENT = {"base64": 57, "quoted-printable": 26}

_SIGNED = (
    "Signed or encrypted mail of more than 2.9 MB cannot pass Microsoft Graph undamaged. "
    "Send it unsigned, or with smaller attachments."
)

_ATTACHMENT_TOO_LARGE = "An attachment is larger than 150 MB, which Exchange Online does not accept. Send it in pieces."


def obstacle(root: Part) -> str:
    """A sentence that says why a message cannot be taken apart and put together again by Exchange, or "".

    Its signature would break, or an attachment is larger than Exchange accepts.
    """
    parts = list(root.walk())
    wrapped = root.is_signed or root.is_encrypted or (not root.children and root.filename.lower() == "smime.p7m")
    if wrapped or any(part.content_type in ("multipart/signed", "multipart/encrypted") for part in parts):
        return _SIGNED
    if any(_least_content(part) > LARGEST_ATTACHMENT for part in parts if not part.children):
        return _ATTACHMENT_TOO_LARGE
    return ""


def _least_content(part: Part) -> int:
    return (part.body_end - part.body_start) * _LEAST_CONTENT.get(part.encoding, 78) // 78
