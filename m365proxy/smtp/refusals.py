"""Which refusals of a session an administrator is to see in the log."""

from __future__ import annotations

from typing import Optional, Set

from ..logins.users import User
from ..system import log
from . import replies
from .replies import Reply

logger = log.get("smtp")

# What keeps a device from logging in is what an administrator looks for when it cannot send.
_LOGIN_CODES = (504, 530, 538)
_LOGIN_REPLIES = (replies.BAD_BASE64, replies.AUTH_SYNTAX, replies.AUTH_LINE_TOO_LONG)


class RefusalLog:
    """The log lines on refusals in one session.  Belongs to the session's thread."""

    def __init__(self, peer: str):
        self._peer = peer
        self._of_login: Set[Reply] = set()  # those logged
        self._last: Optional[Reply] = None  # the last one logged that is not about the login

    def note(self, reply: Reply, user: Optional[User]) -> None:
        """Log a reply if it is a refusal that matters, and was not logged just before."""
        if self._is_new(reply):
            who = f" ({user.mailbox})" if user else ""
            logger.info("refused from %s%s: %s %s", self._peer, who, reply.code, " ".join(reply.lines))

    def _is_new(self, reply: Reply) -> bool:
        """Refusals on the way to a login are new once a session, those by policy once in a row of equal ones."""
        if reply.code in _LOGIN_CODES or reply in _LOGIN_REPLIES:
            is_new = reply not in self._of_login
            self._of_login.add(reply)
            return is_new
        if reply.code < 550 and reply is not replies.TOO_MANY_RECIPIENTS:
            return False
        is_new = reply != self._last
        self._last = reply
        return is_new
