"""Words of the config that parts of the program below it compare: what may be chosen, once, with one spelling."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Word(str, enum.Enum):
    """A word as the config spells it; it is this text in log lines and files too."""

    def __str__(self) -> str:
        return str(self.value)


class Permissions(Word):
    """What is asked of Microsoft: reading and sending, or sending only."""

    FULL = "full"
    SEND = "send"


class Cloud(Word):
    """The Microsoft cloud the tenant is in."""

    GLOBAL = "global"
    USGOV_HIGH = "usgov-high"
    USGOV_DOD = "usgov-dod"
    CHINA = "china"


class Service(Word):
    """A protocol that is served, and what a login may use."""

    SMTP = "smtp"
    POP3 = "pop3"


class TlsMode(Word):
    """How TLS begins on a port."""

    NONE = "none"
    STARTTLS = "starttls"  # by a command: STARTTLS, STLS
    IMPLICIT = "implicit"  # with the first octet


def listener_name(protocol: str, tls: TlsMode) -> str:
    """The name of a listener: "smtp", or "smtps" where TLS begins with the first octet; likewise "pop3".

    What is no Service has one name only.
    """
    return f"{protocol}s" if tls is TlsMode.IMPLICIT and protocol in tuple(Service) else str(protocol)


class OnAmbiguous(Word):
    """What becomes of a message of which nobody can find out whether it was sent."""

    RETRY = "retry"
    HOLD = "hold"


class DeletePolicy(Word):
    """What happens to mail that a POP3 client deletes."""

    TRASH = "trash"
    PERMANENT = "permanent"
    KEEP = "keep"
    MOVE = "move"


class DeleteRule(NamedTuple):
    """The policy of a mailbox; `folder` is where MOVE moves mail to."""

    policy: DeletePolicy
    folder: str = ""

    @classmethod
    def parse(cls, text: str) -> DeleteRule:
        """From "trash", "permanent", "keep" or "move:FOLDER"; ValueError if it is none of these."""
        word, _, folder = text.partition(":")
        return cls(DeletePolicy(word), folder)
