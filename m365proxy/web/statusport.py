"""The status port: its listeners, opened and closed by the daemon.

Nothing of HTTP is imported before a port is opened: most installations have none.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Sequence

from ..errors import CannotCreate
from ..logins.guard import Guard
from ..monitoring.monitor import Monitor
from ..server.client import Client, ListenerSettings, ServedProtocol, Session
from ..server.listener import Listener
from ..system.choices import TlsMode
from ..system.networks import Network
from ..system.readiness import Readiness
from .visitors import Visitors

if TYPE_CHECKING:
    from .site import Site

_HANDSHAKE_SECONDS = 10.0


def _turned_away(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("ascii")


PROTOCOL = ServedProtocol(
    "status", busy=_turned_away("503 Service Unavailable"), not_allowed=_turned_away("403 Forbidden")
)


class Access(NamedTuple):
    """Who may read, and how.  Without TLS there is no password, as it could be read on the way."""

    tls: Optional[ssl.SSLContext] = None
    certificate: str = ""  # its file; the port may be asked by the names in it
    password: Optional[str] = None  # plain or hashed
    networks: Optional[Sequence[Network]] = None  # who may connect; None: everybody


class StatusPort:
    """Has no listeners before `open`; `close` ends its clients, too."""

    def __init__(
        self,
        monitor: Monitor,
        guard: Guard,
        program: str = "m365proxy",
        readiness: Callable[[], Readiness] = lambda: Readiness.READY,
    ):
        """`guard` makes guessing slow.  `program` starts this program in a shell; the page's commands begin so.

        `readiness`: as in Source.
        """
        self._readiness = readiness
        self.listeners: List[Listener] = []
        self._monitor = monitor
        self._guard = guard
        self._program = program
        self._site: Site
        self._access = Access()
        self._visitors = Visitors()

    def open(self, addresses: Sequence[str], port: int, access: Access) -> None:
        """Bind and listen.  InUse or CannotCreate; an address of IPv6 is left out if the machine has none."""
        from .site import Site
        from .source import Source

        self._site = Site(Source(self._monitor, self._program, readiness=self._readiness), self._guard)
        mode = TlsMode.NONE if access.tls is None else TlsMode.IMPLICIT
        settings = ListenerSettings(PROTOCOL, tls_mode=mode, handshake_seconds=_HANDSHAKE_SECONDS)
        for address in addresses:
            try:
                self.listeners.append(Listener(address, port, settings, self._session, self._visitors))
            except CannotCreate:
                if address != "::1" or not self.listeners:
                    raise
        self.set_access(access)

    def set_access(self, access: Access) -> None:
        """Exchange it while running, for the next connection; with or without TLS stays as it was at the start.

        Without a password or certificate, those of the last time stay.
        """
        if not self.listeners:
            return
        access = self._access = access._replace(
            certificate=access.certificate or self._access.certificate,
            password=access.password or self._access.password,
        )
        for listener in self.listeners:
            listener.tls = access.tls
        self._visitors.set_networks((), access.networks)
        self._site.set_access(access.certificate, access.password)

    def start(self) -> None:
        for listener in self.listeners:
            listener.start()

    def _session(self, client: Client) -> Session:
        from .session import WebSession

        return WebSession(client, self._site, self._visitors)

    def close(self) -> None:
        """Accept nothing more, and end what is open."""
        for listener in self.listeners:
            listener.close()
        self._visitors.stop(1.0)
