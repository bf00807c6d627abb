"""A POP3 client for tests in which mail flows and everything goes wrong."""

from __future__ import annotations

import contextlib
import poplib
import random
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from program import Program

# Messages fetched in one session.
_FETCHED = 3


class Reader:
    """Comes again and again for a few messages of a mailbox, and deletes none; `read` counts the whole ones."""

    def __init__(self, program: "Program", mailbox: str, password: str, dice: random.Random):
        self.read = 0
        self._program = program
        self._mailbox = mailbox
        self._password = password
        self._dice = dice
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._come_again, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _come_again(self) -> None:
        while not self._over.wait(0.1):
            # No listener, a port that is another program's by now, a kill, -ERR.
            with contextlib.suppress(OSError, EOFError, poplib.error_proto, KeyError, StopIteration, ValueError):
                self._poll()

    def _poll(self) -> None:
        client = poplib.POP3("127.0.0.1", self._program.port("pop3"), timeout=30)
        try:
            client.user(self._mailbox)
            client.pass_(self._password)
            count, _ = client.stat()
            for number in self._dice.sample(range(1, count + 1), min(count, _FETCHED)):
                if self._over.is_set():
                    break
                client.retr(number)
                self.read += 1
            client.quit()
        finally:
            client.close()
