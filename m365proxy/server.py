"""Listeners: accept, count, and give every client a thread of its own.

Which thread does what: one accept thread per Listener does nothing that can
block; a session's thread does all that its client may make slow, the TLS
handshake of implicit TLS included.  Connections is shared by all of them.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import socketserver
import ssl
import threading
import time
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from . import clienthello, log, replies
from .clienthello import ClientHellos
from .errors import CannotCreate, InUse, ProxyError
from .users import within
from .values import Network
from .wire import Closed, Connection, Injection, TimedOut, WireError, normalise_address

logger = log.get("server")

# What a client is told that comes while the house is full.
_BUSY = {
    "smtp": bytes(replies.TOO_MANY_CONNECTIONS),
    "pop3": b"-ERR [SYS/TEMP] Too many connections, try again in a minute\r\n",  # RFC 3206
}

# How long the accept thread rests when the system has no descriptor or memory left (seconds).
_SHORTAGE_PAUSE = 0.1

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Between two lines about refused connections (seconds): a flood must not fill the log.
_REFUSAL_LINES = 10.0

# Between two attempts to wake sessions during a stop (seconds).
_WAKE_AGAIN = 0.1


class Context:
    """What a session may know of the place it runs in.  `receiving` belongs to the session's thread."""

    def __init__(
        self,
        protocol: str,
        peer: str,
        tls: Optional[ssl.SSLContext],
        tls_mode: str,
        tls_required: bool,
        handshake_seconds: float,
        stopping: Callable[[], bool],
        client_hellos: Optional[ClientHellos] = None,
        lf_only_clients: bool = False,
    ):
        """`tls_mode` is none, starttls or implicit; `tls` is None for none."""
        self.protocol = protocol
        self.peer = peer
        self.tls = tls
        self.tls_mode = tls_mode
        self.tls_required = tls_required
        self.handshake_seconds = handshake_seconds
        self.client_hellos = client_hellos
        self.lf_only_clients = lf_only_clients
        self._stopping = stopping
        # True while a message comes in: an orderly stop lets it come to its end first.
        self.receiving = False

    @property
    def stopping(self) -> bool:
        """Whether the program is being stopped: say so and end, between two commands."""
        return self._stopping()


