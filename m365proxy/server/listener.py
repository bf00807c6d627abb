"""Listeners: accept, count, and give every client a thread of its own.

Which thread does what: one accept thread per Listener does nothing that can
block; a session's thread does all that its client may make slow, the TLS
handshake of implicit TLS included.  Connections is shared by all of them.
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
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence, Tuple

from ..errors import CannotCreate, InUse, ProxyError
from ..system import log
from ..system.networks import Network, client_network, is_loopback, normalise_address, within
from . import clienthello, proxyprotocol
from .arrivals import Arrivals
from .clienthello import ClientHellos
from .connection import Closed, Connection, Injection, TimedOut, WireError
from .quirks import Quirks
from .tls import OLD_VERSIONS

logger = log.get("server")

# Seconds a proxy has for its PROXY header, which it sends at once.
_HEADER_SECONDS = 5.0

# What OpenSSL's reason for a failed handshake usually means for an administrator.
_HINTS = (
    ("UNKNOWN_CA", "the client does not trust the certificate"),
    ("CERTIFICATE_UNKNOWN", "the client does not trust the certificate"),
    ("BAD_CERTIFICATE", "the client does not trust the certificate"),
    ("UNSUPPORTED_PROTOCOL", "the client knows only older TLS: see min_version"),
    ("VERSION_TOO_LOW", "the client knows only older TLS: see min_version"),
    ("NO_SUITABLE_SIGNATURE_ALGORITHM", "the client knows only older TLS: see min_version"),
    (
        "NO_SHARED_CIPHER",
        "no cipher in common: the client needs a certificate with an RSA key, or older ciphers (see min_version)",
    ),
    ("WRONG_VERSION_NUMBER", "the client did not speak TLS"),
    ("HTTP_REQUEST", "the client spoke HTTP"),
)

# How long the accept thread rests when the system has no descriptor or memory left (seconds).
_SHORTAGE_PAUSE = 0.1

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

# Between two lines about refused connections (seconds): a flood must not fill the log.
_REFUSAL_LINES = 10.0

# Between two attempts to wake sessions during a stop (seconds).
_WAKE_AGAIN = 0.1


class TurnedAway(NamedTuple):
    """What a client is sent in its protocol that gets no session, before it says anything."""

    busy: bytes
    not_allowed: bytes  # by allowed_networks


class Context:
    """What a session may know of the place it runs in.  What may be set belongs to the session's thread."""

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
        self._of_use = False

    @property
    def of_use(self) -> bool:
        """Whether the client has got on with something: a login, a message."""
        return self._of_use

    def note_use(self) -> None:
        self._of_use = True

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
        proxies: Sequence[Network] = (),
        allowed: Optional[Sequence[Network]] = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`proxies` must say whose connection they pass on (PROXY protocol); `allowed` may connect, None for all."""
        self.set_networks(proxies, allowed)
        self.quirks = Quirks()
        self._arrivals = Arrivals(clock)
        self._total = total
        self._per_client = per_client
        self._clock = clock
        self._changed = threading.Condition()
        self._running: Dict[Context, Connection] = {}
        self._most = 0
        self._by_client: Dict[str, int] = {}
        self._stopping = False
        self._refusals = 0
        self._next_line = float("-inf")

    def __len__(self) -> int:
        return len(self._running)

    def stopping(self) -> bool:
        return self._stopping

    def set_networks(self, proxies: Sequence[Network], allowed: Optional[Sequence[Network]]) -> None:
        """Exchange them while running; the next connection goes by the new ones."""
        self._proxies = proxies
        self._allowed = allowed

    def is_proxy(self, peer: str) -> bool:
        return within(peer, self._proxies)

    def may_connect(self, peer: str) -> bool:
        return self._allowed is None or within(peer, self._allowed)

    def enter(self, context: Context, client: Connection) -> str:
        """Count a client in; returns why not, or ""."""
        with self._changed:
            if self._stopping:
                return "the program is being stopped"
            if len(self._running) >= self._total:
                return f"{self._total} connections are open (limits.connections)"
            refusal = self._count_in(context.peer)
            if not refusal:
                self._running[context] = client
                self._most = max(self._most, len(self._running))
        return refusal

    def most_since_last(self) -> int:
        """How many were open at once at most since this was asked last."""
        with self._changed:
            most, self._most = self._most, len(self._running)
        return most

    def rename(self, context: Context, client: Connection, peer: str) -> str:
        """Whom a proxy passes on: from now on it is this client; returns why not, or ""."""
        with self._changed:
            refusal = self._count_in(peer)
            if not refusal:
                self._count_out(context.peer)
                context.peer = client.peer = peer
        return refusal

    def greeting_pause(self, peer: str) -> float:
        """Seconds a client is to wait for its greeting; more than 0 if too many connections of it brought nothing."""
        pause = self._arrivals.pause(client_network(peer))
        if pause:
            self.log_refusal(f"connections from {peer} wait for their greeting: too many brought no login and no mail")
        return pause

    def leave(self, context: Context) -> None:
        with self._changed:
            if context not in self._running:
                return
            del self._running[context]
            self._count_out(context.peer)
            self._changed.notify_all()
        if not (context.of_use or self._stands_for_many(context.peer)):
            self._arrivals.note_idle(client_network(context.peer))

    def _count_in(self, peer: str) -> str:
        client = client_network(peer)
        here = self._by_client.get(client, 0)
        if here >= self._per_client and not self._stands_for_many(peer):
            return f"it has {here} connections open (limits.connections_per_client)"
        self._by_client[client] = here + 1
        return ""

    def _stands_for_many(self, peer: str) -> bool:
        return is_loopback(peer) or self.is_proxy(peer)

    def _count_out(self, peer: str) -> None:
        client = client_network(peer)
        here = self._by_client[client] - 1
        if here:
            self._by_client[client] = here
        else:
            del self._by_client[client]

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
        turned_away: TurnedAway,
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
        self._turned_away = turned_away
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
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        """Accept until close(): what goes wrong with one client must not shut out all others."""
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
            self._log_not_allowed(peer)
            self._turn_away(request, self._turned_away.not_allowed)
            return
        client = Connection(request, peer, tls_begun=self._note_old_tls)
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
            thread = threading.Thread(target=self._serve, args=(client, context, proxy), name=name, daemon=True)
            try:
                request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread.start()
                return
            except (RuntimeError, MemoryError, OSError) as error:  # no thread, no memory, or the client is gone
                self._connections.leave(context)
                refusal = str(error)
        self._connections.log_refusal(f"connection refused from {peer}: {refusal}")
        self._turn_away(request, self._turned_away.busy)

    def _turn_away(self, request: socket.socket, line: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._tls_mode != "implicit":
                request.setblocking(False)
                request.send(line)
        self.shutdown_request(request)

    def _log_not_allowed(self, peer: str) -> None:
        self._connections.log_refusal(f"connection refused from {peer}: it is not in allowed_networks")

    def _serve(self, client: Connection, context: Context, proxy: bool) -> None:
        try:
            if proxy and not self._introduced(client, context):
                return
            pause = self._connections.greeting_pause(context.peer)
            if pause:
                time.sleep(pause)
            tls_first = self._tls_mode == "implicit" or self._begins_with_tls(client, context)
            if tls_first and not self._shook_hands(client, context):
                return
            self._factory(client, context).run()
        except WireError as error:
            logger.debug("%s connection from %s ended: %s", self.protocol, context.peer, _told(error))
        except Exception:  # the last resort of a session: it must not take the process along
            self.handle_error(None, (context.peer,))
        finally:
            client.close()
            self._connections.leave(context)

    def _introduced(self, client: Connection, context: Context) -> bool:
        """Let a proxy say whom it passes on; whether that one may come in.

        What a proxy does on its own account, or for a client it knows no
        address of, counts as coming from it where it may connect, and has no
        other right that goes by address.
        """
        proxy = context.peer
        deadline = time.monotonic() + _HEADER_SECONDS
        try:
            source = normalise_address(proxyprotocol.read(lambda count: client.receive_exactly(count, deadline)))
        except (proxyprotocol.Malformed, TimedOut) as error:
            reason = str(error) or "none came in time"
            self._connections.log_refusal(
                f"connection refused from {proxy}: its PROXY header is missing or wrong ({reason}); "
                "proxy_protocol_from is for proxies that send one"
            )
            return False
        refusal = self._connections.rename(context, client, source or f"proxy:{proxy}")
        line = self._turned_away.busy
        if not refusal and not self._connections.may_connect(source or proxy):
            refusal, line = "it is not in allowed_networks", self._turned_away.not_allowed
        if refusal:
            who = f"{source} through {proxy}" if source else context.peer
            self._connections.log_refusal(f"connection refused from {who}: {refusal}")
            if self._tls_mode != "implicit":
                client.write(line)
        return not refusal

    def _note_old_tls(self, client: Connection) -> None:
        version = client.tls_version
        if version in OLD_VERSIONS:
            self._connections.quirks.note(
                client.peer, f"{version}, which can be read on the way; only min_version lets it in", logging.WARNING
            )

    def _begins_with_tls(self, client: Connection, context: Context) -> bool:
        """Let a client that is known for it speak before the banner."""
        hellos = context.client_hellos
        if hellos is None or self._tls_mode != "starttls" or context.tls is None or not hellos.expected(context.peer):
            return False
        return client.first_octet(clienthello.PATIENCE) == clienthello.FIRST_OCTET

    def _shook_hands(self, client: Connection, context: Context) -> bool:
        if context.tls is None:  # a reload took it away
            self._connections.log_refusal(
                f"connection refused from {context.peer}: port {self.port} is for TLS, and no tls_cert is configured"
            )
            return False
        try:
            client.start_tls(context.tls, self._handshake_seconds)
        except WireError as error:
            log_handshake_failure(context.peer, error)
            raise
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for what no session expected; socketserver would print a traceback."""
        peer = normalise_address(client_address[0])
        with contextlib.suppress(Exception):  # a log that fails must not keep the connection open
            logger.error("%s connection from %s broke off by a fault here", self.protocol, peer, exc_info=True)


