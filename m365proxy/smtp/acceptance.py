"""The last check of a message before its 250: one that could never be sent is refused while the device listens."""

from __future__ import annotations

from typing import BinaryIO, List, Optional

from ..errors import ProxyError
from ..logins.users import User
from ..mime import addresses, header, limits, parts, prepare
from ..system import log
from . import advice, bounces, replies
from .replies import Reply

logger = log.get("intake")

# Preparing a message shrinks it to a quarter at most: quoted-printable becomes base64.
_SHRINKS = 4

# Octets that delivery may add: Date, our Message-ID, Reply-To, another author.
_ADDED = 2048

# ... and lets it grow sixteenfold at most: line ends become two octets, raw 8-bit header fields encoded words.
_GROWS = 16


class Intake:
    """Any thread may use it."""

    def __init__(self, large_allowed: bool):
        """`large_allowed`: whether drafts may be made; large mail cannot be sent without them."""
        self._large_allowed = large_allowed

    def check(self, file: BinaryIO, user: User, null_sender: bool = False) -> Optional[Reply]:
        """Why the message at the file's position cannot be taken from this user, or None.

        `null_sender`: whether it came with MAIL FROM:<>.
        Permanent if it is beyond repair, or has too many parts.  A fault of ours is no reason: after a 4xx the device
        would send the same message again and again, and delivery has a simpler way (`prepare.prepare_unrepaired`).
        """
        try:
            return self._check(file, user, null_sender)
        except (ProxyError, OSError):
            raise
        except Exception:
            logger.exception(
                "a message from %s could not be checked because of an error in this program; it is accepted",
                user.mailbox,
            )
            return None

    def _check(self, file: BinaryIO, user: User, null_sender: bool) -> Optional[Reply]:
        start = file.tell()
        size, ceiling = file.seek(0, 2) - start, prepare.LARGE_MIME_CEILING
        examined = prepare.examine(file, start)
        authors = _authors(examined.root.header)
        is_bounce = bounces.is_bounce(null_sender, authors)
        if authors and not (is_bounce or user.rewrite_from or any(map(user.may_send_as, authors))):
            return advice.sender_refused(authors[0], user)
        # A mail server's author may be none that anybody can read: MAILER-DAEMON, Mailer-Daemon@my_nas.
        if null_sender and (is_bounce or not authors) and bounces.is_of_a_bounce(file, examined.root):
            return replies.BOUNCE_OF_A_BOUNCE
        if size > _SHRINKS * ceiling or size < ceiling / _GROWS:
            # Surely large, or surely small: the device need not wait until all of it is prepared.
            return self._check_large(examined.root, file) if size > ceiling else None
        prepared = examined.prepared(recipients=[user.mailbox], sender=user.mailbox, message_id="<check@localhost>")
        return self._check_large(prepared.root, file) if prepared.exceeds(ceiling - _ADDED) else None

    def _check_large(self, root: parts.Part, file: BinaryIO) -> Optional[Reply]:
        if not self._large_allowed:
            return replies.TOO_LARGE_TO_SEND_ONLY
        reason = limits.obstacle(root, file)
        return replies.too_large(reason) if reason else None


def _authors(block: header.Block) -> List[str]:
    """The addresses in From, as TopHeader reads them; anything else there is not refused but repaired."""
    named = header.from_addresses(block)
    return [addresses.on_the_wire(address) for address in named if addresses.valid_address(address, smtputf8=True)]
