"""The receivers as the main process sees them: it hands clients to them, hears their reports, and replaces them."""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import math
import os
import socket
import sys
import threading
import time
import zlib
from typing import Any, Callable, Counter, Deque, List, Mapping, Optional, Tuple

from ..server.connections import Connections
from ..system import groupwriter, log
from ..system.networks import client_network, is_loopback
from ..system.threads import survive
from . import records
from .channel import Channel, Message
from .forker import Forker, Work, kill
from .words import Report, Task

logger = log.get("receivers")

# More do not bring more: the main process writes the log of all, and delivers.
_MOST = 4

# Seconds before a receiver that ended soon is replaced, doubled for each further one; and for how long one must have
# worked to be replaced at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_LONG = 60.0

# A thread that takes so many seconds for one report hangs in it, as if nobody takes what is written to the log.
_HANGING = 2.0

# Seconds for which reports are left to gather after some were heard, so that one write to the log is enough for many.
_GATHERING = 0.005

# How long a reload waits for receivers to have it, seconds: one that hangs must not hold up the main process.
_RELOAD_SECONDS = 5.0


def possible_number(wanted: Optional[int]) -> int:
    """How many there are to be, None for as many as processors; 0 where no process can be given a connection."""
    if sys.platform == "win32" or not hasattr(os, "sched_getaffinity"):
        return 0
    if wanted is not None:
        return wanted
    processors = len(os.sched_getaffinity(0))
    return min(processors, _MOST) if processors > 1 else 0


def _bind(pid: int, place: int) -> None:
    """Let a receiver run on one processor only, another one for each place.

    Its threads take turns at the interpreter.  On several processors each system call of one wakes another that wants
    the interpreter, and both wait for each other; on one processor it goes on at once, in half the time.
    """
    if sys.platform != "win32" and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):  # it has ended, or this is not allowed
            processors = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(pid, {processors[place % len(processors)]})


class _Receiver:
    """One of them, from its start to its end."""

    def __init__(self, place: int, channel: Channel):
        self.place = place
        self.channel = channel
        self.pid = 0  # until it is ready
        self.clients: Counter[str] = collections.Counter()  # handed over, and not left yet: by address
        self.cut = 0  # connections, at the stop
        self.batches = channel.batches()
        self.reports: Deque[Message] = collections.deque()  # those of a batch that are still to be heard
        self.hearer = threading.current_thread()
        self.hears_since = math.inf  # monotonic: when its hearer began with the present report
        self.reloaded = threading.Event()
        self.ended = threading.Event()

    def receive(self) -> bool:
        """Wait for more reports; False if none will come."""
        batch = next(self.batches, None)
        self.reports.extend(message for message, _ in batch or ())
        return batch is not None


