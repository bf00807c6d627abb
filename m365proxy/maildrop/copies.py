"""A message's octets in a file that may still be growing."""

from __future__ import annotations

import contextlib
import enum
import os
import threading
import time
from typing import BinaryIO, Callable, Iterator, Optional, Tuple

from ..errors import ProxyError, Temporary
from ..graph.answer import Cancellation, Cancelled
from ..system import files, log
from .top import Top

logger = log.get("copies")

SUFFIX = ".copy"

# Octets read at once from a copy.
_CHUNK = 32 * 1024

# A reader that has had octets waits so long for more (seconds), and asks so often whether to go on.
_SILENCE = 60.0
_SLICE = 5.0

# What follows the lines that a TOP wants is kept if it ends within so many octets: then the message is whole.
_SLACK = 64 * 1024


class Phase(enum.Enum):
    """How far the writer of a copy has come.

    | phase   | means                                                          | next |
    |---------|----------------------------------------------------------------|------|
    | COMING  | the writer is at work                                          | any  |
    | STOPPED | nobody wants the rest: the writer ends as soon as it notices   | one of those below |
    | WHOLE   | the whole message is in the file                               | none |
    | TEXT    | the file holds a text in the place of a message Exchange does not give out | none |
    | TOP     | as much as a TOP wants is in the file, and no more will come   | none |
    | FAILED  | it broke off; `error` says why                                 | none |
    """

    COMING = "coming"
    STOPPED = "stopped"
    WHOLE = "whole"
    TEXT = "text"
    TOP = "top"
    FAILED = "failed"


