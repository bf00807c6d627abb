"""The sessions of the clients of one port, whoever has accepted their connections."""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
import time
from typing import Callable, Mapping, Optional

from ..system import events, log
from ..system.choices import TlsMode
from ..system.networks import normalise_address
from . import clienthello, handshake, proxyprotocol
from .client import Client, ListenerSettings, Session
from .connection import Connection, TimedOut, WireError
from .connections import Connections
from .quirks import Habit
from .sessionthreads import SessionThreads
from .tls import OLD_VERSIONS

logger = log.get("server")

# Seconds a proxy has for its PROXY header, which it sends at once.
_HEADER_SECONDS = 5.0

# Why a client may not connect; `devices` knows it by these words.
NOT_ALLOWED = "it is not in allowed_networks"


class Sessions:
    """Conducts each client of a port from its PROXY header to its end, in a thread for itself.

    `make_session(client)` makes a session; its run() is called once.
    """

    def __init__(self, settings: ListenerSettings, make_session: Callable[[Client], Session], connections: Connections):
        self._settings = settings
        self._protocol = settings.protocol.name
        self._make_session = make_session
        self._connections = connections
        self._threads = SessionThreads(self._protocol)

    def begin(self, sock: socket.socket, peer: str, port: int, tls: Optional[ssl.SSLContext], proxy: bool) -> bool:
        """Begin the session of a client that connected to `port`, or turn it away.

        `proxy`: whether it has to send a PROXY header.  Whether it has entered `connections`, which it leaves again.
        """
        connection = Connection(sock, peer, tls_begun=self._note_old_tls)
        client = Client(connection, self._settings, tls, self._connections.is_stopping, port)
        refusal = self._connections.enter(client)
        has_entered = not refusal
        if has_entered:
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._threads.start(f"{self._protocol} {peer}", functools.partial(self._serve, client, proxy))
                return True
            except (RuntimeError, MemoryError, OSError) as error:  # no thread, no memory, or the client is gone
                self._connections.leave(client)
                refusal = str(error)
        self.log_refused(peer, refusal)
        self.turn_away(sock, self._settings.protocol.busy)
        return has_entered

    def close(self) -> None:
        """No client comes any more; running sessions go on."""
        self._threads.close()

    def turn_away(self, sock: socket.socket, line: bytes) -> None:
        """Say a line, if the client takes it at once, and end the connection."""
        with sock, contextlib.suppress(OSError):
            if self._settings.tls_mode is not TlsMode.IMPLICIT:
                sock.setblocking(False)
                sock.send(line)
            sock.shutdown(socket.SHUT_WR)

    def log_refused(self, peer: str, refusal: str, proxy: str = "") -> None:
        """Log that a client was turned away, and why; `proxy`: the one it came through."""
        self._connections.note_refused(self._protocol)
        who = f"{peer} through {proxy}" if proxy else peer
        extra: Optional[Mapping[str, object]] = None
        if not self._connections.is_shut:  # the disk of the event log may hang, and with it the thread that accepts
            extra = events.step("refused", service=self._protocol, client=peer, reason=refusal)
        self._connections.log_refusal(f"connection refused from {who}: {refusal}", peer, extra)

    def _serve(self, client: Client, proxy: bool) -> None:
        try:
            if proxy and not self._read_proxy_header(client):
                return
            self._connections.quirks.tell(client.peer, f"connected to port {client.port} ({self._protocol})")
            pause = self._connections.greeting_pause(client.peer)
            if pause:
                time.sleep(pause)
            tls_first = self._settings.tls_mode is TlsMode.IMPLICIT or self._begins_with_tls(client)
            if tls_first and not self._start_tls(client):
                return
            self._connections.note_session(self._protocol, client.peer)
            self._make_session(client).run()
        except WireError as error:
            logger.debug("%s connection from %s ended: %s", self._protocol, client.peer, handshake.reason(error))
        except Exception:  # the last resort of a session: it must not take the process along
            note_fault(self._protocol, client.peer)
        finally:
            if not client.made_progress:
                self._connections.quirks.tell(client.peer, "left without a login or a message")
            client.connection.close()
            self._connections.leave(client)

    def _read_proxy_header(self, client: Client) -> bool:
        """Read from a proxy whose connection it passes on; whether that client may come in.

        What a proxy does on its own account, or for a client whose address it
        does not know, is allowed if the proxy itself may connect.  It has no
        other right that goes by address.
        """
        proxy = client.peer
        deadline = time.monotonic() + _HEADER_SECONDS
        try:
            header = proxyprotocol.read(lambda count: client.connection.receive_exactly(count, deadline))
        except (proxyprotocol.Malformed, TimedOut) as error:
            reason = str(error) or "none arrived in time"
            self._connections.note_refused(self._protocol)
            self._connections.log_refusal(
                f"connection refused from {proxy}: its PROXY header is missing or wrong ({reason}); "
                "proxy_protocol_from is for proxies that send one"
            )
            return False
        source = normalise_address(header)
        refusal = self._connections.rename(client, source or f"proxy:{proxy}")
        line = self._settings.protocol.busy
        if not refusal and not self._connections.may_connect(source or proxy):
            refusal, line = NOT_ALLOWED, self._settings.protocol.not_allowed
        if refusal:
            self.log_refused(source or client.peer, refusal, proxy if source else "")
            if self._settings.tls_mode is not TlsMode.IMPLICIT:
                client.connection.write(line)
        return not refusal

    def _note_old_tls(self, connection: Connection) -> None:
        version = connection.tls_version
        if version in OLD_VERSIONS:
            self._connections.quirks.note(
                connection.peer,
                f"{version}, which is not secure; min_version allows it",
                logging.WARNING,
                Habit.OLD_TLS,
            )

    def _begins_with_tls(self, client: Client) -> bool:
        """Whether a client that is known for it begins TLS before the banner; only such clients are waited for."""
        hellos = self._settings.client_hellos
        if hellos is None or self._settings.tls_mode is not TlsMode.STARTTLS or client.tls is None:
            return False
        if not hellos.expected(client.peer):
            return False
        return client.connection.first_octet(clienthello.PATIENCE) == clienthello.FIRST_OCTET

    def _start_tls(self, client: Client) -> bool:
        """Do the handshake; False if there is no certificate.  WireError if it fails."""
        if client.tls is None:  # a reload took it away
            self._connections.note_refused(self._protocol)
            self._connections.log_refusal(
                f"connection refused from {client.peer}: port {client.port} is for TLS, and no tls_cert is configured"
            )
            return False
        try:
            client.connection.start_tls(client.tls, self._settings.handshake_seconds)
        except WireError as error:
            handshake.log_failure(self._protocol, client.peer, error, at_once=True)
            raise
        return True


def note_fault(protocol: str, peer: str) -> None:
    """One line for a fault that no session expected."""
    with contextlib.suppress(Exception):  # a log that fails must not keep the connection open
        logger.error("%s connection from %s ended by an error in this program", protocol, peer, exc_info=True)
