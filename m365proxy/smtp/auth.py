"""AUTH PLAIN and AUTH LOGIN on one connection (RFC 4954, RFC 4616)."""

from __future__ import annotations

from typing import Callable, List, Optional, Tuple

from ..errors import Temporary
from ..logins import sasl
from ..logins.sasl import Malformed
from ..logins.users import LoginRefused, Logins, User
from ..server.connection import Connection, LineTooLong
from ..system import events, log
from . import replies
from .replies import Reply

logger = log.get("smtp")

# Octets of a line of an exchange with its line end (RFC 4954 section 4).
LINE_LIMIT = 12288


class _Cancelled(Exception):
    """The client ended the exchange with "*" (RFC 4954 section 4)."""


class Authentication:
    """The AUTH command of one session.  `user` is who logged in, or None."""

    def __init__(self, connection: Connection, users: Logins, seconds: float, relay: Callable[[str], Optional[User]]):
        """`seconds` is for one answer of the client.  `relay` says who may send from an address without a login."""
        self.user: Optional[User] = None
        self.relay_user = relay(connection.peer)
        self.mechanism = ""  # that of the last AUTH
        self._relay = relay
        self._connection = connection
        self._users = users
        self._seconds = seconds

    @property
    def sender(self) -> Optional[User]:
        """Who may send now: the user who logged in, else the one that the network stands for."""
        return self.user or self.relay_user

    def refresh(self) -> bool:
        """Take the sender as it is configured now, after a reload perhaps; False if it may not send any more."""
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
        """Do the whole exchange; `argument` is what follows AUTH.  Raises Closed, TimedOut."""
        mechanism, *initial = argument.split() or [""]
        if not mechanism or len(initial) > 1:
            return replies.AUTH_SYNTAX
        steps = self._MECHANISMS.get(mechanism.upper())
        if steps is None:
            return replies.UNKNOWN_MECHANISM
        self.mechanism = mechanism.upper()
        try:
            return self._check(*steps(self, initial))
        except Malformed:
            return replies.BAD_BASE64
        except LineTooLong:
            return replies.AUTH_LINE_TOO_LONG
        except _Cancelled:
            return replies.AUTH_CANCELLED

    def _plain(self, initial: List[str]) -> Tuple[str, str, str]:
        return sasl.plain(self._response(replies.ASK_PLAIN, initial))

    def _login(self, initial: List[str]) -> Tuple[str, str, str]:
        login = sasl.user_name(self._response(replies.ASK_USER, initial))
        return "", login, sasl.credential(self._response(replies.ASK_PASSWORD, []))

    _MECHANISMS = {"LOGIN": _login, "PLAIN": _plain}

    def _response(self, challenge: Reply, initial: List[str]) -> bytes:
        """What came with the command, or else the answer to the challenge."""
        if initial:
            return sasl.unbase64(initial[0])
        self._connection.write(bytes(challenge))
        line = self._connection.read_line(LINE_LIMIT, self._seconds).strip()
        if line == b"*":
            raise _Cancelled
        return sasl.unbase64(line.decode("latin-1"))

    def _check(self, identity: str, login: str, password: str) -> Reply:
        if not (identity or login or sasl.trimmed(password)):
            if self.relay_user is None:
                return self._failed(login, "user name and password are empty", replies.LOGIN_EMPTY)
            self.user = self.relay_user  # anonymous, where the network may send without a login
            return replies.LOGGED_IN
        peer = self._connection.peer
        try:
            user = self._users.check(login, password, "smtp", peer)
        except LoginRefused as error:
            return self._failed(login, error.reason, replies.LOGIN_REFUSED)
        except Temporary as error:
            logger.warning("login deferred from %s user %s: %s", peer, log.quote(login, 100), error)
            return replies.LOGIN_BUSY
        if identity and identity.lower() not in (login.lower(), user.mailbox):
            return self._failed(login, "it asked to act as somebody else", replies.LOGIN_AS_OTHER)
        self.user = user
        return replies.LOGGED_IN

    def _failed(self, login: str, reason: str, reply: Reply) -> Reply:
        peer = self._connection.peer
        logger.warning(
            "login failed from %s user %s: %s",
            peer,
            log.quote(login, 100),
            log.clean(reason),
            extra=events.step(
                "login failed", service="smtp", client=peer, login=login, auth=self.mechanism, reason=reason
            ),
        )
        return reply