class Copy:
    """One writer, one reader, each in its own thread.

    The writer opens, writes, perhaps restarts, completes or fails, and closes.
    `lines` is what a TOP wants of the body; None is the whole message.
    """

    def __init__(self, path: str, lines: Optional[int], may_grow: Callable[[Copy, int], bool], settle: float = 0.05):
        """`may_grow(copy, octets)`: whether a copy nobody claimed may become so much larger than its `charge`."""
        self.path = path
        self.lines = lines
        self.charge = 0
        self.size = 0
        self.claimed = False  # the client asked for it; if not, it is fetched ahead
        self.only_when_whole = False  # the client gets nothing of it before the writer is done
        self.cancellation = Cancellation()  # of the writer's call
        self._may_grow = may_grow
        # A message is mostly whole a moment after its first octet: then its exact size
        # can be told, and a connection that breaks costs nothing.
        self._settle = settle
        self._changed = threading.Condition()
        self._phase = Phase.COMING
        self._error: Optional[ProxyError] = None
        self._outcome: Optional[Tuple[Phase, Optional[ProxyError]]] = None  # what `close` makes known
        self._taken = False  # the reader has had octets of it
        self._top: Optional[Top] = None
        self._after_top = 0
        self._file: Optional[files.NewFile] = None

    # -- the writer -------------------------------------------------------

    def open(self) -> None:
        """Make the file; OSError if the disk refuses."""
        self._file = files.create(self.path)
        self._begin()

    def _begin(self) -> None:
        self._top = None if self.lines is None else Top(self.lines)
        self._after_top = 0

    def write(self, chunk: bytes) -> None:
        """Append; Cancelled if nobody wants the rest, OSError if the disk refuses."""
        assert self._file is not None
        beyond = self.size + len(chunk) - self.charge
        if not self.claimed and beyond > 0 and not self._may_grow(self, beyond):
            self.require_claim()
        if self.stopped:
            raise Cancelled
        self._file.write(chunk)
        with self._changed:
            self.size += len(chunk)
            self._changed.notify_all()
        if self._top is not None:
            self._after_top += len(chunk) - len(self._top.feed(chunk))
            if self._after_top > _SLACK:
                raise Cancelled

    def require_claim(self) -> None:
        """Cancelled unless the client asked for it; if it does so later, it gets another copy."""
        with self._changed:
            if not self.claimed:
                self._phase = Phase.STOPPED
                raise Cancelled

    def restart(self) -> bool:
        """Begin anew with an empty file; False if the reader has had octets of it, or nobody wants it."""
        assert self._file is not None
        with self._changed:
            if self._taken or self._phase is not Phase.COMING:
                return False
            self.size = 0
        self._file.empty()
        self._begin()
        return True

    def complete(self, phase: Phase = Phase.WHOLE) -> None:
        """Everything was written; `phase` is WHOLE or TEXT.  The reader learns of it by `close`."""
        self._outcome = phase, None

    def fail(self, error: ProxyError) -> None:
        """It broke off.  The reader learns of it by `close`."""
        self._outcome = Phase.FAILED, error

    def close(self) -> None:
        """The writer is done, however it went."""
        if self._file is not None:
            # What could not be written has been reported by write.
            with contextlib.suppress(OSError):
                self._file.close()
        if self._outcome is None:
            if self._top is not None and self._top.done:
                self._outcome = Phase.TOP, None
            else:
                self._outcome = Phase.FAILED, Temporary("The message was not fetched completely.")
        with self._changed:
            self._phase, self._error = self._outcome
            self._changed.notify_all()

    # -- anybody ----------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether the writer is done."""
        return self._phase not in (Phase.COMING, Phase.STOPPED)

    @property
    def whole(self) -> bool:
        """Whether it holds a whole message, be it a text of ours."""
        return self._phase in (Phase.WHOLE, Phase.TEXT)

    @property
    def substitute(self) -> bool:
        """Whether it holds a text of ours, because the item cannot be had."""
        return self._phase is Phase.TEXT

    @property
    def useful(self) -> bool:
        """Whether it holds what it was made for."""
        return self.over and self._phase is not Phase.FAILED

    @property
    def stopped(self) -> bool:
        """Whether nobody wants the rest."""
        return self._phase is Phase.STOPPED

    @property
    def error(self) -> Optional[ProxyError]:
        """What kept it from coming, if anything did."""
        return self._error

    def stop(self) -> None:
        """Nobody wants the rest; the writer learns of it at once, even while Graph is silent."""
        with self._changed:
            if self._phase is Phase.COMING:
                self._phase = Phase.STOPPED
        self.cancellation.cancel()

    def claim(self, lines: Optional[int]) -> bool:
        """Take it for the client, who wants so many lines (None: all); False if it cannot serve that."""
        with self._changed:
            enough = self.whole or self.lines is None or (lines is not None and lines <= self.lines)
            if not enough or self._phase in (Phase.STOPPED, Phase.FAILED):
                return False
            self.claimed = True
            return True

    # -- the reader -------------------------------------------------------

    def wait_ready(self, seconds: float) -> bool:
        """Whether there is something to read, after waiting up to `seconds`; raises what kept it from coming."""
        with self._changed:
            self._changed.wait_for(self._is_readable, seconds)
            if self._is_readable() and not self.over:
                self._changed.wait_for(lambda: self.over, self._settle)
            if self._error is not None and not self._taken:
                raise self._error
            return self._is_readable()

    def _is_readable(self) -> bool:
        return self.over or bool(self.size and not self.only_when_whole)

    def chunks(
        self, before_wait: Callable[[], object], in_silence: Callable[[], object] = lambda: None
    ) -> Iterator[bytes]:
        """The octets as they come.  Raises what broke them off, and Temporary after a minute's silence.

        `before_wait` is called when there are none yet, `in_silence` every few seconds while none come.
        """
        with contextlib.ExitStack() as stack:
            file: Optional[BinaryIO] = None
            position = 0
            while True:
                if not self._has_come(position, 0.0):
                    before_wait()
                    self._wait_for(position, in_silence)
                if position >= self.size:
                    return
                if file is None:
                    file = stack.enter_context(self._open_to_read())
                data = file.read(min(_CHUNK, self.size - position))
                position += len(data)
                yield data

    def _open_to_read(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as error:
            # It may have broken off just now: then its file is gone.
            reason = Temporary(f"The message cannot be read from this machine's disk: {error.strerror}.")
            raise self._error or reason from None

    def _wait_for(self, position: int, in_silence: Callable[[], object]) -> None:
        deadline = time.monotonic() + _SILENCE
        while not self._has_come(position, _SLICE):
            in_silence()
            if time.monotonic() >= deadline:
                raise Temporary("Exchange stopped sending in the middle of the message.")

    def _has_come(self, position: int, seconds: float) -> bool:
        """Whether there is more than the first `position` octets, or an end, after waiting up to `seconds`."""
        with self._changed:
            come = self._changed.wait_for(lambda: self.size > position or self.over, seconds)
            if self._error is not None and not (self._taken and self.size > position):
                raise self._error
            self._taken = self._taken or self.size > position
            return come


def remove(path: str) -> bool:
    """Delete a copy's file; False where the system keeps a file that is open (its writer removes it later)."""
    try:
        files.remove(path)
    except OSError:
        return False
    return True


def clear(directory: str, max_age: float) -> None:
    """Remove the copies an earlier run left, and other files of ours older than `max_age` seconds.

    A file that cannot be removed does not keep the program from starting.
    """
    for name in files.names(directory):
        path = os.path.join(directory, name)
        try:
            stale = name.endswith((".json", ".tmp")) and os.stat(path).st_mtime < time.time() - max_age
            if name.endswith(SUFFIX) or stale:
                files.remove(path)
        except OSError as error:
            logger.warning("%s, left by an earlier run, cannot be removed: %s", path, error.strerror or error)
