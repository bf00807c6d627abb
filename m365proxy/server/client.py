"""A client of a listener, and how the listener is set up: all that a session is given of its surroundings."""

from __future__ import annotations

import dataclasses
import ssl
from typing import Callable, Optional, Protocol

from ..system.choices import TlsMode
from .clienthello import ClientHellos
from .connection import Connection


@dataclasses.dataclass(frozen=True)
class ServedProtocol:
    """What a listener knows about the protocol it serves: its name, and its words for a client without a session."""

    name: str  # in log lines and names of threads: "smtp", "pop3"
    busy: bytes  # the line for a client that cannot come in now: too many are here, or nobody is let in
    not_allowed: bytes  # the line for an address outside allowed_networks


@dataclasses.dataclass(frozen=True)
class ListenerSettings:
    """How a listener treats its clients, the same for all of them."""

    protocol: ServedProtocol
    tls_mode: TlsMode = TlsMode.NONE
    tls_required: bool = False  # before TLS has begun a client can do nothing else of use
    handshake_seconds: float = 30.0  # for one TLS handshake
    client_hellos: Optional[ClientHellos] = None  # the clients that may begin TLS at once on a STARTTLS port
    lf_only_clients: bool = False  # whether a client that never sends CR may end a message with LF.LF


class Client:
    """One client, from its connection to its end.  Belongs to the thread that serves it."""

    def __init__(
        self,
        connection: Connection,
        settings: ListenerSettings,
        tls: Optional[ssl.SSLContext] = None,
        is_stopping: Callable[[], bool] = lambda: False,
        port: int = 0,
    ):
        """`tls` is the certificate that was configured when the client connected, None without one.

        `port`: the one it connected to.
        """
        self.connection = connection
        self.settings = settings
        self.tls = tls
        self.port = port
        self.origin = connection.peer  # the address that the connection came from: behind a proxy, the proxy's
        self.receiving = False  # a message is coming in: an orderly stop waits for its end
        self._is_stopping = is_stopping
        self._made_progress = False

    @property
    def peer(self) -> str:
        """The client's normalised address; behind a proxy, the one that the proxy gave."""
        return self.connection.peer

    @property
    def starttls(self) -> Optional[ssl.SSLContext]:
        """What STARTTLS or STLS may begin TLS with, None where they are not offered."""
        return self.tls if self.settings.tls_mode is TlsMode.STARTTLS else None

    @property
    def stopping(self) -> bool:
        """Whether the program is being stopped: the session is to say so and end, between two commands."""
        return self._is_stopping()

    @property
    def made_progress(self) -> bool:
        """Whether the client has achieved something: a login, a message."""
        return self._made_progress

    def note_progress(self) -> None:
        self._made_progress = True


class Session(Protocol):
    """A conversation with one client."""

    def run(self) -> None:
        """Conduct it to its end; called once.  WireError if the connection broke."""
