"""Which refusals of a session count as mistakes, and which an administrator is to see in the log."""

from __future__ import annotations

import logging
from typing import Optional, Set

from ..logins.users import User
from ..system import events, log
from . import replies, syntax
from .replies import Reply

logger = log.get("smtp")

# What keeps a device from logging in is what an administrator looks for when it cannot send.
_LOGIN_CODES = (504, 530, 538)
_LOGIN_REPLIES = (replies.BAD_BASE64, replies.AUTH_SYNTAX, replies.AUTH_LINE_TOO_LONG)

# Refused senders and recipients of one session that get a line each; the others are counted.
_NAMED = 10

# A session's last words have a line of their own.
_LAST = 421

# Replies to mistakes of the client; what policy refuses is none.
_MISTAKES = (500, 501, 502, 503, 504, 530, 535, 538)


def is_to_mistake(reply: Reply) -> bool:
    """Whether it answers a mistake, too many of which end a session.

    Those in one of many recipients do not count: a pipelined list would end before the good ones are sent.
    """
    in_recipient = reply.enhanced == replies.BAD_RECIPIENT or reply is replies.NOTIFY_SYNTAX
    return reply.code in _MISTAKES and not in_recipient


class RefusalLog:
    """The log lines on refusals in one session.  Belongs to the session's thread."""

    def __init__(self, peer: str):
        self._peer = peer
        self._of_login: Set[Reply] = set()  # those logged
        self._last: Optional[Reply] = None  # the last one logged that is not about the login
        self._addresses = 0  # senders and recipients refused

    def note(self, reply: Reply, user: Optional[User], verb: str, argument: str) -> None:
        """Log the reply to a command if it is a refusal that matters."""
        if verb in ("MAIL", "RCPT") and reply.code >= 400 and reply.code not in (*_LOGIN_CODES, _LAST):
            self._addresses += 1
            if self._addresses <= _NAMED:
                self._log(reply, user, syntax.without_secrets(f"{verb} {argument}"))
        elif self._is_new(reply):
            self._log(reply, user)

    def close(self, user: Optional[User]) -> None:
        """At the end of the session: log how many refused senders and recipients got no line."""
        more = self._addresses - _NAMED
        if more > 0:
            logger.warning("refused from %s%s: %d more senders and recipients", self._peer, _who(user), more)

    def _log(self, reply: Reply, user: Optional[User], command: str = "") -> None:
        text = " ".join(reply.lines)
        logger.log(
            logging.WARNING if reply.code >= 500 else logging.INFO,  # a device that sends nothing until it is mended
            "refused from %s%s: %s%s %s",
            self._peer,
            _who(user),
            f"{log.quote(command)}: " if command else "",
            reply.code,
            text,
            extra=events.step(
                "refused",
                client=self._peer,
                mailbox=user.mailbox if user else None,
                command=command or None,
                reply=f"{reply.code} {text}",
            ),
        )

    def _is_new(self, reply: Reply) -> bool:
        """Refusals on the way to a login are new once a session, those by policy once in a row of equal ones."""
        if reply.code in _LOGIN_CODES or reply in _LOGIN_REPLIES:
            is_new = reply not in self._of_login
            self._of_login.add(reply)
            return is_new
        if reply.code < 550:
            return False
        is_new = reply != self._last
        self._last = reply
        return is_new


def _who(user: Optional[User]) -> str:
    return f" ({user.mailbox})" if user else ""
