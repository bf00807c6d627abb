"""By which ways notices are sent, and how often until they arrive."""

from __future__ import annotations

import functools
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import ProxyError, Temporary
from ..system import log
from ..system.choices import Word
from ..system.outbound import Outbound
from ..system.threads import survive, try_start
from . import command, webhook
from .notice import Notice
from .snapshot import Snapshot

logger = log.get("warnings")

# Seconds before each try of a way.
WAITS = (0.0, 60.0, 300.0, 900.0)

# Seconds that a stop waits for a way that is being tried.
_STOP_SECONDS = 1.0

SendMail = Callable[[str, str, str, str, threading.Event], None]


class Way(Word):
    """A way to send notices by; its word is the option that configures it."""

    MAIL = "notify"
    URL = "notify_url"
    COMMAND = "notify_command"


class Ways(NamedTuple):
    """What the config says; empty where there is none."""

    address: str
    url: str  # a secret
    command: Tuple[str, ...]


def senders(snapshot: Snapshot) -> List[str]:
    """The mailboxes that may send a notice: those without an error since they sent last, the latest first; then others.

    None while nothing can be sent at all.
    """
    if snapshot["paused"] or snapshot["sign_in"]["error"]:
        return []
    boxes = snapshot["mailboxes"]
    return sorted(
        boxes,
        key=lambda name: (
            boxes[name]["last_error_time"] > boxes[name]["last_delivery"],
            -boxes[name]["last_delivery"],
        ),
    )


class Notices:
    """Sends notices by all ways that are configured, each in a thread of its own.  Any thread may call."""

    def __init__(
        self, ways: Callable[[], Ways], send_mail: SendMail, outbound: Outbound, waits: Sequence[float] = WAITS
    ):
        """`ways`: of the present config.

        `send_mail(mailbox, to, subject, text, stopped)` returns once the mail was
        sent, or raises a ProxyError or OSError, as soon as `stopped` is set.
        `waits`: seconds before each try.
        """
        self._ways = ways
        self._send_mail = send_mail
        self._outbound = outbound
        self._waits = waits
        self._stopped = threading.Event()
        self._latest: Optional[Notice] = None
        self._turns = {way: threading.Lock() for way in Way}  # one try of a way at a time
        self._threads: List[threading.Thread] = []

    def send(self, notice: Notice, snapshot: Callable[[], Snapshot], settle: Callable[[Notice, bool], None]) -> None:
        """Send a notice in the background, in the place of an earlier one that has not arrived yet.

        `settle(notice, has_arrived)` is called as soon as one way has worked, or when all were given up.
        """
        self._latest = notice
        sending = _Sending(notice, settle)
        tries = self._tries(notice, snapshot)
        sending.ways = len(tries)
        if not tries:
            settle(notice, True)
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for way, attempt in tries.items():
            action = functools.partial(self._see_through, way, attempt, sending)
            thread = threading.Thread(target=survive, args=(action, "notice"), name="notice", daemon=True)
            if try_start(thread):
                self._threads.append(thread)
            else:
                sending.end(has_arrived=False)

    def test(self, snapshot: Callable[[], Snapshot]) -> Iterator[Tuple[Way, Callable[[], str]]]:
        """The ways configured, and what tries each: it returns how it was, or raises a ProxyError or OSError."""
        yield from self._tries(Notice((), is_test=True), snapshot).items()

    def stop(self) -> None:
        """Try nothing more.  A notice that has not arrived is not settled: the next run sends it."""
        self._stopped.set()
        end = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _tries(self, notice: Notice, snapshot: Callable[[], Snapshot]) -> Dict[Way, Callable[[], str]]:
        ways = self._ways()
        tries: Dict[Way, Callable[[], str]] = {}
        if ways.address:
            failed: List[str] = []  # mailboxes, by earlier tries
            tries[Way.MAIL] = lambda: self._mail(ways.address, notice, snapshot(), failed)
        if ways.url:
            tries[Way.URL] = lambda: webhook.post(self._outbound, ways.url, notice)
        if ways.command:
            tries[Way.COMMAND] = lambda: command.run(ways.command, notice, self._stopped)
        return tries

    def _mail(self, to: str, notice: Notice, snapshot: Snapshot, failed: List[str]) -> str:
        able = senders(snapshot)
        if not able:
            raise Temporary("No mailbox can send at present. `m365proxy status` shows why.")
        if set(able) <= set(failed):
            failed.clear()
        via = next(name for name in able if name not in failed)
        failed.append(via)
        self._send_mail(via, to, notice.title, notice.text, self._stopped)
        return f"sent to {to} through {via}"

    def _see_through(self, way: Way, attempt: Callable[[], str], sending: _Sending) -> None:
        has_arrived = False
        try:
            has_arrived = any(self._try(way, attempt, sending, wait) for wait in self._waits)
        finally:
            if has_arrived or self._is_current(sending):
                sending.end(has_arrived)

    def _is_current(self, sending: _Sending) -> bool:
        return not self._stopped.is_set() and self._latest is sending.notice

    def _try(self, way: Way, attempt: Callable[[], str], sending: _Sending, wait: float) -> bool:
        """Wait, and try a way once; whether it worked."""
        if self._stopped.wait(wait):
            return False
        with self._turns[way]:
            if not self._is_current(sending):
                return False
            try:
                said = attempt()
            except (ProxyError, OSError) as error:
                if not self._stopped.is_set():  # else it was cut off
                    logger.warning("%s: no notice: %s", way, getattr(error, "strerror", None) or error)
                return False
        logger.info("%s: notice %s", way, said)
        return True


class _Sending:
    """A notice on its ways."""

    def __init__(self, notice: Notice, settle: Callable[[Notice, bool], None]):
        self.notice = notice
        self.ways = 0  # that have not come to an end
        self._settle = settle
        self._lock = threading.Lock()
        self._has_arrived = False

    def end(self, has_arrived: bool) -> None:
        """A way has worked, or was given up."""
        with self._lock:
            self.ways -= 1
            is_first = has_arrived and not self._has_arrived
            self._has_arrived |= has_arrived
            is_lost = not self.ways and not self._has_arrived
        if is_lost:
            logger.error(
                "a notice has reached nobody: %s. See the lines above, and try the ways with "
                "`m365proxy test --notify`.",
                self.notice.title,
            )
        if is_first or is_lost:
            self._settle(self.notice, has_arrived)
