"""The mail that `test` sends."""

from __future__ import annotations

import email.message
import email.policy
import email.utils
import secrets
import time

from . import pdf


class Scan:
    """A short text with a PDF, as a scanner sends it, and which one it is: `message_id`."""

    def __init__(self, sender: str, recipient: str):
        self.sender = sender
        self.recipient = recipient
        name = secrets.token_hex(8)
        self.message_id = f"<m365proxy-test-{name}@{sender.rpartition('@')[2]}>"
        when = time.strftime("%Y-%m-%d %H:%M")
        self.pdf = pdf.one_page(["A test of m365proxy.", f"From {sender} to {recipient}, {when}.", f"Number {name}."])
        mail = email.message.EmailMessage(policy=email.policy.SMTP)
        mail["From"] = f"m365proxy test <{sender}>"
        mail["To"] = recipient
        mail["Subject"] = f"Test mail of m365proxy, {when}"
        mail["Date"] = email.utils.localtime()
        mail["Message-ID"] = self.message_id
        mail.set_content(
            "This mail was sent by the command `m365proxy test`, on the way that the mail of devices takes.\n"
            "It can be deleted.\n"
        )
        mail.add_attachment(self.pdf, maintype="application", subtype="pdf", filename="test.pdf")
        self.octets = bytes(mail)

    def has_arrived_as(self, octets: bytes) -> bool:
        """Whether this is the mail, with the same PDF."""
        fetched = email.message_from_bytes(octets, policy=email.policy.SMTP)
        return any(part.get_payload(decode=True) == self.pdf for part in fetched.walk() if not part.is_multipart())