class Connections:
    """All clients of all listeners: how many, from where, and how to get rid of them.

    May be called from any thread.
    """

    def __init__(
        self,
        total: int = 500,
        per_client: int = 100,
        exempt: Sequence[Network] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """`exempt`: networks of configured proxies, whose addresses stand for many clients."""
        self._total = total
        self._per_client = per_client
        self._exempt = exempt
        self._clock = clock
        self._changed = threading.Condition()
        self._running: Dict[Context, Connection] = {}
        self._by_peer: Dict[str, int] = {}
        self._stopping = False
        self._refusals = 0
        self._next_line = float("-inf")

    def __len__(self) -> int:
        return len(self._running)

    def stopping(self) -> bool:
        return self._stopping

    def enter(self, context: Context, client: Connection) -> str:
        """Count a client in; returns why not, or ""."""
        peer = context.peer
        counted = not (_is_loopback(peer) or within(peer, self._exempt))
        with self._changed:
            if self._stopping:
                return "the program is being stopped"
            if len(self._running) >= self._total:
                return f"{self._total} connections are open (limits.connections)"
            here = self._by_peer.get(peer, 0)
            if counted and here >= self._per_client:
                return f"it has {here} connections open (limits.connections_per_client)"
            self._by_peer[peer] = here + 1
            self._running[context] = client
        return ""

    def leave(self, context: Context) -> None:
        with self._changed:
            if context not in self._running:
                return
            del self._running[context]
            here = self._by_peer[context.peer] - 1
            if here:
                self._by_peer[context.peer] = here
            else:
                del self._by_peer[context.peer]
            self._changed.notify_all()

    def log_refusal(self, what: str) -> None:
        """One line now and then, with the number of those that were not told."""
        with self._changed:
            now = self._clock()
            self._refusals += 1
            if now < self._next_line:
                return
            silent, self._refusals, self._next_line = self._refusals - 1, 0, now + _REFUSAL_LINES
        logger.warning("%s%s", what, f" ({silent} more before this one)" if silent else "")

    def stop(self, seconds: float) -> int:
        """End all sessions: idle ones now, those receiving a message after it.

        Close the listeners first.  Waits up to `seconds`; returns how many
        sessions had to be cut.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
        while True:
            with self._changed:
                running = list(self._running.items())
            remaining = deadline - time.monotonic()
            if not running or remaining <= 0:
                break
            for context, client in running:
                if not context.receiving:
                    client.interrupt()
            with self._changed:
                if len(self._running) == len(running):
                    self._changed.wait(min(_WAKE_AGAIN, remaining))
        for _context, client in running:
            client.cut()
        return len(running)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Listener(socketserver.ThreadingTCPServer):
    """One bound address and port; every client gets a session in a daemon thread.

    `factory(client, context)` makes a session; its run() is called once
    and may raise WireError when the conversation broke.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    # On Windows the option would let another program take the port over.
    allow_reuse_address = os.name == "posix"

    def __init__(
        self,
        protocol: str,
        address: str,
        port: int,
        factory: Callable[[Connection, Context], Any],
        connections: Connections,
        *,
        tls: Optional[ssl.SSLContext] = None,
        tls_mode: str = "none",
        tls_required: bool = False,
        handshake_seconds: float = 30.0,
        client_hellos: Optional[ClientHellos] = None,
        lf_only_clients: bool = False,
    ):
        """Bind and listen; nothing is accepted before start().  Raises InUse or CannotCreate.

        `protocol` is smtp or pop3.  `tls` may be exchanged while running:
        the next connection takes the new one.  Clients that `client_hellos`
        knows may begin TLS at once on a STARTTLS port; `lf_only_clients`
        lets clients that know no CR end a message with LF.LF.
        """
        self.protocol = protocol
        self.tls = tls
        self._factory = factory
        self._connections = connections
        self._tls_mode = tls_mode
        self._tls_required = tls_required
        self._handshake_seconds = handshake_seconds
        self._client_hellos = client_hellos
        self._lf_only_clients = lf_only_clients
        self._closing = threading.Event()
        self._thread: Optional[threading.Thread] = None
        try:
            found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = found[0]
            super().__init__(found[4], socketserver.BaseRequestHandler)  # type: ignore[arg-type]
        except OSError as error:
            raise bind_error(error, address, port) from None

    @property
    def port(self) -> int:
        """The port it is bound to, also when 0 was asked for."""
        return self.server_address[1]

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
        self._thread = threading.Thread(target=self.serve_forever, name=name, daemon=True)
        self._thread.start()

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
        client = Connection(request, peer)
        context = Context(
            self.protocol,
            peer,
            self.tls,
            self._tls_mode,
            self._tls_required,
            self._handshake_seconds,
            self._connections.stopping,
            self._client_hellos,
            self._lf_only_clients,
        )
        refusal = self._connections.enter(context, client)
        if not refusal:
            name = f"{self.protocol} {peer}"
            thread = threading.Thread(target=self._serve, args=(client, context), name=name, daemon=True)
            try:
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread.start()
                return
            except (OSError, RuntimeError) as error:
                self._connections.leave(context)
                refusal = str(error)
        self._connections.log_refusal(f"connection refused from {peer}: {refusal}")
        self._turn_away(request)

    def _turn_away(self, request: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls_mode != "implicit":
                request.setblocking(False)
                request.send(_BUSY[self.protocol])
        self.shutdown_request(request)

    def _serve(self, client: Connection, context: Context) -> None:
        try:
            if self._tls_mode == "implicit" or self._begins_with_tls(client, context):
                self._shake_hands(client, context)
            self._factory(client, context).run()
        except WireError as error:
            logger.debug("%s connection from %s ended: %s", self.protocol, context.peer, _told(error))
        except Exception:  # the last resort of a session: it must not take the process along
            self.handle_error(None, (context.peer,))
        finally:
            client.close()
            self._connections.leave(context)

    def _begins_with_tls(self, client: Connection, context: Context) -> bool:
        """Let a client that is known for it speak before the banner."""
        hellos = context.client_hellos
        if hellos is None or self._tls_mode != "starttls" or not hellos.expected(context.peer):
            return False
        return client.first_octet(clienthello.PATIENCE) == clienthello.FIRST_OCTET

    def _shake_hands(self, client: Connection, context: Context) -> None:
        assert context.tls is not None
        try:
            client.start_tls(context.tls, self._handshake_seconds)
        except WireError as error:
            log_handshake_failure(context.peer, error)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what no session expected; socketserver would print a traceback."""
        peer = normalise_address(client_address[0])
        logger.error("%s connection from %s broke off by a fault here", self.protocol, peer, exc_info=True)


def log_handshake_failure(peer: str, error: WireError) -> None:
    """The line an administrator looks for when a device does not like our TLS, or we its."""
    logger.warning("TLS handshake failed from %s: %s", peer, _told(error))


def _told(error: WireError) -> str:
    if isinstance(error, Injection):
        return "commands were sent ahead of it"
    return log.clean(error) or {Closed: "connection closed", TimedOut: "nothing came in time"}.get(
        type(error), type(error).__name__
    )


def bind_error(error: OSError, address: str, port: int) -> ProxyError:
    """A refused bind as a sentence with the next step."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    number = error.errno
    if number == errno.EADDRINUSE:
        return InUse(f"{place} is in use by another program. Stop that one, or choose another port.")
    if number in (errno.EACCES, errno.EPERM):
        if os.name == "posix" and port < 1024:
            return CannotCreate(
                f"{place}: this user may not use ports below 1024. With systemd, set "
                "AmbientCapabilities=CAP_NET_BIND_SERVICE; else run `setcap cap_net_bind_service=+ep` "
                "on the Python interpreter; or choose a port from 1024 on."
            )
        return CannotCreate(f"{place}: the system does not give this port away. Choose another port.")
    if number == errno.EADDRNOTAVAIL:
        return CannotCreate(
            f"{place}: this machine has no such address. Correct bind, or use 0.0.0.0 (or ::) for all."
        )
    if number == errno.EAFNOSUPPORT:
        return CannotCreate(f"{place}: this machine has no IPv6. Take the address out of bind.")
    if isinstance(error, socket.gaierror):
        return CannotCreate(f"{place}: {address} is no address of this machine. Correct bind.")
    return CannotCreate(f"{place} cannot be opened: {error.strerror or error}. Correct bind and port.")
