"""A mail transaction: what the client has said about one message (RFC 5321 3.3)."""

from __future__ import annotations

from typing import Collection, Dict, List, Optional, Union

from ..logins.users import User
from ..mime.addresses import domain_of, objection, on_the_wire, valid_address
from ..spool.envelope import Envelope
from . import advice, replies
from .reception import Reception
from .replies import Reply
from .syntax import DeliveryNotes


class Transaction:
    """From MAIL to the end of DATA or of the last BDAT."""

    def __init__(self, sender: str, smtputf8: bool, notes: DeliveryNotes, null_sender: bool = False):
        """`null_sender`: the client said <>, and `sender` stands for it."""
        self.null_sender = null_sender
        self.smtputf8 = smtputf8  # recipients may have characters outside ASCII
        self.recipients: Dict[str, str] = {}  # lower case -> as given, in their order
        # Both from DATA or the first BDAT on.
        self.envelope: Optional[Envelope] = None
        self.reception: Optional[Reception] = None
        self._sender = sender
        self._notes = notes
        self._silent: List[str] = []  # recipients that want no report of a failure
        self._orcpt: List[str] = []  # "recipient ORCPT-value"

    def __contains__(self, recipient: str) -> bool:
        return recipient.lower() in self.recipients

    def add(self, recipient: str, notes: DeliveryNotes) -> None:
        self.recipients[recipient.lower()] = recipient
        if notes.notify and "FAILURE" not in notes.notify.split(","):
            self._silent.append(recipient)
        if notes.orcpt:
            self._orcpt.append(f"{recipient} {notes.orcpt}")

    def fix_envelope(self, user: User, client: str) -> Envelope:
        """The envelope of all that was said; from now on nothing may be added."""
        self.envelope = Envelope(
            mailbox=user.mailbox,
            sender=self._sender,
            recipients=tuple(self.recipients.values()),
            client=client,
            login=user.login,
            ret=self._notes.ret,
            envid=self._notes.envid,
            silent=tuple(self._silent),
            orcpt=tuple(self._orcpt),
        )
        return self.envelope


def choose_sender(address: str, smtputf8: bool, user: User) -> Union[str, Reply]:
    """The sender for what MAIL names ("" for <>), or why it is refused."""
    valid = valid_address(address, smtputf8)
    if valid:
        address = on_the_wire(address)
    if not address.partition("@")[2]:
        return user.default_from
    if valid and user.may_send_as(address):
        return address
    if user.rewrite_from:
        return user.default_from
    return advice.sender_refused(address, user) if address.isascii() else replies.not_ascii(address)


def choose_recipient(address: str, smtputf8: bool, user: User, domains: Collection[str]) -> Union[str, Reply]:
    """The recipient for what RCPT names, in ASCII, or why it is refused; `domains` are those allowed, "*" for all."""
    if address.lower() == "postmaster":  # RFC 5321 4.5.1: always accepted; it goes to the mailbox itself
        return user.mailbox
    if not address:
        return replies.recipient_syntax(address)
    reason = objection(address, smtputf8)
    if reason:
        return replies.recipient_refused(address, reason) if address.isascii() else replies.not_ascii(address)
    domain = domain_of(address)
    return on_the_wire(address) if "*" in domains or domain in domains else replies.domain_refused(domain)
