"""A small process that forks the receivers.

A process with threads cannot be forked safely, and the main process has many.  So it forks this one before its first,
and asks it for each receiver.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import signal
import socket
import struct
import sys
import threading
from typing import Callable, Optional

from ..system import log

# What is for the main process: it tells its receivers.
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")

# How long the main process waits for a receiver that hangs to take a message: a second, as a timeval.
_PATIENCE = struct.pack("ll", 1, 0)


# What a receiver does, with its end of a channel; the process ends with it.
Work = Callable[[socket.socket], None]


class Forker:
    """The main process's side.  Once it is started, any thread may ask for a receiver."""

    def __init__(self, prepare: Callable[[], Work]):
        """`prepare` is called once in the small process: what all receivers have in common is in memory once."""
        self._prepare = prepare
        self._socket: Optional[socket.socket] = None

    def start(self) -> None:
        """Fork it.  OSError if the system has no process left.  There may be no other thread yet."""
        assert threading.active_count() == 1
        if sys.platform == "win32":
            raise OSError
        ours, theirs = socket.socketpair()
        gc.collect()
        gc.freeze()  # the collectors of all these processes would touch, and so copy, what they share
        if os.fork() == 0:
            ours.close()
            _end_with(lambda: self._serve(theirs))
        theirs.close()
        self._socket = ours

    def make(self) -> socket.socket:
        """The main process's end of the channel to a new receiver.  OSError if there can be none."""
        if sys.platform == "win32" or self._socket is None:
            raise OSError
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        with theirs:
            rights = array.array("i", [theirs.fileno()])
            try:
                self._socket.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError:
                ours.close()
                raise
        return ours

    def stop(self, seconds: float) -> None:
        """End it, and wait for that, for so long at most; what it has forked goes on."""
        if self._socket is None:
            return
        with self._socket as sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(seconds)
            sock.recv(1)

    def _serve(self, control: socket.socket) -> None:
        """What the small process does until the main process is gone."""
        if sys.platform == "win32":
            return
        for name in _SIGNALS:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets those that have ended
        work = self._prepare()
        log.let_go()
        while True:
            octet, attached, _, _ = control.recvmsg(1, socket.CMSG_SPACE(4))
            if not octet:
                return
            # What cannot be forked is closed, which tells the main process.
            with socket.socket(fileno=array.array("i", attached[0][2])[0]) as channel, contextlib.suppress(OSError):
                if os.fork() == 0:
                    control.close()
                    _end_with(lambda: work(channel))


def kill(pid: int) -> None:
    """End a process that was forked, whatever it does."""
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.kill(pid, signal.SIGKILL)


def _end_with(work: Callable[[], None]) -> None:
    """Do the work of a process that was forked, and end without what the main process would do at its end."""
    try:
        work()
    finally:
        os._exit(0)
