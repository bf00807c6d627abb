"""Listeners: each accepts clients at one address and port, and gives every client a thread of its own.

The accept thread of a Listener does nothing that can block.  A client's own
thread does everything that the client may make slow, the TLS handshake of
implicit TLS included.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import socketserver
import ssl
import threading
import time
from typing import Any, Callable, Optional, Tuple

from ..errors import CannotCreate, InUse, ProxyError
from ..system import events, log
from ..system.choices import TlsMode, listener_name
from ..system.networks import normalise_address
from . import clienthello, handshake, proxyprotocol
from .client import Client, ListenerSettings, Session
from .connection import Connection, TimedOut, WireError
from .connections import Connections
from .quirks import Habit
from .tls import OLD_VERSIONS

logger = log.get("server")

# Seconds a proxy has for its PROXY header, which it sends at once.
_HEADER_SECONDS = 5.0

# How long the accept thread rests when the system has no descriptor or memory left (seconds).
_SHORTAGE_PAUSE = 0.1

# Why a client may not connect; `devices` knows it by these words.
NOT_ALLOWED = "it is not in allowed_networks"

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener(socketserver.ThreadingTCPServer):
    """One bound address and port; every client gets a session in a daemon thread.

    `make_session(client)` makes a session; its run() is called once.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    # On Windows the option would let another program take the port over.
    allow_reuse_address = os.name == "posix"

    def __init__(
        self,
        address: str,
        port: int,
        settings: ListenerSettings,
        make_session: Callable[[Client], Session],
        connections: Connections,
        tls: Optional[ssl.SSLContext] = None,
    ):
        """Bind and listen; nothing is accepted before start().  Raises InUse or CannotCreate.

        `tls` may be exchanged while running; it is valid from the next connection on.
        """
        self.protocol = settings.protocol.name
        self.tls = tls
        self._settings = settings
        self._make_session = make_session
        self._connections = connections
        self._closing = threading.Event()
        self._thread: Optional[threading.Thread] = None
        try:
            found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = found[0]
            super().__init__(found[4], socketserver.BaseRequestHandler)  # type: ignore[arg-type]  # its own types know IPv4 only
        except OSError as error:
            raise bind_error(error, address, port) from None

    @property
    def port(self) -> int:
        """The port it is bound to, also if 0 was asked for."""
        port: int = self.server_address[1]
        return port

    @property
    def place(self) -> str:
        """ "smtp 127.0.0.1:2525", with the port it is bound to."""
        name = listener_name(self.protocol, self._settings.tls_mode)
        return f"{name} {_host_and_port(str(self.server_address[0]), self.port)}"

    @property
    def is_accepting(self) -> bool:
        """Whether clients are let in: it was started, and neither closed nor did its thread end."""
        return self._thread is not None and self._thread.is_alive() and not self._closing.is_set()

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            # Peers arrive in one spelling, and 0.0.0.0 can be bound beside ::.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        if exclusive is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        super().server_bind()

    def start(self) -> None:
        """Begin to accept, in a thread of its own."""
        name = f"accept {self.protocol} {self.port}"
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        """Accept until close(): trouble with one client must not shut out all others."""
        while not self._closing.is_set():
            try:
                self.serve_forever()
            except Exception as error:
                with contextlib.suppress(Exception):  # the log itself may be what fails
                    self._connections.log_refusal(f"cannot accept connections: {error!r}")
                self._closing.wait(_SHORTAGE_PAUSE)

    def close(self) -> None:
        """Accept nothing more; running sessions go on."""
        self._closing.set()
        if self._thread is not None:
            # Wakes the accept thread at once on Linux; elsewhere it looks up every half second.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.shutdown()
            self._thread.join()
        self.server_close()

    def get_request(self) -> Tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in _SHORTAGES:
                # The connection stays in the queue: without a pause this would spin.
                self._connections.log_refusal(f"cannot accept connections: {error.strerror}")
                self._closing.wait(_SHORTAGE_PAUSE)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        peer = normalise_address(client_address[0])
        proxy = self._connections.is_proxy(peer)
        if not proxy and not self._connections.may_connect(peer):
            self._log_refused(peer, NOT_ALLOWED)
            self._turn_away(request, self._settings.protocol.not_allowed)
            return
        connection = Connection(request, peer, tls_begun=self._note_old_tls)
        client = Client(connection, self._settings, self.tls, self._connections.is_stopping)
        refusal = self._connections.enter(client)
        if not refusal:
            name = f"{self.protocol} {peer}"
            thread = threading.Thread(target=self._serve, args=(client, proxy), name=name, daemon=True)
            try:
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread.start()
                return
            except (RuntimeError, MemoryError, OSError) as error:  # no thread, no memory, or the client is gone
                self._connections.leave(client)
                refusal = str(error)
        self._log_refused(peer, refusal)
        self._turn_away(request, self._settings.protocol.busy)

    def _turn_away(self, request: socket.socket, line: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._settings.tls_mode is not TlsMode.IMPLICIT:
                request.setblocking(False)
                request.send(line)
        self.shutdown_request(request)

    def _log_refused(self, peer: str, refusal: str, proxy: str = "") -> None:
        self._connections.note_refused(self.protocol)
        who = f"{peer} through {proxy}" if proxy else peer
        extra = events.step("refused", service=self.protocol, client=peer, reason=refusal)
        self._connections.log_refusal(f"connection refused from {who}: {refusal}", peer, extra)

    def _serve(self, client: Client, proxy: bool) -> None:
        try:
            if proxy and not self._read_proxy_header(client):
                return
            self._connections.quirks.tell(client.peer, f"connected to port {self.port} ({self.protocol})")
            pause = self._connections.greeting_pause(client.peer)
            if pause:
                time.sleep(pause)
            tls_first = self._settings.tls_mode is TlsMode.IMPLICIT or self._begins_with_tls(client)
            if tls_first and not self._start_tls(client):
                return
            self._connections.note_session(self.protocol, client.peer)
            self._make_session(client).run()
        except WireError as error:
            logger.debug("%s connection from %s ended: %s", self.protocol, client.peer, handshake.reason(error))
        except Exception:  # the last resort of a session: it must not take the process along
            self.handle_error(None, (client.peer,))
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
            self._connections.note_refused(self.protocol)
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
            self._log_refused(source or client.peer, refusal, proxy if source else "")
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
            self._connections.note_refused(self.protocol)
            self._connections.log_refusal(
                f"connection refused from {client.peer}: port {self.port} is for TLS, and no tls_cert is configured"
            )
            return False
        try:
            client.connection.start_tls(client.tls, self._settings.handshake_seconds)
        except WireError as error:
            handshake.log_failure(self.protocol, client.peer, error, at_once=True)
            raise
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for a fault that no session expected; socketserver would print a traceback."""
        peer = normalise_address(client_address[0])
        with contextlib.suppress(Exception):  # a log that fails must not keep the connection open
            logger.error("%s connection from %s ended by an error in this program", self.protocol, peer, exc_info=True)


def bind_error(error: OSError, address: str, port: int) -> ProxyError:
    """A refused bind as a sentence with the next step."""
    place = _host_and_port(address, port)
    number = error.errno
    if number == errno.EADDRINUSE:
        return InUse(f"{place} is in use by another program. Stop that program, or choose another port.")
    if number in (errno.EACCES, errno.EPERM):
        if os.name == "posix" and port < 1024:
            return CannotCreate(
                f"{place}: this user may not use ports below 1024. With systemd, set "
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit; else let every user open it: "
                f"`sysctl net.ipv4.ip_unprivileged_port_start={port}`; or choose a port from 1024 on."
            )
        return CannotCreate(f"{place}: the system does not give out this port. Choose another port.")
    if number == errno.EADDRNOTAVAIL:
        return CannotCreate(f"{place}: this machine has no such address. Correct bind, or use 0.0.0.0 (or ::) for all.")
    if number == errno.EAFNOSUPPORT:
        return CannotCreate(f"{place}: this machine has no IPv6. Take the address out of bind.")
    if isinstance(error, socket.gaierror):
        return CannotCreate(f"{place}: {address} is no address of this machine. Correct bind.")
    return CannotCreate(f"{place} cannot be opened: {error.strerror or error}. Correct bind and port.")


def _host_and_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