class Receivers:
    """Any thread may hand clients over and tell them something; one starts and stops them."""

    def __init__(
        self,
        number: int,
        prepare: Callable[[], Work],
        connections: Connections,
        reports: Mapping[Report, Callable[..., object]],
        find_missed: Callable[[], object],
    ):
        """`prepare`: as in Forker.  `reports` are called with the values of what is reported.

        `find_missed` is called after one has ended: it may have accepted a message and not reported it.
        """
        self._number = number
        self._forker = Forker(prepare)
        self._connections = connections
        self._reports = {**reports, Report.RECORD: records.write}
        self._find_missed = find_missed
        self._lock = threading.Lock()
        self._receivers: List[Optional[_Receiver]] = [None] * number
        self._turns = itertools.count()
        self._config: Tuple[str, ...] = ()  # the values of Task.RELOAD, once there was a reload
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to make them.  There may be no other thread yet."""
        if not self._number:
            return
        self._forker.start()
        for place in range(self._number):
            self._make_keeper(place).start()

    def _make_keeper(self, place: int, receiver: Optional[_Receiver] = None) -> threading.Thread:
        return threading.Thread(target=self._keep, args=(place, receiver), name=f"receiver {place + 1}", daemon=True)

    def hand_over(self, index: int, sock: socket.socket, peer: str, port: int, proxy: bool) -> bool:
        """Give a client of the config's listener of this index to a receiver; False if none takes it.

        The arguments are as in `Task.SERVE`.
        """
        receiver = self._choose(peer)
        if receiver is None or self._connections.enter_elsewhere(peer):
            return False
        with self._lock:
            receiver.clients[peer] += 1
        if receiver.channel.send_with(sock, Task.SERVE, index, peer, port, proxy):
            return True
        self._leave(receiver, peer)
        return False

    def _choose(self, peer: str) -> Optional[_Receiver]:
        """The same one for all connections of a client, so that its limits are exact.

        Who stands for many clients has no limits, and goes to each in turn.
        """
        if not self._number:
            return None
        is_many = is_loopback(peer) or self._connections.is_proxy(peer)
        turn = next(self._turns) if is_many else zlib.crc32(client_network(peer).encode())
        receiver = self._receivers[turn % self._number]
        return receiver if receiver is not None and receiver.pid else None

    def tell(self, task: Task, *values: Any) -> None:
        """Tell all of them."""
        for receiver in self._running():
            receiver.channel.send(task, *values)

    def _running(self) -> List[_Receiver]:
        return [receiver for receiver in self._receivers if receiver is not None]

    def reload(self, path: str, content: bytes) -> None:
        """The config was reloaded: when this returns, each receiver has it, too, unless it hangs.

        They do not read the file: it may be another one by then, or a broken one when a later receiver is made.
        """
        self._config = (path, content.decode("latin-1"))
        running = self._running()
        for receiver in running:
            receiver.reloaded.clear()
            receiver.channel.send(Task.RELOAD, *self._config)
        deadline = time.monotonic() + _RELOAD_SECONDS
        for receiver in running:
            receiver.reloaded.wait(max(0.0, deadline - time.monotonic()))

    def tick(self) -> None:
        """To be called now and then: what hangs in one report, as in the log, must not hold up all others."""
        for receiver in self._running():
            with self._lock:
                if time.monotonic() - receiver.hears_since > _HANGING:
                    thread = self._make_keeper(receiver.place, receiver)
                    thread.start()
                    receiver.hearer, receiver.hears_since = thread, math.inf

    def ask_stop(self, seconds: float) -> None:
        """Have them end their sessions within so many seconds, and themselves."""
        self._stopping.set()
        self.tell(Task.STOP, seconds)

    def stop(self, deadline: float) -> int:
        """Wait for their end after `ask_stop`, until `deadline` (monotonic); how many connections were cut.

        One that hangs is killed: it must not hold the lock of the state directory any longer.
        """
        running = self._running()
        for receiver in running:
            if not receiver.ended.wait(max(0.0, deadline - time.monotonic())) and receiver.pid:
                kill(receiver.pid)
            receiver.channel.end()
        self._forker.stop(max(0.1, deadline - time.monotonic()))
        return sum(receiver.cut for receiver in running)

    # In the thread of each place.

    def _keep(self, place: int, receiver: Optional[_Receiver]) -> None:
        """Have a receiver in a place, one after the other; the first one may be there already."""
        pause = 0.0
        while receiver is not None or not self._stopping.wait(pause):
            begun = time.monotonic()
            try:
                receiver = receiver or self._begin(place)
                if not self._hear_all(receiver):
                    return
                ended, receiver = receiver, None
                self._end(ended)
            except OSError as error:
                logger.error(
                    "no process can be started that receives mail: %s. The main process receives it; restart the "
                    "service when there is time.",
                    error.strerror or error,
                )
                pause = _LONGEST_PAUSE
                continue
            is_old = time.monotonic() - begun > _LONG
            pause = 0.0 if is_old else min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

    def _begin(self, place: int) -> _Receiver:
        receiver = self._receivers[place] = _Receiver(place, Channel(self._forker.make()))
        return receiver

    def _hear_all(self, receiver: _Receiver) -> bool:
        """Hear what a receiver reports, to its end; False if another thread does that by now."""
        while receiver.reports or receiver.receive():
            with groupwriter.together():
                while receiver.reports and self._is_hearer(receiver, time.monotonic()):
                    report, *values = receiver.reports.popleft()
                    survive(functools.partial(self._hear, receiver, report, values), "receiver")
            if not self._is_hearer(receiver, math.inf):
                return False
            self._stopping.wait(_GATHERING)
        return True

    def _is_hearer(self, receiver: _Receiver, since: float) -> bool:
        """Whether this thread hears it still; if so, it begins with a report now, or waits (inf)."""
        with self._lock:
            if receiver.hearer is not threading.current_thread():
                return False
            receiver.hears_since = since
            return True

    def _end(self, receiver: _Receiver) -> None:
        self._receivers[receiver.place] = None
        with self._lock:
            left, receiver.clients = receiver.clients, collections.Counter()
        for peer in left.elements():
            self._connections.leave_elsewhere(peer)
        receiver.reloaded.set()
        receiver.ended.set()
        receiver.channel.close()
        if not self._stopping.is_set():
            survive(self._find_missed, "courier")
            logger.warning(
                "a process that receives mail (pid %d) has ended unexpectedly, and so have its %d sessions; clients "
                "try again. Another one takes its place.",
                receiver.pid,
                sum(left.values()),
            )

    def _hear(self, receiver: _Receiver, report: str, values: List[Any]) -> None:
        if report == Report.READY:
            (pid,) = values
            _bind(pid, receiver.place)  # before its first thread, which is for its first client
            if self._config:
                receiver.channel.send(Task.RELOAD, *self._config)
            receiver.pid = pid  # from now on clients are handed to it
        elif report == Report.LEFT:
            self._leave(receiver, *values)
        elif report == Report.RELOADED:
            receiver.reloaded.set()
        elif report == Report.STOPPED:
            (receiver.cut,) = values
        else:
            self._reports[Report(report)](*values)

    def _leave(self, receiver: _Receiver, peer: str) -> None:
        with self._lock:
            here = receiver.clients[peer]
            is_known = here > 0
            if here > 1:
                receiver.clients[peer] = here - 1
            else:
                del receiver.clients[peer]  # there are more addresses than memory
        if is_known:
            self._connections.leave_elsewhere(peer)
