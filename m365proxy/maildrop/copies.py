"""A message's octets in a file that may still be growing, and where TOP ends in them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import BinaryIO, Callable, Iterable, Iterator, List, Optional, Tuple

from ..errors import ProxyError, Temporary
from ..graph.answer import Cancellation, Cancelled
from ..mime.encodings import CRLF
from ..system import files, log

logger = log.get("copies")

SUFFIX = ".copy"

# Octets read at once from a copy.
_CHUNK = 32 * 1024

# A reader that has octets already waits so long for more (seconds), and asks so often whether to go on.
_SILENCE = 60.0
_SLICE = 5.0

# What comes after the lines a TOP wants is kept if it ends within so many octets: then the message is whole.
_SLACK = 64 * 1024

# Python's poplib takes lines of 2,048 octets, with CRLF and a stuffed dot; RFC 5322 allows 998 without CRLF.
_LONGEST = 2045
_FOLDED = 998


class Top:
    """Where TOP ends (RFC 1939 section 7): after the header, the blank line, and `lines` of the body.

    Fed with a message of CRLF line ends in pieces of any size; a line of any length passes.
    """

    def __init__(self, lines: int):
        self._lines = lines
        self._in_header = True
        self._line = 0  # octets of the present header line, as far as it matters
        self.done = False

    def feed(self, chunk: bytes) -> bytes:
        """What of the chunk belongs to the top."""
        position = 0
        while not self.done:
            end = chunk.find(b"\n", position)
            if end < 0:
                self._line += len(chunk) - position
                return chunk
            blank = self._line + end - position <= 1
            position = end + 1
            self._line = 0
            if self._in_header:
                self._in_header = not blank
            else:
                self._lines -= 1
            self.done = not self._in_header and self._lines <= 0
        return chunk[:position]


def top(chunks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """The top of a message; no more chunks are asked for than it takes."""
    wanted = Top(lines)
    for chunk in chunks:
        yield wanted.feed(chunk)
        if wanted.done:
            return


def folded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A message of CRLF line ends, its lines of more than 2,045 octets cut into pieces of at most 998.

    No line end may be split between chunks.  Each cut is before white space, so that a field folds as RFC 5322
    section 2.2.3 has it.  Where there is none, a header line gets a space; a line of the body is cut as it is,
    though not within a character of UTF-8.
    """
    in_header = True
    long = False  # the line at hand was cut already
    held = b""
    for chunk in chunks:
        *lines, held = (held + chunk).split(CRLF)
        done = []
        for line in lines:
            long = long or len(line) > _LONGEST
            pieces, rest = _cut(line, in_header) if long else ([], line)
            done += pieces + [rest, CRLF]
            in_header = in_header and (long or line != b"")
            long = False
        if len(held) > _LONGEST:
            long = True
            pieces, held = _cut(held, in_header)
            done += pieces
        if done:
            yield b"".join(done)
    if held:
        yield held


def _cut(line: bytes, in_header: bool) -> Tuple[List[bytes], bytes]:
    """(what goes before, line ends included; the rest, which is short)."""
    pieces = []
    while len(line) > _FOLDED:
        # A line of white space alone would look like the end of the header.
        start = len(line) - len(line.lstrip(b" \t"))
        end = max(line.rfind(b" ", start, _FOLDED + 1), line.rfind(b"\t", start, _FOLDED + 1))
        fill = b""
        if end < 1:
            end = _FOLDED
            while end > _FOLDED - 3 and line[end] & 0xC0 == 0x80:
                end -= 1
            fill = b" " if in_header else b""
        pieces += [line[:end], CRLF]
        line = fill + line[end:]
    return pieces, line


