"""How long calls on a client's socket wait.

Every system call lets the interpreter's lock go, and with many sessions another
thread takes it.  With Python's own time limits each recv and send makes two
more: a poll before it, and an ioctl whenever the limit changes.  So where it can,
the kernel keeps the limit.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import socket
import ssl
import struct
import time
from typing import Callable, Optional, Union

# What a call raises whose limit is over.
_IN_VAIN = (BlockingIOError, socket.timeout, ssl.SSLWantReadError)

# On Windows it is not certain that ending a socket's input ends a wait for it: so often (seconds) a reader looks.
_LOOK = 1.0

# Send what the system has room for, and do not wait; nothing on Windows.
_NO_WAIT = getattr(socket, "MSG_DONTWAIT", 0)

# struct timeval, by its size: on a machine of 32 bits, times may have 64.
_TIMEVALS = {8: "=ii", 16: "=qq"}


class Waits:
    """Calls on a socket with time limits that Python keeps: with TLS, and everywhere on Windows.

    OpenSSL has to be told by Python that a wait is over: with the kernel's limit
    it would begin anew, for ever.
    """

    def __init__(self, sock: socket.socket, clock: Callable[[], float] = time.monotonic, look: float = math.inf):
        """`look`: after so many seconds at most a wait notices that it was ended."""
        self._socket = sock
        self._clock = clock
        self._look = look
        self._ended = False
        self._limit = 0.0  # seconds; 0: to be set before the next wait

    def receive(self, most: int, deadline: float, flags: int = 0) -> bytes:
        """What has come in, at most so many octets; b"" at the end.  `deadline` is by the clock.

        Raises socket.timeout, OSError.
        """
        while True:
            remaining = deadline - self._clock()
            if remaining <= 0:
                raise socket.timeout
            remaining = min(remaining, self._look)
            if not 0 < self._limit <= remaining:  # one that is too short costs no more than another call
                # Whole seconds: so it need not be set anew for the next command, which may take as long.
                self._limit = remaining // 1 if remaining > 1 else remaining
                self._set_limit(self._limit)
            try:
                return self._socket.recv(most, flags)
            except _IN_VAIN:
                if self._ended:
                    return b""
                self._limit = 0.0  # the next wait is for all that remains

    def handshake(self, sock: ssl.SSLSocket, seconds: float) -> None:
        """Do the server's part of TLS's beginning.  Raises socket.timeout, OSError."""
        deadline = self._clock() + seconds
        while True:
            remaining = deadline - self._clock()
            if remaining <= 0:
                raise socket.timeout
            sock.settimeout(min(remaining, self._look))
            try:
                return sock.do_handshake()
            except _IN_VAIN:
                if self._ended:
                    raise ConnectionAbortedError("ended while TLS began") from None

    def end(self) -> None:
        """From another thread: who waits to receive sees the end of the client's data."""
        self._ended = True
        # SSLSocket.shutdown would drop the TLS layer that the reader is using.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def receive_now(self, most: int) -> Optional[bytes]:
        """What has come in already, at most so many octets; None if nothing has, b"" at the end.  Raises OSError."""
        self._limit = 0.0
        self._socket.setblocking(False)
        try:
            return self._socket.recv(most)
        except _IN_VAIN:
            return None
        finally:
            self._socket.setblocking(True)

    def send(self, data: Union[bytes, bytearray], seconds: float) -> None:
        """Send all of it; the limit is for the whole.  Raises socket.timeout, OSError."""
        if self._limit != seconds:
            self._limit = seconds
            self._set_limit(seconds)
        self._socket.sendall(data)

    def _set_limit(self, seconds: float) -> None:
        self._socket.settimeout(seconds)


class KernelWaits(Waits):
    """The kernel keeps the time limits (SO_RCVTIMEO); for plain sockets, which must block."""

    def send(self, data: Union[bytes, bytearray], seconds: float) -> None:
        try:
            sent = self._socket.send(data, _NO_WAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):  # as nearly always: the system buffers far more than a reply
            return
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(memoryview(data)[sent:])
        finally:
            self._socket.settimeout(None)

    def _set_limit(self, seconds: float) -> None:
        # Not 0, which would be for ever.  A signal starts a wait anew; the system gives them to the main thread.
        whole, part = int(seconds), max(1, int(seconds % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack(_timeval(), whole, part))


def waits_on(sock: socket.socket) -> Waits:
    """The cheapest there is for this socket."""
    if os.name != "posix":
        return Waits(sock, look=_LOOK)
    return Waits(sock) if isinstance(sock, ssl.SSLSocket) else KernelWaits(sock)


@functools.lru_cache(None)
def _timeval() -> str:
    """How struct timeval is packed here."""
    with socket.socket() as sock:
        return _TIMEVALS[len(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))]
