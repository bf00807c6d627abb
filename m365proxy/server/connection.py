"""A client's socket, as SMTP and POP3 use it: lines in, replies out, a deadline on everything.

A Connection belongs to the one thread that serves it; only `interrupt` and
`cut` may be called by others.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import Callable, Optional

from .waits import waits_on

CRLF = b"\r\n"

# One recv, and the most that is buffered for reading beyond one line.
_CHUNK = 64 * 1024

# After this many lines in a row that were buffered already, a reader rests for so long (seconds).  Otherwise one client
# that sends everything ahead would keep the processor from all others: a thread gives it up after 5 ms only.
_LINES_AT_ONCE = 64
_REST = 0.002

# Replies are collected until this many octets or until the client waits for them (RFC 2920).
_WRITE_BUFFER = 32 * 1024


class WireError(Exception):
    """Base: the conversation cannot go on as it was."""


class Closed(WireError):
    """The client is gone, or the connection broke."""


class TimedOut(WireError):
    """The client did not send, or did not take, what was due before the deadline."""


class LineTooLong(WireError):
    """A line was longer than its limit; it has been read to its end and dropped."""


class Injection(WireError):
    """The buffer was not empty when TLS was to begin (CVE-2011-0411); the session must end."""


class Connection:
    """A socket with a bounded line reader, collected replies, and a deadline on everything."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        write_seconds: float = 60.0,
        tls_begun: Optional[Callable[[Connection], None]] = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`peer` is the client's normalised address; `write_seconds` bounds one flush.

        `tls_begun` is called after each successful handshake.
        """
        self.peer = peer
        self._tls_begun = tls_begun
        self.saw_cr = False  # whether the client has ever sent a CR
        self._socket = sock
        self._waits = waits_on(sock)
        self._write_seconds = write_seconds
        self._in = bytearray()
        self._out = bytearray()
        self._sleep = sleep
        self._lines = 0  # read since the client was last waited for

    @property
    def tls_version(self) -> Optional[str]:
        """ "TLSv1.3" and so on, or None without TLS."""
        return self._socket.version() if isinstance(self._socket, ssl.SSLSocket) else None

    def read_line(self, limit: int, seconds: float) -> bytes:
        """One line without its LF or CRLF.

        `limit` counts octets with the line end; `seconds` is for the whole
        line, however slowly it drips.  Raises LineTooLong, Closed, TimedOut.
        """
        self._lines += 1
        if self._lines > _LINES_AT_ONCE:
            self._lines = 0
            self._sleep(_REST)
        deadline = time.monotonic() + seconds
        searched = 0
        while True:
            end = self._in.find(b"\n", searched)
            if end >= limit or (end < 0 and len(self._in) > limit):
                self._drop_line(deadline)
                raise LineTooLong
            if end >= 0:
                line = bytes(self._in[:end])
                del self._in[: end + 1]
                return line[:-1] if line.endswith(b"\r") else line
            searched = len(self._in)
            self._in += self._receive(deadline)

    def _drop_line(self, deadline: float) -> None:
        while True:
            end = self._in.find(b"\n")
            if end >= 0:
                del self._in[: end + 1]
                return
            self._in.clear()
            self._in += self._receive(deadline)

    def read_some(self, seconds: float) -> bytes:
        """What has come in: at least one octet, at most about 64 KiB."""
        if self._in:
            data = bytes(self._in)
            self._in.clear()
            return data
        return self._receive(time.monotonic() + seconds)

    def unread(self, data: bytes) -> None:
        """Put octets back in front of what is read next."""
        self._in[:0] = data

    def line_waiting(self) -> bool:
        """Whether a whole line is buffered: the client pipelines and needs no flush yet."""
        return b"\n" in self._in

    def write(self, data: bytes) -> None:
        """Collect output; it leaves with `flush`, or when enough has come together."""
        self._out += data
        if len(self._out) >= _WRITE_BUFFER:
            self.flush()

    def flush(self) -> None:
        if not self._out:
            return
        # A failed TLS send holds on to the buffer it was given.
        data, self._out = self._out, bytearray()
        try:
            self._waits.send(data, self._write_seconds)
        except (socket.timeout, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise TimedOut from None
        except (OSError, ValueError) as error:
            raise Closed(str(error)) from None

    def start_tls(self, context: ssl.SSLContext, seconds: float) -> None:
        """Do the server's TLS handshake; Injection if the client sent anything ahead of it."""
        self.flush()
        if self._in:
            raise Injection
        try:
            # Ours before the handshake begins, so that interrupt and cut reach it.
            self._socket = context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._waits = waits_on(self._socket)
            self._waits.handshake(self._socket, seconds)
        except (socket.timeout, ssl.SSLWantReadError):
            raise TimedOut("no TLS handshake in time") from None
        except (OSError, ValueError) as error:
            raise Closed(getattr(error, "reason", None) or str(error) or "connection lost") from None
        if self._tls_begun is not None:
            self._tls_begun(self)

    def receive_exactly(self, count: int, deadline: float) -> bytes:
        """`count` octets from the socket, and not one beyond them: TLS may begin there.

        `deadline` is by time.monotonic().  Nothing may have been read before.  Raises Closed, TimedOut.
        """
        data = b""
        while len(data) < count:
            data += self._receive(deadline, count - len(data))
        self.saw_cr = False  # the header came from a proxy, not from the client
        return data

    def first_octet(self, seconds: float) -> bytes:
        """What the client sends first, left where it is; b"" if nothing comes in time.  Closed."""
        try:
            return self._waits.receive(1, time.monotonic() + seconds, socket.MSG_PEEK)
        except socket.timeout:
            return b""
        except OSError as error:
            raise Closed(str(error)) from None

    def hung_up(self) -> bool:
        """Whether the client has ended its side, as far as the system knows; nothing is waited for."""
        if not hasattr(select, "poll"):
            return self._is_at_end()
        poll = select.poll()
        # Without POLLRDHUP (Linux only) the end shows as POLLHUP, which is always reported.
        poll.register(self._socket, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))

    def _is_at_end(self) -> bool:
        """As `hung_up`, on Windows: the end shows only behind what was sent before it, which is kept for later."""
        while len(self._in) < _CHUNK:
            try:
                data = self._waits.receive_now(_CHUNK)
            except (OSError, ValueError):
                return True
            if not data:
                return data is not None
            self.saw_cr = self.saw_cr or b"\r" in data
            self._in += data
        return False

    def interrupt(self) -> None:
        """Wake a reader from another thread: it sees the end of the client's data."""
        self._waits.end()

    def cut(self) -> None:
        """From another thread: end the connection while its session runs; every call fails from now on."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._waits.end()

    def close(self) -> None:
        with contextlib.suppress(WireError):
            self.flush()
        with contextlib.suppress(OSError):
            self._socket.close()

    def _receive(self, deadline: float, most: int = _CHUNK) -> bytes:
        self.flush()
        self._lines = 0
        try:
            data = self._waits.receive(most, deadline)
        except socket.timeout:
            raise TimedOut from None
        except (OSError, ValueError) as error:
            raise Closed(str(error)) from None
        if not data:
            raise Closed
        self.saw_cr = self.saw_cr or b"\r" in data
        return data