class Copy:
    """One writer, one reader, each in its own thread.

    The writer opens, writes, perhaps restarts, completes or fails, and closes.
    `lines` is what a TOP wants of the body; None is the whole message.
    """

    def __init__(self, path: str, lines: Optional[int], more: Callable[["Copy", int], bool], settle: float = 0.05):
        """`more(copy, octets)` is asked by the writer whether a copy nobody claimed may outgrow its `charge`."""
        self.path = path
        self.lines = lines
        self.charge = 0
        self.size = 0
        self.whole = False
        self.substitute = False  # a text of ours, because the item cannot be had
        self.claimed = False  # the client asked for it
        self.patient = False  # the client gets nothing of it before it is whole
        self.cancellation = Cancellation()  # of the writer's call
        self._more = more
        # A message is mostly whole a moment after its first octet: then its exact size
        # can be told, and a connection that breaks costs nothing.
        self._settle = settle
        self._changed = threading.Condition()
        self._top: Optional[Top] = None
        self._after_top = 0
        self._file: Optional[BinaryIO] = None
        self._error: Optional[ProxyError] = None
        self._over = False
        self._taken = False
        self._stopped = False

    # -- the writer -------------------------------------------------------

    def open(self) -> None:
        """Make the file; OSError if the disk refuses."""
        self._file = files.create(self.path)
        self._begin()

    def _begin(self) -> None:
        self._top = None if self.lines is None else Top(self.lines)
        self._after_top = 0

    def write(self, chunk: bytes) -> None:
        """Append; Cancelled if the rest is not wanted, OSError if the disk refuses."""
        assert self._file is not None
        beyond = self.size + len(chunk) - self.charge
        if not self.claimed and beyond > 0 and not self._more(self, beyond):
            self.require_claim()
        if self._stopped:
            raise Cancelled
        self._file.write(chunk)
        self._file.flush()
        with self._changed:
            self.size += len(chunk)
            self._changed.notify_all()
        if self._top is not None:
            self._after_top += len(chunk) - len(self._top.feed(chunk))
            if self._after_top > _SLACK:
                raise Cancelled

    def require_claim(self) -> None:
        """Cancelled unless the client asked for it, who gets another copy from now on."""
        with self._changed:
            if not self.claimed:
                self._stopped = True
                raise Cancelled

    def restart(self) -> bool:
        """Begin anew with an empty file; False if the reader has had octets of it, or nobody wants it."""
        assert self._file is not None
        with self._changed:
            if self._taken or self._stopped:
                return False
            self.size = 0
        self._file.seek(0)
        self._file.truncate()
        self._begin()
        return True

    def complete(self) -> None:
        with self._changed:
            self.whole = True

    def fail(self, error: ProxyError) -> None:
        with self._changed:
            self._error = error

    def close(self) -> None:
        """The writer is done, however it went."""
        if self._file is not None:
            # What could not be written has been reported by write.
            with contextlib.suppress(OSError):
                self._file.close()
        with self._changed:
            self._over = True
            if not self.useful and self._error is None:
                self._error = Temporary("The message was not fetched to its end.")
            self._changed.notify_all()

    # -- anybody ----------------------------------------------------------

    @property
    def useful(self) -> bool:
        """Whether it holds what it was made for."""
        return self.whole or (self._top is not None and self._top.done and self._error is None)

    @property
    def error(self) -> Optional[ProxyError]:
        """What kept it from coming, if anything did."""
        return self._error

    @property
    def over(self) -> bool:
        """Whether the writer is done."""
        return self._over

    @property
    def stopped(self) -> bool:
        """Whether the rest is not wanted."""
        return self._stopped

    def stop(self) -> None:
        """The rest is not wanted; the writer learns of it at once, even while Graph is silent."""
        with self._changed:
            self._stopped = True
        self.cancellation.cancel()

    def claim(self, lines: Optional[int]) -> bool:
        """Take it for the client, who wants so many lines (None: all); False if it cannot serve that."""
        with self._changed:
            enough = self.whole or self.lines is None or (lines is not None and lines <= self.lines)
            if not enough or self._stopped or self._error is not None:
                return False
            self.claimed = True
            return True

    # -- the reader -------------------------------------------------------

    def ready(self, seconds: float) -> bool:
        """Whether there is something to read, after waiting up to `seconds`; raises what kept it from coming."""
        with self._changed:
            self._changed.wait_for(self._begun, seconds)
            if self._begun() and not self._over:
                self._changed.wait_for(lambda: self._over, self._settle)
            if self._error is not None and not self._taken:
                raise self._error
            return self._begun()

    def _begun(self) -> bool:
        return self._over or bool(self.size and not self.patient)

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
                if not self._come(position, 0.0):
                    before_wait()
                    self._wait_for(position, in_silence)
                if position >= self.size:
                    return
                if file is None:
                    file = stack.enter_context(self._reading())
                data = file.read(min(_CHUNK, self.size - position))
                position += len(data)
                yield data

    def _reading(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as error:
            # It may have broken off just now: then its file is gone.
            reason = Temporary(f"The message cannot be read from this machine's disk: {error.strerror}.")
            raise self._error or reason from None

    def _wait_for(self, position: int, in_silence: Callable[[], object]) -> None:
        deadline = time.monotonic() + _SILENCE
        while not self._come(position, _SLICE):
            in_silence()
            if time.monotonic() >= deadline:
                raise Temporary("Exchange fell silent in the middle of the message.")

    def _come(self, position: int, seconds: float) -> bool:
        with self._changed:
            come = self._changed.wait_for(lambda: self.size > position or self._over, seconds)
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

    What cannot be removed stops no start.
    """
    for name in files.names(directory):
        path = os.path.join(directory, name)
        try:
            stale = name.endswith((".json", ".tmp")) and os.stat(path).st_mtime < time.time() - max_age
            if name.endswith(SUFFIX) or stale:
                files.remove(path)
        except OSError as error:
            logger.warning("%s, which an earlier run left, cannot be removed: %s", path, error.strerror or error)
