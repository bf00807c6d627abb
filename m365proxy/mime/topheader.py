"""The top header of a message, rewritten for its envelope.

The envelope decides who gets the mail, so this header names no recipient that
is not in the envelope.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from . import addresses, dates
from .addresses import Mailbox
from .encodings import CRLF
from .header import ADDRESS_FIELDS, Block, Field, client_message_id, emit, fold, valid_mailboxes, with_ascii_address

# Octets of the note that lists the addresses removed from To or Cc.
_LONGEST_NOTE = 900

# How many addresses are moved to Reply-To, because From may have only one.
_MOST_REPLY_TO = 20

# Written by TopHeader itself, whatever the client sent.
_OURS = frozenset((b"from", b"to", b"cc", b"subject", b"date", b"message-id"))

# Fields in which a parser on the way may read a recipient or a sender, notes of
# earlier hops, and what only a receiving server may add.
_STRIPPED = frozenset(
    b"bcc sender return-path received delivered-to apparently-to envelope-to envelope-from x-envelope-to"
    b" x-envelope-from x-rcpt-to x-original-to x-original-cc x-delivered-to x-bcc received-spf dkim-signature"
    b" domainkey-signature authentication-results x-authentication-results".split()
)
_STRIPPED_PREFIXES = (b"resent-", b"arc-", b"x-ms-", b"x-microsoft-", b"x-m365proxy-")

# Shows that a winmail.dat belongs to this message: without it, readers may ignore the file (MS-OXCMAIL 2.1.3.2.26).
TNEF_CORRELATOR = b"x-ms-tnef-correlator"


class TopHeader:
    """Who a message goes to, who it is from, and its top header for Graph.

    Attributes: `author` and `to`, `cc`, `bcc`, `reply_to` (what was added to
    the client's) hold Mailboxes; together to, cc and bcc are exactly the
    envelope.  `subject` is text.  `message_id` and `date` are the values written;
    `date` is None if there is none.  `kept` are the client's other fields in order,
    without Content-* and MIME-Version.
    """

    def __init__(
        self,
        block: Block,
        *,
        recipients: Sequence[str],
        sender: str,
        message_id: str,
        date: Optional[float] = None,
        may_send_as: Optional[Callable[[str], bool]] = None,
        replace_message_id: bool = False,
        has_tnef: bool = False,
    ):
        """`sender` is used where From has no address that `may_send_as` allows (by default only `sender` itself).

        `message_id` (with angle brackets) is used where the client's is missing
        or bad, or always with `replace_message_id`.  `date` is Unix time, None
        while the clock cannot be trusted.  `has_tnef`: a winmail.dat goes along.
        Raises Permanent for a recipient or sender that cannot be in a header.
        """
        self._block = block
        self._has_tnef = has_tnef
        self.subject = block.text("Subject")
        theirs = None if replace_message_id else client_message_id(block)
        self.message_id = theirs or message_id
        self.date = self._pick_date(date)
        self._set_recipients(recipients)
        self._set_author(addresses.on_the_wire(sender), may_send_as)
        self.kept = [field for field in block.fields if self._keeps(field)]

    def _pick_date(self, accepted: Optional[float]) -> Optional[str]:
        for field in self._block.all("Date"):
            theirs = dates.restored(field.unfolded)
            if theirs is not None:
                return theirs
        return None if accepted is None else dates.written(datetime.fromtimestamp(accepted, timezone.utc))

    def _set_recipients(self, recipients: Sequence[str]) -> None:
        wanted: Dict[str, str] = {}
        for recipient in recipients:
            wanted.setdefault(addresses.key(recipient), addresses.on_the_wire(recipient))
        self.to, self.removed_to = self._take("To", wanted)
        self.cc, self.removed_cc = self._take("Cc", wanted)
        self.bcc = [Mailbox("", address) for address in wanted.values()]

    def _take(self, name: str, wanted: Dict[str, str]) -> Tuple[List[Mailbox], List[str]]:
        """(the wanted mailboxes of the client's field, now removed from `wanted`; the field's other addresses)."""
        taken: List[Mailbox] = []
        removed: List[str] = []
        mine = {addresses.key(mailbox.address) for mailbox in getattr(self, "to", [])}
        for mailbox in self._block.mailboxes(name):
            key = addresses.key(mailbox.address)
            if key in wanted:
                taken.append(Mailbox(addresses.display_name(mailbox.name), wanted.pop(key)))
                mine.add(key)
            elif key not in mine and addresses.valid_address(mailbox.address, smtputf8=True):
                removed.append(addresses.on_the_wire(mailbox.address))
        return taken, removed

    def _set_author(self, sender: str, may_send_as: Optional[Callable[[str], bool]]) -> None:
        named = self._block.mailboxes("From")
        candidates = [with_ascii_address(mailbox) for mailbox in valid_mailboxes(named)]
        ours = addresses.key(sender)
        allowed = may_send_as or (lambda address: addresses.key(address) == ours)
        chosen = next((mailbox for mailbox in candidates if allowed(mailbox.address)), None)
        if chosen is None:
            chosen = Mailbox(named[0].name if named else "", sender)
        self.author = Mailbox(addresses.display_name(chosen.name), chosen.address)
        self.reply_to: List[Mailbox] = []
        if not any(valid_mailboxes(self._block.mailboxes("Reply-To"))):
            others = {addresses.key(mailbox.address): mailbox for mailbox in reversed(candidates)}
            others.pop(addresses.key(chosen.address), None)
            self.reply_to = list(reversed(list(others.values())))[:_MOST_REPLY_TO]

    def _keeps(self, field: Field) -> bool:
        name = field.name.lower()
        if name == TNEF_CORRELATOR:
            return self._has_tnef
        if name in _OURS or name in _STRIPPED or name.startswith(_STRIPPED_PREFIXES):
            return False
        if name in ADDRESS_FIELDS and not any(valid_mailboxes(field.mailboxes)):
            return False
        return name != b"mime-version" and not name.startswith(b"content-")

    def emit(self, content: Iterable[bytes] = (), with_bcc: bool = True) -> bytes:
        """The whole header with the blank line; `content` are the finished MIME fields."""
        lines = [fold(b"From", addresses.written(self.author)), self._recipients(with_bcc)]
        if self.reply_to:
            lines.append(fold(b"Reply-To", addresses.listed(self.reply_to)))
        subject = self._block.all("Subject")
        lines.append(emit(subject[0] if subject else Field(b"Subject", b"")))
        if self.date is not None:
            lines.append(fold(b"Date", self.date.encode("ascii")))
        lines.append(fold(b"Message-ID", self.message_id.encode("ascii")))
        lines += [emit(field) for field in self.kept]
        return b"".join(lines) + self._notes() + b"".join(content) + CRLF

    @property
    def envelope_size(self) -> int:
        """Octets of the header that depend on the envelope."""
        return len(self._recipients()) + len(self._notes())

    def _recipients(self, with_bcc: bool = True) -> bytes:
        fields = ((b"To", self.to), (b"Cc", self.cc), (b"Bcc", self.bcc if with_bcc else []))
        return b"".join(fold(name, addresses.listed(mailboxes)) for name, mailboxes in fields if mailboxes)

    def _notes(self) -> bytes:
        fields = ((b"X-Original-To", self.removed_to), (b"X-Original-Cc", self.removed_cc))
        return b"".join(fold(name, _note(removed)) for name, removed in fields if removed)


def _note(removed: Sequence[str]) -> bytes:
    """Addresses as words of a comment-like field, as many as fit."""
    note = b""
    for address in dict.fromkeys(removed):
        more = address.encode("ascii") if not note else b", " + address.encode("ascii")
        if len(note) + len(more) > _LONGEST_NOTE:
            return note + b", ..."
        note += more
    return note
