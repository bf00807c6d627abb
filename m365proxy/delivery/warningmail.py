"""A notice of ours as a mail, through one of the mailboxes.  It goes out at once, or is taken back.

So it never waits in the queue, nor stays in failed/, where it would be a reason for the next warning.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable

from ..errors import Temporary
from ..spool.envelope import Envelope
from ..spool.spool import Spool
from ..spool.state import Place
from . import dsn

# Seconds until it is taken back, and between looks whether it has gone.
PATIENCE, _LOOK = 300.0, 0.5

# What is written in its envelope: it gets no report.
KIND = "warning"


class WarningMail:
    """Any thread may call."""

    def __init__(
        self,
        spool: Spool,
        accepted: Callable[[str], None],
        patience: float = PATIENCE,
        look: float = _LOOK,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """`accepted(id)`: called with each that is in the queue.  `patience`, `look`: seconds."""
        self._spool = spool
        self._accepted = accepted
        self._patience = patience
        self._look = look
        self._monotonic = monotonic

    def send(self, mailbox: str, to: str, subject: str, text: str, stopped: threading.Event) -> None:
        """Send a mail, and return once it was sent.

        Temporary if it was not, or not soon enough, or `stopped` was set; OSError
        if the disk fails.
        """
        incoming = self._spool.put(Envelope(mailbox, recipients=(to,), kind=KIND), self._accepted)
        incoming.write(dsn.build_notice(subject, text, author=mailbox, to=to))
        id = incoming.commit()
        end = self._monotonic() + self._patience
        while self._monotonic() < end and not stopped.wait(self._look):
            if self._has_gone(id):
                return
        if not self._has_gone(id):
            state = self._spool.state(id)
            self._take_back(id)
            raise Temporary((state.error if state else "") or f"{mailbox} has not sent it in time.")

    def _has_gone(self, id: str) -> bool:
        """Whether it was sent; Temporary if it was given up."""
        entry = self._spool.find(id)
        if entry is not None and entry.place is Place.FAILED:
            state = self._spool.state(id)
            self._take_back(id)
            raise Temporary((state.error if state else "") or "Microsoft refused it.")
        return entry is None

    def _take_back(self, id: str) -> None:
        entry = self._spool.find(id)
        if entry is not None and entry.place is not Place.CUR:  # else it may be on its way
            with contextlib.suppress(FileNotFoundError):  # it has just moved on
                self._spool.drop(entry)
