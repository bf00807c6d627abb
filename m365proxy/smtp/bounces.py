"""Bounces of a mail server behind us: MAIL FROM:<> and From: Mailer-Daemon@... (RFC 5321 6.1, RFC 3464).

Graph knows no empty sender: a bounce leaves as mail of the mailbox.  So what
else keeps bounces from answering each other does not, and is done here.
"""

from __future__ import annotations

from typing import BinaryIO, Sequence

from ..errors import Permanent
from ..mime import header, parts

# The authors of bounces: Postfix, Exim, sendmail, OpenSMTPD and others; Courier and Windows.
_DAEMONS = ("mailer-daemon", "postmaster")

# The parts that give back a mail, or its header (RFC 3462 sections 1 and 2, RFC 6533 section 4.3).
_RETURNED = frozenset(("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers"))


def is_bounce(null_sender: bool, authors: Sequence[str]) -> bool:
    """Whether a message with the empty sender and these addresses in From is a mail server's own."""
    return null_sender and bool(authors) and all(map(_is_daemon, authors))


def is_of_a_bounce(file: BinaryIO, root: parts.Part) -> bool:
    """Whether a bounce gives back mail that is a bounce or report itself: the two could go round for ever."""
    returned = next((part for part in root.walk() if part.content_type in _RETURNED), None)
    if returned is None:
        return False
    try:
        block = header.read(file, returned.body_start, end=returned.body_end)
    except Permanent:  # of no use here; whoever reads the bounce sees it
        return False
    people = [*block.mailboxes("From"), *block.mailboxes("Reply-To")]  # Reply-To: what we made of a bounce's From
    return (
        (block.raw("Content-Type") or b"").lower().startswith(b"multipart/report")
        or (block.raw("Auto-Submitted") or b"").lower().startswith(b"auto-replied")  # RFC 3834 section 5
        or any(_is_daemon(mailbox.address) for mailbox in people)
    )


def _is_daemon(address: str) -> bool:
    return address.partition("@")[0].lower() in _DAEMONS
