"""SMTP as configured: what each session is given, in whichever process it runs."""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Callable, Optional

from .config import load as configuration
from .config.sections import Config
from .logins.guard import Guard
from .logins.users import User, Users
from .mime import prepare
from .server.client import Client
from .server.connections import Connections
from .smtp import replies
from .smtp.acceptance import Intake
from .smtp.policy import Policy
from .smtp.session import SmtpSession
from .spool.envelope import Envelope
from .spool.incoming import Incoming
from .system.choices import Permissions, Service
from .system.interfaces import default_gateways
from .system.networks import within


def guard_of(config: Config) -> Guard:
    """The logins of a config, guarded against guessing."""
    return Guard(
        Users(config.mailboxes),
        config.limits.auth_failures,
        config.limits.auth_block_minutes * 60.0,
        config.proxy_protocol_from,
    )


class Submission:
    """Makes SMTP sessions.  Any thread may ask for one."""

    def __init__(
        self,
        config: Config,
        guard: Guard,
        connections: Connections,
        accept: Callable[[Envelope], Incoming],
        note_refusal: Callable[[str], object],
    ):
        """`accept` begins a message in the spool; `note_refusal` as in Policy."""
        self.plaintext_networks = list(config.plaintext_networks)  # one list for all sessions, which a reload changes
        self._built = config  # that of the start, for what a reload cannot change
        self._guard = guard
        self._connections = connections
        self._accept = accept
        self._note_refusal = note_refusal
        self._hostname = socket.gethostname()
        self._gateways = default_gateways()
        self._config = config
        self.policy = self._make_policy()

    def session(self, client: Client) -> SmtpSession:
        return SmtpSession(client, hostname=self._hostname, users=self._guard, accept=self._accept, policy=self.policy)

    def configure(self, config: Config) -> None:
        """Put a config that was reloaded to use: for the guard and the connections, too."""
        self._config = config
        self._guard.users = Users(config.mailboxes)
        self._guard.exempt = config.proxy_protocol_from
        self._connections.set_networks(config.proxy_protocol_from, config.allowed_networks)
        self.plaintext_networks[:] = config.plaintext_networks
        self._gateways = default_gateways()
        self.policy = self._make_policy()

    def _make_policy(self) -> Policy:
        config = self._config
        may_send_large = self._built.permissions is Permissions.FULL
        size_limit = configuration.size_limit(config.attachment_limit_mb)
        is_cut = not may_send_large and size_limit > prepare.LARGE_MIME_CEILING
        return Policy(
            size_limit=prepare.LARGE_MIME_CEILING if is_cut else size_limit,
            too_large=replies.TOO_LARGE_TO_SEND_ONLY if is_cut else replies.TOO_LARGE,
            recipients=config.limits.recipients,
            errors=config.limits.errors,
            command_seconds=config.limits.command_seconds,
            data_seconds=config.limits.data_seconds,
            session_seconds=config.limits.session_seconds,
            plaintext_networks=self.plaintext_networks,
            allowed_domains=config.allowed_domains,
            relay=self._relay_user,
            relay_networks=config.relay_networks,
            mailboxes=[mailbox.username for mailbox in config.mailboxes if Service.SMTP in mailbox.services],
            check_message=Intake(may_send_large).check,
            note_refusal=self._note_refusal,
            quirks=self._connections.quirks,
        )

    def _relay_user(self, peer: str) -> Optional[User]:
        """The user of an address that may send without login; the smallest of its networks decides."""
        for network, mailbox in self._config.relay_networks:
            if within(peer, [network]):
                if peer in self._gateways:
                    self._connections.quirks.note(
                        peer,
                        "mail without login from this machine's gateway, which may hide other clients (NAT)",
                        logging.WARNING,
                    )
                with contextlib.suppress(KeyError):  # a reload is just removing the mailbox
                    return self._guard.users.user_of_mailbox(mailbox)
        return None
