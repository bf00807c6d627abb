"""The clients of the status port.  Slow ones cannot keep a probe from its answer."""

from __future__ import annotations

import threading
from typing import Dict, Optional, Sequence

from ..server.client import Client
from ..server.connections import Connections
from ..system.networks import Network

# From this many clients on, each further one makes room: the one whose turn it has been for longest is cut.
_COMFORTABLE = 16

# ... and from this many on it is refused: so many requests are being answered, or their clients are just being cut.
_MOST = 64


class Visitors(Connections):
    """As Connections, but a full house turns away those who keep it waiting, and not who comes."""

    def __init__(self, allowed: Optional[Sequence[Network]] = None):
        """`allowed` may connect, None for all."""
        super().__init__(allowed=allowed)
        self._turn_lock = threading.Lock()
        self._waited_for: Dict[Client, None] = {}  # it is their turn to send or to take something; the longest first

    def enter(self, client: Client) -> str:
        if len(self) >= _MOST:
            return f"{_MOST} clients are at the status port"
        refusal = super().enter(client)
        if not refusal:
            if len(self) > _COMFORTABLE:
                self._cut_one()
            self.wait_for(client)
        return refusal

    def leave(self, client: Client) -> None:
        self.attend_to(client)
        super().leave(client)

    def wait_for(self, client: Client) -> None:
        """It is the client's turn: to send a request, or to take the response."""
        with self._turn_lock:
            self._waited_for.pop(client, None)
            self._waited_for[client] = None

    def attend_to(self, client: Client) -> None:
        """It is our turn: the request is complete."""
        with self._turn_lock:
            self._waited_for.pop(client, None)

    def _cut_one(self) -> None:
        with self._turn_lock:
            slowest = next(iter(self._waited_for), None)
            self._waited_for.pop(slowest, None)  # type: ignore[arg-type]
        if slowest is not None:
            slowest.connection.cut()
