"""An answer that is begun before there is one, so that a client does not take a slow Exchange for a dead server."""

from __future__ import annotations

from typing import Callable

from ..errors import ProxyError
from ..server.connection import Connection

# Clients give up after a minute or more of silence: this often they get a sign of life (seconds).
SECONDS = 20.0


class BrokenOff(Exception):
    """An answer was begun and cannot be ended properly: the connection closes, so that no part passes for the whole."""


class SignsOfLife:
    """For one connection and the thread that serves it."""

    def __init__(self, connection: Connection, seconds: float = SECONDS):
        self._connection = connection
        self._seconds = seconds

    def wait(self, wait_ready: Callable[[float], bool], begun: bool = False) -> bool:
        """Wait until `wait_ready(seconds)` says yes; whether the +OK line was begun by then.

        Each sign of life adds a dot to that line.  Once it is begun, a -ERR is
        impossible: BrokenOff if `wait_ready` raises a ProxyError.  Closed and
        TimedOut if the client is gone.
        """
        try:
            while not wait_ready(self._seconds):
                self._connection.write(b"." if begun else b"+OK Exchange is slow")
                self._connection.flush()
                begun = True
        except ProxyError as error:
            if begun:
                raise BrokenOff(str(error)) from None
            raise
        return begun
