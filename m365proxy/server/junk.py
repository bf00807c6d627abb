"""Commands that achieve nothing (RSET, NOOP, CAPA and so on) are counted, then slowed down, then end the session."""

from __future__ import annotations

import time
from typing import Callable

# Commands that cost a client nothing.  An honest one needs fewer than ten before it has logged in.
_FREE_BEFORE_LOGIN = 20
_FREE = 100

# As many more are answered, each after a pause; then the session ends.
_SLOWED = 10

# The first pause (seconds), doubled with each further command up to the longest.  Clients wait much longer for a
# reply, and an orderly stop for a session.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

# One command is forgiven every so many seconds: a NOOP now and then may keep a connection open for ever.
_FORGIVEN_SECONDS = 6.0


class TooMuchJunk(Exception):
    """Too many commands achieved nothing: the session is to end."""


class JunkCommands:
    """The commands of one session that achieved nothing.  Belongs to the session's thread."""

    def __init__(
        self,
        note_progress: Callable[[], object] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`note_progress` is called whenever the client has achieved something."""
        self._note_progress = note_progress
        self._clock = clock
        self._sleep = sleep
        self._count = 0.0
        self._last = clock()
        self._excused = False

    def forget(self) -> None:
        """The command under way achieved something: a login, a message.  Counting begins anew."""
        self._count = 0.0
        self._excused = True
        self._note_progress()

    def excuse(self) -> None:
        """The command under way is a step towards something: it is not counted."""
        self._excused = True

    def note(self, logged_in: bool, before_pause: Callable[[], None], weight: int = 1) -> None:
        """Count a command as `weight` commands.

        If there have been too many, wait after calling `before_pause`, or raise TooMuchJunk.
        """
        if self._excused:
            self._excused = False
            return
        now = self._clock()
        self._count = max(0.0, self._count - (now - self._last) / _FORGIVEN_SECONDS) + weight
        self._last = now
        over = int(self._count) - (_FREE if logged_in else _FREE_BEFORE_LOGIN)
        if over > _SLOWED:
            raise TooMuchJunk
        if over > 0:
            before_pause()
            self._sleep(min(_FIRST_PAUSE * 2 ** (over - 1), _LONGEST_PAUSE))
