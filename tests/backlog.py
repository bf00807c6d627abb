"""A long queue, made quickly: what an outage of days leaves behind."""

import os

from m365proxy.spool.envelope import Envelope, envelope_lines
from m365proxy.spool.spool import mailbox_tag


def fill(queue, count, mailbox, recipient="scans@contoso.com", first=0):
    """Put `count` messages into queue/new as the spool would, but without waiting for the disk."""
    tag = mailbox_tag(mailbox)
    lines = envelope_lines(Envelope(mailbox, mailbox, (recipient,), "127.0.0.1", mailbox, accepted=1_790_000_000.0))
    content = lines + f"From: {mailbox}\r\nTo: {recipient}\r\nSubject: waiting\r\n\r\nx\r\n".encode()
    for number in range(first, first + count):
        path = os.path.join(queue, "new", f"20260923T120000-{number:012x}-{tag}")
        with open(path, "wb") as file:
            file.write(content)
