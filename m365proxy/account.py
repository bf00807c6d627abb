"""The account, the queue, the event log and the installation of a config, as the daemon and the commands use them."""

from __future__ import annotations

import os
import secrets
from typing import Callable, Mapping, Optional

from .config.sections import Config
from .entra import tokens
from .entra.renewer import Renewer
from .entra.tokenfile import TokenFile
from .graph.client import Graph
from .graph.slots import share
from .monitoring.counters import Counters
from .monitoring.notices import Ways
from .monitoring.snapshot import Watched
from .spool.spool import Spool
from .system import files
from .system.events import EventLog
from .system.outbound import Outbound


class Account:
    """The way to Microsoft as configured: sign-in, Graph client.  Opens no connection by itself."""

    def __init__(
        self,
        config: Config,
        outbound: Optional[Outbound] = None,
        environ: Mapping[str, str] = os.environ,
        counters: Optional[Counters] = None,
        renewing: Callable[..., tokens.Renewing] = Renewer,
    ):
        """`environ` may hold the key of the sign-in; `counters` count requests to Graph.

        `renewing`: Renewer renews the sign-in in this process, RenewalProcess in another.
        """
        self.outbound = outbound or Outbound(config.https_proxy, config.ca_file)
        authority, graph_url, resource = tokens.endpoints(config.cloud, config.graph_url, config.authority_url)
        self.token_file = TokenFile(config.state_dir, environ)
        self.tokens = tokens.Tokens(
            client_id=config.client_id,
            tenant_id=config.tenant_id,
            user=config.user,
            permissions=config.permissions,
            token_file=self.token_file,
            outbound=self.outbound,
            authority_url=authority,
            graph_url=graph_url,
            resource=resource,
            client_secret=config.client_secret,
            client_certificate=config.client_certificate,
            renewing=renewing,
        )
        self.app_only = bool(config.client_secret or config.client_certificate)
        user = "" if self.app_only else config.user or ""
        counters = counters or Counters()
        self.graph = Graph(
            self.tokens,
            self.outbound,
            graph_url,
            user,
            app=config.client_id,
            slots=share(config.limits.nodes),
            note_answer=counters.note_answer,
            note_throttling=counters.note_throttling,
        )


def spool_of(config: Config) -> Spool:
    """The queue of a config.  No directory is made yet."""
    return Spool(
        os.path.join(config.state_dir, "queue"),
        min_free=config.queue.min_free_mb * 1024 * 1024,
        max_waiting=config.queue.max_waiting,
    )


def event_log(config: Config) -> Optional[EventLog]:
    """Where steps are written; None if the config wants none.  No file is opened yet."""
    octets = config.logging.events_mb * 1024 * 1024
    return EventLog(os.path.join(config.state_dir, "events"), octets) if octets else None


def watched(config: Config, state_dir: str) -> Watched:
    """What the config says of things to look at.  `state_dir`: where the program really keeps its state."""
    certificate = config.tls.tls_cert
    return Watched(
        state_dir=state_dir,
        mailboxes=tuple(mailbox.username for mailbox in config.mailboxes),
        min_free_mb=config.queue.min_free_mb,
        # The program renews its own at its start.
        certificate=certificate if certificate and certificate != "auto" else "",
        secret_end=config.client_secret_expires,
        client_certificate=config.client_certificate.private_key if config.client_certificate else "",
    )


def notice_ways(config: Config) -> Ways:
    """Where notices of warnings go."""
    return Ways(config.notify or "", config.notify_url or "", config.notify_command or ())


def installation(state_dir: str) -> str:
    """The random id of this installation, made at its first start: it marks our drafts."""
    path = os.path.join(state_dir, "installation")
    known = (files.read(path) or b"").decode("ascii", "replace").strip()
    if not known:
        known = secrets.token_hex(8)
        files.replace(path, known.encode() + b"\n")
    return known
