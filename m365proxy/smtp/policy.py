"""What the configuration allows an SMTP session."""

from __future__ import annotations

import dataclasses
from typing import BinaryIO, Callable, Optional, Sequence, Tuple

from ..logins.users import User
from ..server.quirks import Quirks
from ..system import log
from ..system.networks import Network
from . import replies
from .replies import Reply

logger = log.get("smtp")


def _nobody(peer: str) -> Optional[User]:
    return None


@dataclasses.dataclass(frozen=True)
class Policy:
    """Limits and rights, shared by all sessions."""

    size_limit: int = 36 * 1024 * 1024  # octets of a message
    too_large: Reply = replies.TOO_LARGE  # to a message beyond it
    recipients: int = 500  # of one message
    errors: int = 10  # mistakes of the client that end a session
    command_seconds: float = 300.0  # for one line, however slowly it drips
    data_seconds: float = 600.0  # for a message, with a second more for every 8 KiB of it
    session_seconds: float = 3600.0  # looked at between commands
    plaintext_networks: Sequence[Network] = ()  # where AUTH is possible without TLS
    allowed_domains: Sequence[str] = ("*",)  # of recipients, lower case; "*" is all
    relay: Callable[[str], Optional[User]] = _nobody  # who may send from an address without a login
    relay_networks: Sequence[Tuple[Network, str]] = ()  # the same as the config has it, for advice
    mailboxes: Sequence[str] = ()  # those that may send, for advice
    # Looks at a whole message before it is accepted, and is told whether it came with MAIL FROM:<>; the Reply it
    # returns refuses the message.
    check_message: Optional[Callable[[BinaryIO, User, bool], Optional[Reply]]] = None
    # Told the code and enhanced code of each reply that refuses something.
    note_refusal: Callable[[str], object] = lambda reason: None
    quirks: Quirks = dataclasses.field(default_factory=Quirks)
