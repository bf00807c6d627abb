"""The configuration as the program reads it: a class for each section of the option table.

A test compares the classes with the table: names, types and what may be None.
The defaults are in the table only.  `key` is where a section is in the file:
"queue", "mailboxes[1]".
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from ..system.choices import Cloud, DeleteRule, OnAmbiguous, Permissions, Service, TlsMode, listener_name
from ..system.networks import Network
from .types import Secret


@dataclass(frozen=True)
class ClientCertificate:
    key: str
    private_key: str
    thumbprint: str


@dataclass(frozen=True)
class LoginConfig:
    key: str
    login: str
    password: Secret
    networks: Tuple[Network, ...]
    services: Optional[Tuple[Service, ...]]


@dataclass(frozen=True)
class MailboxConfig:
    """`sent_items`: after how many days our own copies are deleted, 0 for at once; None if they are kept."""

    key: str
    username: str
    password: Optional[Secret]
    login: Optional[str]
    logins: Tuple[LoginConfig, ...]
    send_as: Tuple[str, ...]
    default_from: Optional[str]
    rewrite_from: bool
    services: Tuple[Service, ...]
    folder: str
    pop3_delete: DeleteRule
    pop3_mark_read: bool
    pop3_fold_lines: bool
    sent_items: Optional[int]


@dataclass(frozen=True)
class ListenerConfig:
    key: str
    protocol: Service
    bind: Optional[Tuple[str, ...]]
    port: int
    tls: Optional[TlsMode]
    min_version: Optional[str]
    required: Optional[bool]
    lf_only_clients: bool


@dataclass(frozen=True)
class TlsConfig:
    """`tls_cert` may be "auto": a certificate of our own making."""

    key: str
    tls_cert: Optional[str]
    tls_key: Optional[str]
    min_version: str
    required: bool


@dataclass(frozen=True)
class QueueConfig:
    key: str
    retry_interval: float
    lifetime_hours: float
    min_free_mb: int
    keep_failed_days: float
    pace_per_minute: int
    on_ambiguous: OnAmbiguous
    dedupe_minutes: float
    max_waiting: int


@dataclass(frozen=True)
class Pop3Config:
    key: str
    exact_sizes: bool
    read_ahead_mb: int
    max_messages: int


@dataclass(frozen=True)
class LimitsConfig:
    key: str
    nodes: int
    connections: int
    connections_per_client: int
    errors: int
    recipients: int
    command_seconds: float
    data_seconds: float
    session_seconds: float
    auth_failures: int
    auth_block_minutes: float


@dataclass(frozen=True)
class LoggingConfig:
    key: str
    level: str
    file: Optional[str]
    syslog: bool
    events_mb: int


@dataclass(frozen=True)
class Socket:
    """An address and port to listen on, from one of the keys *_port or from `listeners`; `key` says which."""

    key: str
    protocol: Service
    address: str
    port: int
    tls: TlsMode
    min_version: str
    required: bool
    lf_only_clients: bool

    @property
    def name(self) -> str:
        """As the running program's status calls it: "smtps"."""
        return listener_name(self.protocol, self.tls)


@dataclass(frozen=True)
class Config:
    """The whole configuration.

    Options without a value are None.  Paths are absolute, mail addresses are
    in lower case.  Beyond the keys of the table:

    path: the file's absolute path.
    warnings: sentences about what is allowed, but doubtful.
    sockets: every socket to open, from the keys *_port and from `listeners`.
    https_proxy: one URL with the credentials in it.
    relay_networks: pairs (network, mailbox address), the smallest network first.
    state_dir: always set.
    """

    path: str
    warnings: Tuple[str, ...]
    sockets: Tuple[Socket, ...]
    user: Optional[str]
    tenant_id: str
    client_id: str
    client_secret: Optional[Secret]
    client_secret_expires: Optional[datetime.date]
    client_certificate: Optional[ClientCertificate]
    permissions: Permissions
    cloud: Cloud
    graph_url: Optional[str]
    authority_url: Optional[str]
    ca_file: Optional[str]
    https_proxy: Optional[Secret]
    mailboxes: Tuple[MailboxConfig, ...]
    bind: Tuple[str, ...]
    smtp_port: int
    smtps_port: Optional[int]
    pop3_port: Optional[int]
    pop3s_port: Optional[int]
    listeners: Tuple[ListenerConfig, ...]
    tls: TlsConfig
    tls_first: Tuple[Network, ...]
    plaintext_networks: Tuple[Network, ...]
    relay_networks: Tuple[Tuple[Network, str], ...]
    allowed_networks: Tuple[Network, ...]
    proxy_protocol_from: Tuple[Network, ...]
    allowed_domains: Tuple[str, ...]
    attachment_limit_mb: float
    queue: QueueConfig
    pop3: Pop3Config
    limits: LimitsConfig
    receivers: Optional[int]
    notify: Optional[str]
    notify_url: Optional[Secret]
    notify_command: Optional[Tuple[Secret, ...]]
    status_port: Optional[int]
    status_password: Optional[Secret]
    logging: LoggingConfig
    state_dir: str

    @property
    def without_copies(self) -> List[str]:
        """The mailboxes whose mail leaves no copy in Sent Items."""
        return [mailbox.username for mailbox in self.mailboxes if mailbox.sent_items == 0]

    def may_be_unmarked(self, mailbox: str) -> bool:
        """Whether the copies of this mailbox's mail in Sent Items are neither deleted nor beside another gateway's."""
        stays = all(one.sent_items is None for one in self.mailboxes if one.username.lower() == mailbox.lower())
        return stays and self.limits.nodes == 1


# The class of each section, by its path; https_proxy becomes a URL.
SECTIONS: Dict[str, type] = {
    "client_certificate": ClientCertificate,
    "mailboxes[]": MailboxConfig,
    "mailboxes[].logins[]": LoginConfig,
    "listeners[]": ListenerConfig,
    "tls": TlsConfig,
    "queue": QueueConfig,
    "pop3": Pop3Config,
    "limits": LimitsConfig,
    "logging": LoggingConfig,
}
