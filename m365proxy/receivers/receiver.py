"""A receiver: a process that serves the clients which the main process hands to it."""

from __future__ import annotations

import errno
import functools
import logging
import os
import socket
import ssl
from typing import Any, Callable, Dict, List, Mapping, Optional

from ..account import spool_of
from ..config import load as configuration
from ..config.sections import Config
from ..errors import CannotCreate, ConfigError
from ..listening import listener_settings, tls_contexts
from ..server.clienthello import ClientHellos
from ..server.connections import Connections
from ..server.quirks import Habit, Quirks
from ..server.sessions import Sessions
from ..spool.envelope import Envelope
from ..spool.incoming import Incoming
from ..submission import Submission, guard_of
from ..system import log, memory
from ..system.choices import TlsMode
from ..system.threads import survive
from . import records
from .channel import Channel
from .words import Report, Task

logger = log.get("receiver")


class Receiver:
    """The work of the process.  Belongs to its main thread; sessions have threads of their own.

    What it knows of a client (failed logins, quirks, connections that brought nothing) is as good as that of the main
    process, because each client comes to the same receiver again; those that stand for many clients do not.
    """

    _channel: Channel

    def __init__(self, config: Config, tls: Mapping[str, ssl.SSLContext], hellos_path: str):
        """`config` is that of the start, `tls` its contexts by min_version."""
        self._built = config
        self._tls = tls
        self._connections = Connections(
            config.limits.connections,
            config.limits.connections_per_client,
            config.proxy_protocol_from,
            config.allowed_networks,
            note_session=lambda service, peer: self._channel.add(Report.SESSION, service, peer),
            note_refused=lambda service: self._channel.send(Report.TURNED_AWAY, service),
            note_left=lambda client: self._channel.send(Report.LEFT, client.origin),
            quirks=Quirks(first=self._first_seen),
        )
        self._hellos = ClientHellos(
            hellos_path, config.tls_first, lambda peer: self._channel.send(Report.CLIENT_HELLO, peer)
        )
        self._guard = guard_of(config)
        self._spool = spool_of(config)
        self._submission = Submission(
            config,
            self._guard,
            self._connections,
            self._accept,
            lambda reason: self._channel.send(Report.REFUSAL, reason),
        )
        self._ports = [
            Sessions(listener_settings(wanted, self._hellos), self._submission.session, self._connections)
            for wanted in config.sockets
        ]
        self._after_rush = memory.AfterRush()
        self._tasks: Dict[str, Callable[..., None]] = {
            Task.RELOAD: self._reload,
            Task.ADMIT: self._guard.admit_once,
            Task.WATCH: self._connections.quirks.watch,
            Task.CLIENT_HELLO: self._hellos.learn,
            Task.WAITING: self._spool.set_waiting,
            Task.SHUT: self._connections.shut,
            Task.LOOK: self._look,
        }

    def run(self, sock: socket.socket) -> None:
        """Do what the main process says, until it wants no more or is gone; `sock` is the channel's."""
        self._channel = Channel(sock)
        logging.getLogger().handlers = [records.Sender(self._channel)]
        self._hellos.load()
        self._channel.send(Report.READY, os.getpid())
        for (task, *values), descriptor in self._channel.messages():
            if task == Task.STOP:
                self._channel.send(Report.STOPPED, self._connections.stop(*values))
                self._channel.flush()  # the process ends now
                return
            survive(functools.partial(self._do, task, values, descriptor), "receiver")

    def _do(self, task: str, values: List[Any], descriptor: Optional[int]) -> None:
        if descriptor is not None:
            self._serve(socket.socket(fileno=descriptor), *values)
        elif task == Task.SERVE:
            self._turn_away(*values)
        else:
            self._tasks[task](*values)

    def _serve(self, sock: socket.socket, index: int, peer: str, port: int, proxy: bool) -> None:
        """Begin a session with a client of the config's listener of this index."""
        wanted = self._built.sockets[index]
        tls = self._tls.get(wanted.min_version) if wanted.tls is not TlsMode.NONE else None
        if not self._ports[index].begin(sock, peer, port, tls, proxy):
            self._channel.send(Report.LEFT, peer)

    def _turn_away(self, index: int, peer: str, port: int, proxy: bool) -> None:
        """The socket of a client was lost: all descriptors that this process may have are in use."""
        self._ports[index].log_refused(peer, os.strerror(errno.EMFILE))
        self._channel.send(Report.LEFT, peer)

    def _accept(self, envelope: Envelope) -> Incoming:
        # Its log line follows at once, and takes the report along.
        return self._spool.put(envelope, lambda id: self._channel.add(Report.QUEUED, id))

    def _first_seen(self, peer: str, what: str, level: int, habit: Optional[Habit]) -> None:
        self._channel.send(Report.QUIRK, peer, what, level, habit)

    def _reload(self, path: str, content: str) -> None:
        """As the main process has done, which found nothing wrong with it."""
        config = configuration.parsed(content.encode("latin-1"), path)
        self._set_certificate(config)
        self._hellos.networks = config.tls_first
        self._submission.configure(config)
        self._channel.send(Report.RELOADED)

    def _set_certificate(self, config: Config) -> None:
        """What is configured may be no pair any more: no reason to let in whom the config does not know any more."""
        try:
            contexts = tls_contexts(self._built, config, self._built.state_dir)
        except (ConfigError, CannotCreate) as error:
            logger.error("a receiver keeps the certificate it has: %s Then run `m365proxy reload`.", error)
        else:
            self._tls = contexts or self._tls

    def _look(self) -> None:
        self._after_rush.look(len(self._connections), self._connections.take_most())
