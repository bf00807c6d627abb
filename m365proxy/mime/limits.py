"""What large mail Exchange accepts."""

from __future__ import annotations

from typing import BinaryIO

from .parts import Part, decode

# Octets of the largest attachment that Exchange accepts (outlook-large-attachments.md).
LARGEST_ATTACHMENT = 150 * 1024 * 1024

_SIGNED = (
    "Signed or encrypted mail of more than 2.9 MB cannot pass Microsoft Graph undamaged. "
    "Send it unsigned, or with smaller attachments."
)

_ATTACHMENT_TOO_LARGE = "An attachment is larger than 150 MB, which Exchange Online does not accept. Send it in pieces."


def obstacle(root: Part, file: BinaryIO) -> str:
    """A sentence that says why a message cannot be taken apart and put together again by Exchange, or "".

    Its signature would break, or an attachment is larger than Exchange accepts.  `file` is the one it was read from.
    """
    parts = list(root.walk())
    wrapped = root.is_signed or root.is_encrypted or (not root.children and root.filename.lower() == "smime.p7m")
    if wrapped or any(part.content_type in ("multipart/signed", "multipart/encrypted") for part in parts):
        return _SIGNED
    if any(_is_too_large(part, file) for part in root.leaves()):
        return _ATTACHMENT_TOO_LARGE
    return ""


def _is_too_large(part: Part, file: BinaryIO) -> bool:
    """Whether its content is larger than Exchange accepts; counted only where its length leaves that open."""
    # No encoding is shorter than its content.
    if part.body_end - part.body_start <= LARGEST_ATTACHMENT:
        return False
    octets = 0
    for chunk in decode(file, part):
        octets += len(chunk)
        if octets > LARGEST_ATTACHMENT:
            return True
    return False
