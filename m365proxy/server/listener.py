"""Listeners: each accepts clients at one address and port, and gives every client a thread for itself.

The accept thread of a Listener does nothing that can block.  A client's own
thread does everything that the client may make slow, the TLS handshake of
implicit TLS included.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import socketserver
import ssl
import threading
from typing import Any, Callable, Optional, Tuple

from ..errors import CannotCreate, InUse, ProxyError
from ..system.choices import listener_name
from ..system.networks import normalise_address
from .client import Client, ListenerSettings, Session
from .connections import Connections
from .sessions import NOT_ALLOWED, Sessions, note_fault

# How long the accept thread rests when the system has no descriptor or memory left (seconds).
_SHORTAGE_PAUSE = 0.1

# Gives a client to another process: its socket, its address, the port it connected to, and whether it is a proxy that
# has to say whose connection it passes on.  False if no process takes it.
HandOver = Callable[[socket.socket, str, int, bool], bool]

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
        hand_over: Optional[HandOver] = None,
    ):
        """Bind and listen; nothing is accepted before start().  Raises InUse or CannotCreate.

        `tls` may be exchanged while running; it is valid from the next connection on.  `hand_over` gives clients to
        other processes; those that it does not take are served here.
        """
        self.protocol = settings.protocol.name
        self.tls = tls
        self._settings = settings
        self._sessions = Sessions(settings, make_session, connections)
        self._connections = connections
        self._hand_over = hand_over
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
        self._sessions.close()

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
            self._sessions.log_refused(peer, NOT_ALLOWED)
            self._sessions.turn_away(request, self._settings.protocol.not_allowed)
            return
        if self._hand_over is not None and self._hand_over(request, peer, self.port, proxy):
            request.close()
            return
        self._sessions.begin(request, peer, self.port, self.tls, proxy)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for a fault in accepting; socketserver would print a traceback."""
        note_fault(self.protocol, normalise_address(client_address[0]))


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
