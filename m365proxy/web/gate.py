"""The password before the pages: HTTP Basic (RFC 7617), over TLS only, with any user name."""

from __future__ import annotations

import base64
import binascii
import threading
from typing import Optional, Tuple

from ..errors import Temporary
from ..logins.guard import Guard
from ..logins.users import LoginRefused
from ..logins.verifier import Verifier
from ..system import events, log
from . import response
from .response import Response

logger = log.get("web")

# Passwords that are checked at once.  A wrong one takes seconds, and there must be threads left for probes.
_AT_ONCE = 8

# What the guard counts failures by: it is no user name of a device.
_NAME = "status_password"

_CHALLENGE = ("WWW-Authenticate", 'Basic realm="m365proxy", charset="UTF-8"')


class Gate:
    """Any thread may call."""

    def __init__(self, guard: Guard):
        self._guard = guard
        self._expected: Optional[Tuple[str, Verifier]] = None  # the password, and who remembers that it was given
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def set_password(self, stored: Optional[str]) -> None:
        """`stored`: plain or hashed; None: everybody may come in."""
        if stored is None:
            self._expected = None
        elif self._expected is None or self._expected[0] != stored:
            self._expected = stored, Verifier()

    def refusal(self, authorization: str, peer: str) -> Optional[Response]:
        """The response to who may not come in; None for who may."""
        expected = self._expected
        if expected is None:
            return None
        if not authorization:
            return response.refusal(401, _CHALLENGE, why="The status page has a password.")
        if not self._turns.acquire(blocking=False):
            return response.refusal(503, why="Too many passwords are being checked at once. Try again in a minute.")
        user, password = _credentials(authorization)
        try:
            self._guard.attempt(_NAME, peer, lambda: _verify(password, *expected))
        except LoginRefused as error:
            # In the words that fail2ban knows.
            extra = events.step("login failed", service="status", client=peer, login=user, reason=error.reason)
            logger.warning("login failed from %s user %s: %s", peer, log.quote(user, 100), error.reason, extra=extra)
            return response.refusal(401, _CHALLENGE, why="The password was not accepted.")
        except Temporary as error:
            return response.refusal(503, why=str(error))
        finally:
            self._turns.release()
        return None


def _verify(password: str, stored: str, verifier: Verifier) -> None:
    if not verifier.is_right(_NAME, password, stored):
        raise LoginRefused("wrong password")


def _credentials(authorization: str) -> Tuple[str, str]:
    """User name and password; both are empty if they cannot be read."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return "", ""
    user, _, password = text.partition(":")
    return user, password
