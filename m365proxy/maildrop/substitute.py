"""The text that takes the place of a message Exchange does not give out."""

from __future__ import annotations

import email.utils
from datetime import datetime, timezone

from ..mime.encodings import canonical
from ..system import log
from .failures import Cause
from .item import Item

_TEXT = """\
From: m365proxy <{mailbox}>
To: {mailbox}
Subject: Exchange does not give out this message
{date}Message-ID: <{uidl}@m365proxy.invalid>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This text takes the place of a message in {mailbox}
that Exchange does not give out. Exchange answers: HTTP {status} {code}
(request-id {request_id}).

The message itself is still in the mailbox. Look at it with Outlook, or have an
administrator repair the mailbox (New-MailboxRepairRequest). Deleting this
text by POP3 never destroys the message.
"""


def text(mailbox: str, item: Item, cause: Cause) -> bytes:
    """The whole message, with CRLF line ends; the same octets for the same cause."""
    written = _TEXT.format(
        mailbox=mailbox,
        date=_date_line(item.received),
        uidl=item.uidl,
        status=cause.status,
        code=log.clean(cause.code or "without a reason", 60),
        request_id=log.clean(cause.request_id, 60),
    )
    return b"".join(canonical([written.encode("utf-8")]))


def _date_line(received: int) -> str:
    """A Date field from Graph's time of receipt; nothing rather than an invented one."""
    date = datetime.fromtimestamp(received, timezone.utc)
    return f"Date: {email.utils.format_datetime(date)}\n" if received else ""
