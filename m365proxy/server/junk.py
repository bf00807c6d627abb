"""Commands that bring nothing (RSET, NOOP, CAPA and the like): counted, slowed down, at last answered by the end."""

from __future__ import annotations

import time
from typing import Callable

# Commands that cost a client nothing.  An honest one needs fewer than ten before it has logged in.
_FREE_BEFORE_LOGIN = 20
_FREE = 100

# As many more are answered after a pause each; then the session ends.
_SLOWED = 10

# The first pause (seconds), doubled with each further command up to the longest.  The longest is well below what
# clients wait for a reply, and below what an orderly stop waits for a session.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

# One command is forgiven after so many seconds: a NOOP now and then keeps a connection open for ever.
_FORGIVEN_SECONDS = 6.0


class TooMuchJunk(Exception):
    """The session is to end: too many commands brought nothing."""


class JunkCommands:
    """What one session has asked for without getting on.  Belongs to its session's thread."""

    def __init__(
        self,
        of_use: Callable[[], object] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`of_use` is called whenever the client has got on with something."""
        self._of_use = of_use
        self._clock = clock
        self._sleep = sleep
        self._count = 0.0
        self._last = clock()
        self._excused = False

    def forget(self) -> None:
        """The command under way brought something about: a login, a message."""
        self._count = 0.0
        self._excused = True
        self._of_use()

    def excuse(self) -> None:
        """The command under way is a step towards something: it does not count."""
        self._excused = True

    def note(self, logged_in: bool, before_pause: Callable[[], None], weight: int = 1) -> None:
        """Count a command, worth `weight`; perhaps wait, after calling `before_pause`.  Raises TooMuchJunk."""
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
