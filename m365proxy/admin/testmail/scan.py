"""The mail that `test` sends."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import secrets
import time

from . import pdf


class Scan:
    """A short text with a PDF, as a scanner sends it.  `number`, in Message-ID and Subject, is of this one only."""

    def __init__(self, sender: str, recipient: str):
        self.sender = sender
        self.recipient = recipient
        self.number = secrets.token_hex(6)
        self.message_id = f"<m365proxy-test-{self.number}@{sender.rpartition('@')[2]}>"
        self.subject = f"Test mail of m365proxy, number {self.number}"
        when = time.strftime("%Y-%m-%d %H:%M")
        self.pdf = pdf.one_page(
            ["A test of m365proxy.", f"From {sender} to {recipient}, {when}.", f"Number {self.number}."]
        )
        mail = email.message.EmailMessage(policy=email.policy.SMTP)
        mail["From"] = f"m365proxy test <{sender}>"
        mail["To"] = recipient
        mail["Subject"] = self.subject
        mail["Date"] = email.utils.localtime()
        mail["Message-ID"] = self.message_id
        mail.set_content(
            "This mail was sent by the command `m365proxy test`, on the way that the mail of devices takes.\n"
            "It can be deleted.\n"
        )
        mail.add_attachment(self.pdf, maintype="application", subtype="pdf", filename="test.pdf")
        self.octets = bytes(mail)

    def is_named_in(self, header: bytes) -> bool:
        """Whether this is its header, though the Message-ID may be another one by now."""
        return self.number.encode() in header

    def has_arrived_as(self, octets: bytes) -> bool:
        """Whether this is the mail, with the same PDF."""
        fetched = email.message_from_bytes(octets, policy=email.policy.SMTP)
        return any(part.get_payload(decode=True) == self.pdf for part in fetched.walk() if not part.is_multipart())
