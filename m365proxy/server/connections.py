"""All connected clients: how many there are, from where, and how an orderly stop ends them."""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, Mapping, Optional, Sequence, Set

from ..system import log
from ..system.networks import Network, client_network, is_loopback, within
from .arrivals import Arrivals
from .client import Client
from .quirks import Quirks

logger = log.get("server")

# Between two lines about refused connections of one client (seconds), and how many clients have such a line at once:
# a flood must not fill the log, and one client that comes again and again must not hide the others.
_REFUSAL_LINES = 10.0
_REFUSED_CLIENTS = 8

# Between two attempts to wake sessions during a stop (seconds).
_WAKE_AGAIN = 0.1


class Connections:
    """The clients of all listeners.  May be called from any thread."""

    def __init__(
        self,
        total: int = 500,
        per_client: int = 100,
        proxies: Sequence[Network] = (),
        allowed: Optional[Sequence[Network]] = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        note_session: Callable[[str, str], object] = lambda protocol, peer: None,
        note_refused: Callable[[str], object] = lambda protocol: None,
        note_left: Callable[[Client], object] = lambda client: None,
        quirks: Optional[Quirks] = None,
    ):
        """At most `total` clients at once, and `per_client` connections from one address.

        `proxies` must say whose connection they pass on (PROXY protocol); `allowed` may connect, None for all.
        `note_session` and `note_refused` are told the protocol of each client that is let in, or turned away; the
        former its address, too.  `note_left` is told each client whose session has ended.
        """
        self.note_session = note_session
        self.note_refused = note_refused
        self._note_left = note_left
        self.set_networks(proxies, allowed)
        self.quirks = quirks or Quirks()
        self._arrivals = Arrivals(clock)
        self._total = total
        self._per_client = per_client
        self._clock = clock
        self._changed = threading.Condition()
        self._running: Set[Client] = set()
        self._elsewhere = 0  # clients that another process serves
        self._most = 0
        self._by_client: Dict[str, int] = {}
        self._stopping = False
        self._shut = ""  # why nobody is let in for now
        self._refusals = 0
        self._silent_until: Dict[str, float] = {}  # by client; "" is for lines about none

    def __len__(self) -> int:
        return len(self._running) + self._elsewhere

    def is_stopping(self) -> bool:
        """Whether sessions that can end early are to do so, between two commands."""
        return self._stopping or bool(self._shut)

    @property
    def is_shut(self) -> bool:
        return bool(self._shut)

    def shut(self, why: str, wake: str = "") -> None:
        """Let nobody in, and have sessions end as at a stop, until the reason is "" again; all without waiting.

        `wake`: the protocol whose sessions that wait for a command end now.
        """
        with self._changed:
            self._shut = why
            waiting = [client for client in self._running if not client.receiving]
        for client in waiting if why else ():
            if client.settings.protocol.name == wake:
                client.connection.interrupt()

    def set_networks(self, proxies: Sequence[Network], allowed: Optional[Sequence[Network]]) -> None:
        """Exchange them while running; they are valid from the next connection on."""
        self._proxies = proxies
        self._allowed = allowed

    def is_proxy(self, peer: str) -> bool:
        return within(peer, self._proxies)

    def may_connect(self, peer: str) -> bool:
        return self._allowed is None or within(peer, self._allowed)

    def enter(self, client: Client) -> str:
        """Count a client in; returns why it must not come in, or ""."""
        with self._changed:
            refusal = self._enter(client.peer)
            if not refusal:
                self._running.add(client)
                self._most = max(self._most, len(self))
        return refusal

    def enter_elsewhere(self, peer: str) -> str:
        """Count a client in that another process is to serve; returns why it must not come in, or ""."""
        with self._changed:
            refusal = self._enter(peer)
            if not refusal:
                self._elsewhere += 1
                self._most = max(self._most, len(self))
        return refusal

    def leave_elsewhere(self, peer: str) -> None:
        """Count a client out that another process has served."""
        with self._changed:
            self._elsewhere -= 1
            self._count_out(peer)

    def _enter(self, peer: str) -> str:
        if self._stopping:
            return "the program is being stopped"
        if self._shut:
            return self._shut
        if len(self) >= self._total:
            return f"{self._total} connections are open (limits.connections)"
        return self._count_in(peer)

    def take_most(self) -> int:
        """The largest number that was open at once since the last call."""
        with self._changed:
            most, self._most = self._most, len(self)
        return most

    def rename(self, client: Client, peer: str) -> str:
        """Count a client under the address that its proxy gave; returns why it must not come in, or ""."""
        with self._changed:
            refusal = self._count_in(peer)
            if not refusal:
                self._count_out(client.peer)
                client.connection.peer = peer
        return refusal

    def greeting_pause(self, peer: str) -> float:
        """Seconds a client has to wait for its greeting; above 0 if too many of its connections brought nothing."""
        pause = self._arrivals.pause(client_network(peer))
        if pause:
            self.log_refusal(
                f"connections from {peer} have to wait for the greeting: too many ended without a login or a message"
            )
        return pause

    def leave(self, client: Client) -> None:
        """Count a client out; nothing happens if it is out already."""
        with self._changed:
            if client not in self._running:
                return
            self._running.remove(client)
            self._count_out(client.peer)
            self._changed.notify_all()
        self._note_left(client)
        if not (client.made_progress or self._stands_for_many(client.peer)):
            self._arrivals.note_idle(client_network(client.peer))

    def _count_in(self, peer: str) -> str:
        network = client_network(peer)
        here = self._by_client.get(network, 0)
        if here >= self._per_client and not self._stands_for_many(peer):
            return f"it has {here} connections open (limits.connections_per_client)"
        self._by_client[network] = here + 1
        return ""

    def _stands_for_many(self, peer: str) -> bool:
        """Whether this address has many clients behind it, and must not be limited like one."""
        return is_loopback(peer) or self.is_proxy(peer)

    def _count_out(self, peer: str) -> None:
        network = client_network(peer)
        here = self._by_client[network] - 1
        if here:
            self._by_client[network] = here
        else:
            del self._by_client[network]

    def log_refusal(self, what: str, peer: str = "", step: Optional[Mapping[str, object]] = None) -> None:
        """Log a refusal, but only one in ten seconds for each client, and for a few clients only.

        The line says how many were left out before it.  `step`: as `events.step` makes it.
        """
        who = client_network(peer)
        with self._changed:
            now = self._clock()
            self._refusals += 1
            self._silent_until = {other: end for other, end in self._silent_until.items() if now < end}
            if who in self._silent_until or len(self._silent_until) >= _REFUSED_CLIENTS:
                return
            self._silent_until[who] = now + _REFUSAL_LINES
            silent, self._refusals = self._refusals - 1, 0
        logger.warning("%s%s", what, f" ({silent} more before this one)" if silent else "", extra=step)

    def stop(self, seconds: float) -> int:
        """End all sessions: idle ones now, those that receive a message after it.

        Close the listeners first.  Waits up to `seconds`; returns how many
        connections had to be cut.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
        while True:
            with self._changed:
                running = list(self._running)
            remaining = deadline - time.monotonic()
            if not running or remaining <= 0:
                break
            for client in running:
                if not client.receiving:
                    client.connection.interrupt()
            with self._changed:
                if len(self._running) == len(running):
                    self._changed.wait(min(_WAKE_AGAIN, remaining))
        for client in running:
            client.connection.cut()
        return len(running)
