"""AUTH PLAIN and AUTH LOGIN on one connection (RFC 4954, RFC 4616)."""

from __future__ import annotations

import json
from typing import Any, Callable, List, Optional, Tuple

from ..errors import Temporary
from ..logins import sasl
from ..logins.sasl import Malformed
from ..logins.users import SignInRefused, User
from ..server.connection import Connection, LineTooLong
from ..system import log
from . import replies
from .policy import Policy
from .replies import Reply

logger = log.get("smtp")

# Octets of a line of an exchange with its line end (RFC 4954 section 4).
LINE_LIMIT = 12288


def ways_without_auth(peer: str, policy: Policy, can_start_tls: bool, tls_required: bool) -> str:
    """What an administrator may do about a client that was offered no AUTH and left, one sentence with config lines."""
    here = "" if can_start_tls else "give this port a certificate (tls.tls_cert) and "
    said = f"it was offered no AUTH, because it had not begun TLS, and left: {here}set TLS (STARTTLS) on the device"
    if tls_required:
        return said
    networks = json.dumps([*map(str, policy.plaintext_networks), peer])
    relay = json.dumps({peer: "its mailbox"})
    return (
        f'{said}; or let it log in without TLS: "plaintext_networks": {networks}; '
        f'or let it send without a login: "relay_networks": {relay}'
    )


class _Cancelled(Exception):
    """The client broke the exchange off with "*" (RFC 4954 section 4)."""


class SignIn:
    """A session's AUTH command.  `user` is whom the last successful exchange signed in, else None."""

    def __init__(self, connection: Connection, users: Any, seconds: float, relay: Callable[[str], Optional[User]]):
        """`seconds` is for one answer of the client; whom `relay` names for its address may log in with nothing."""
        self.user: Optional[User] = None
        self.relay_user = relay(connection.peer)
        self._relay = relay
        self._connection = connection
        self._users = users
        self._seconds = seconds

    @property
    def sender(self) -> Optional[User]:
        """Who may send now: who signed in, else whom the network stands for."""
        return self.user or self.relay_user

    def refresh(self) -> bool:
        """Take the sender as configured now, for a reload may have changed it; whether it may still send."""
        user, peer = self.sender, self._connection.peer
        if user is None:
            return True
        if user.login:
            self.user = fresh = self._users.current(user, "smtp", peer)
            return fresh is not None
        fresh = self._relay(peer)
        self.relay_user = fresh
        self.user = self.user and fresh
        return fresh is not None and fresh.mailbox == user.mailbox

    def exchange(self, argument: str) -> Reply:
        """The whole exchange, from what stands behind AUTH to the final reply.  Raises Closed, TimedOut."""
        mechanism, *initial = argument.split() or [""]
        if not mechanism or len(initial) > 1:
            return replies.SIGN_IN_SYNTAX
        steps = self._MECHANISMS.get(mechanism.upper())
        if steps is None:
            return replies.UNKNOWN_MECHANISM
        try:
            return self._check(*steps(self, initial))
        except Malformed:
            return replies.BAD_BASE64
        except LineTooLong:
            return replies.SIGN_IN_LINE_TOO_LONG
        except _Cancelled:
            return replies.SIGN_IN_CANCELLED

    def _plain(self, initial: List[str]) -> Tuple[str, str, str]:
        return sasl.plain(self._response(replies.ASK_PLAIN, initial))

    def _login(self, initial: List[str]) -> Tuple[str, str, str]:
        login = sasl.credential(self._response(replies.ASK_USER, initial))
        return "", login, sasl.credential(self._response(replies.ASK_PASSWORD, []))

    _MECHANISMS = {"LOGIN": _login, "PLAIN": _plain}

    def _response(self, challenge: Reply, initial: List[str]) -> bytes:
        """What came with the command, else the answer to the challenge."""
        if initial:
            return sasl.unbase64(initial[0])
        self._connection.write(bytes(challenge))
        line = self._connection.read_line(LINE_LIMIT, self._seconds).strip()
        if line == b"*":
            raise _Cancelled
        return sasl.unbase64(line.decode("latin-1"))

    def _check(self, identity: str, login: str, password: str) -> Reply:
        if not (identity or login or password):
            if self.relay_user is None:
                return self._failed(login, "user name and password are empty", replies.SIGN_IN_EMPTY)
            self.user = self.relay_user  # anonymous, where the network may send without sign-in
            return replies.SIGNED_IN
        peer = self._connection.peer
        try:
            user = self._users.check(login, password, "smtp", peer)
        except SignInRefused as error:
            return self._failed(login, error.reason, replies.SIGN_IN_REFUSED)
        except Temporary as error:
            logger.warning("sign-in put off from %s user %s: %s", peer, log.quote(login, 100), error)
            return replies.SIGN_IN_BUSY
        if identity and identity.lower() not in (login.lower(), user.mailbox):
            return self._failed(login, "it asked to act as somebody else", replies.SIGN_IN_AS_OTHER)
        self.user = user
        return replies.SIGNED_IN

    def _failed(self, login: str, reason: str, reply: Reply) -> Reply:
        peer = self._connection.peer
        logger.warning("sign-in failed from %s user %s: %s", peer, log.quote(login, 100), log.clean(reason))
        return reply