def log_handshake_failure(peer: str, error: WireError) -> None:
    """The line an administrator looks for when a device does not like our TLS, or we its."""
    logger.warning("TLS handshake failed from %s: %s", peer, _told(error))


def _told(error: WireError) -> str:
    if isinstance(error, Injection):
        return "commands were sent ahead of it"
    hint = next((hint for reason, hint in _HINTS if reason in str(error).upper().replace(" ", "_")), "")
    if hint:
        return f"{hint} ({log.clean(error)})"
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
                "AmbientCapabilities=CAP_NET_BIND_SERVICE in its unit; else let every user open it: "
                f"`sysctl net.ipv4.ip_unprivileged_port_start={port}`; or choose a port from 1024 on."
            )
        return CannotCreate(f"{place}: the system does not give this port away. Choose another port.")
    if number == errno.EADDRNOTAVAIL:
        return CannotCreate(f"{place}: this machine has no such address. Correct bind, or use 0.0.0.0 (or ::) for all.")
    if number == errno.EAFNOSUPPORT:
        return CannotCreate(f"{place}: this machine has no IPv6. Take the address out of bind.")
    if isinstance(error, socket.gaierror):
        return CannotCreate(f"{place}: {address} is no address of this machine. Correct bind.")
    return CannotCreate(f"{place} cannot be opened: {error.strerror or error}. Correct bind and port.")
