"""Messages between the main process and a receiver: lines of JSON through a pair of sockets."""

from __future__ import annotations

import array
import collections
import contextlib
import json
import os
import socket
import sys
import threading
from typing import Any, Deque, Iterator, List, Optional, Tuple

# What is read at once: octets, and descriptors.
_CHUNK = 64 * 1024
_DESCRIPTORS = 64

# A thread that finds so many messages unsent waits until they are: they must not fill the memory.
_WAITING = 500

# The first octet of a message that a descriptor comes with.
_WITH_DESCRIPTOR = b"+"

# A word, and its values.
Message = List[Any]

_encoder = json.JSONEncoder(separators=(",", ":"))
_decoder = json.JSONDecoder()  # json.loads would look for the encoding of each line


class Channel:
    """One end.  Any thread may send, one receives.  What the other end does not take any more is lost with it."""

    def __init__(self, sock: socket.socket):
        self._socket = sock
        self._unsent: Deque[bytes] = collections.deque()
        self._sending = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send a word and its values, in the order of the calls.

        Whoever comes while another thread is sending leaves it to that one, and need not wait.
        """
        self.add(*message)
        self._send_unless_another_does()

    def _send_unless_another_does(self) -> None:
        while self._unsent and self._sending.acquire(len(self._unsent) > _WAITING):
            try:
                self._send_all()
            finally:
                self._sending.release()

    def add(self, *message: Any) -> None:
        """Send this together with the next message: for what is in no hurry."""
        self._unsent.append(_encoder.encode(message).encode() + b"\n")

    def flush(self) -> None:
        """Return when all is sent that any thread has left to another one."""
        with self._sending:
            self._send_all()

    def _send_all(self) -> None:
        lines = [self._unsent.popleft() for _ in range(len(self._unsent))]
        if not lines:
            return
        with contextlib.suppress(OSError):
            self._socket.sendall(b"".join(lines))

    def send_with(self, sock: socket.socket, *message: Any) -> bool:
        """Send a word, its values and a socket, which stays open here too; False if it cannot be sent now."""
        line = _WITH_DESCRIPTOR + _encoder.encode(message).encode() + b"\n"
        with self._sending:
            try:
                self._send_all()
                self._attach(line, sock.fileno())
            except OSError:  # the other end hangs, or is gone
                return False
        self._send_unless_another_does()  # what came meanwhile was left to this thread
        return True

    def _attach(self, line: bytes, descriptor: int) -> None:
        if sys.platform == "win32":  # without sockets that take descriptors there are no receivers
            raise OSError
        rights = array.array("i", [descriptor])
        sent = self._socket.sendmsg([line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT)
        if sent < len(line):
            self._socket.sendall(line[sent:])

    def messages(self) -> Iterator[Tuple[Message, Optional[int]]]:
        """All messages until the other end is gone, and the descriptor that came with each.

        None came if the sender attached none, or if this process has no descriptor left: then the system drops it.
        """
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[List[Tuple[Message, Optional[int]]]]:
        """As `messages`, those together that were there already."""
        rest, descriptors = b"", collections.deque[int]()
        while True:
            data = self._receive(descriptors)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            yield [_message_of(line, descriptors) for line in lines]
        for descriptor in descriptors:
            os.close(descriptor)

    def _receive(self, descriptors: Deque[int]) -> bytes:
        """Octets, b"" at the end; descriptors come before the end of their message."""
        if sys.platform == "win32":
            raise OSError
        try:
            data, attached, _, _ = self._socket.recvmsg(_CHUNK, socket.CMSG_SPACE(4 * _DESCRIPTORS))
        except OSError:
            return b""
        for level, kind, content in attached:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.extend(array.array("i", content))
        return data

    def end(self) -> None:
        """Say nothing more: the other end sees the end, and may still send."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


def _message_of(line: bytes, descriptors: Deque[int]) -> Tuple[Message, Optional[int]]:
    if line.startswith(_WITH_DESCRIPTOR):
        return _decoder.decode(line[1:].decode()), descriptors.popleft() if descriptors else None
    return _decoder.decode(line.decode()), None
