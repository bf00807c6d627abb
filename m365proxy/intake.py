"""The last look at a message before its 250: what could never be sent is refused while the device listens."""

from __future__ import annotations

from typing import BinaryIO, Optional

from . import header, message, replies
from .replies import Reply
from .users import User


def check(file: BinaryIO, user: User) -> Optional[Reply]:
    """Why the message at the file's position cannot be taken from this user, or None.

    Permanent if its structure is beyond repair.
    """
    start = file.tell()
    authors = header.from_addresses(header.read(file, start))
    if authors and not user.rewrite_from and not any(map(user.may_send_as, authors)):
        return replies.sender_refused(authors[0], user.mailbox)
    # The true recipients make the header longer; Graph's limit leaves room for that.
    prepared = message.prepare(
        file, start, recipients=[user.mailbox], sender=user.mailbox, message_id="<check@localhost>"
    )
    return replies.TOO_LARGE if prepared.size > message.LARGE_MIME_CEILING else None
