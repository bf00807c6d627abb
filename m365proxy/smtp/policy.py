"""What the configuration allows an SMTP session, as plain values."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import BinaryIO, Callable, Dict, Optional, Sequence, Tuple

from ..config.types import Network
from ..logins.users import User
from ..system import log
from .replies import Reply

logger = log.get("smtp")

# Peculiarities remembered, the oldest forgotten first; a device has a handful, an attacker can invent any number.
_QUIRKS = 1000


class Quirks:
    """Peculiarities of clients, logged once for each address.  May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: Dict[Tuple[str, str], None] = {}

    def note(self, peer: str, what: str, level: int = logging.INFO) -> None:
        with self._lock:
            if (peer, what) in self._seen:
                return
            self._seen[peer, what] = None
            if len(self._seen) > _QUIRKS:
                del self._seen[next(iter(self._seen))]
        logger.log(level, "first seen from %s: %s", peer, what)


def _nobody(peer: str) -> Optional[User]:
    return None


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the configuration allows, shared by all sessions."""

    size_limit: int = 36 * 1024 * 1024  # octets of a message
    recipients: int = 500  # of one message
    errors: int = 10  # mistakes of the client that end a session
    command_seconds: float = 300.0  # for one line, however slowly it drips
    data_seconds: float = 600.0  # for a message, with a second more for every 8 KiB of it
    session_seconds: float = 3600.0  # looked at between commands
    plaintext_networks: Sequence[Network] = ()  # where AUTH is possible without TLS
    allowed_domains: Sequence[str] = ("*",)  # of recipients, lower case; "*" is all
    relay: Callable[[str], Optional[User]] = _nobody  # who sends from an address without sign-in
    # Looks at a whole message before it is accepted; a Reply refuses it.
    check_message: Optional[Callable[[BinaryIO, User], Optional[Reply]]] = None
    quirks: Quirks = dataclasses.field(default_factory=Quirks)
