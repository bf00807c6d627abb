"""The answers that make an installation: those of a config, and those proposed where there is none."""

from __future__ import annotations

import ipaddress
from typing import FrozenSet, Iterable, List, NamedTuple, Tuple

from ...config.sections import Config
from ...system import interfaces, machine
from ...system.choices import Service, TlsMode
from ...system.networks import Network, within
from .spelling import EVERYWHERE, Certificate, Door


class Answers(NamedTuple):
    """`devices`: () is this machine only.  `new`: the mailboxes that the tenant's script is to make.

    `plaintext`: networks, beside this machine, that may log in without TLS.
    """

    tenant: str
    app_only: bool
    account: str
    mailboxes: Tuple[str, ...]
    new: FrozenSet[str]
    devices: Tuple[Network, ...]
    certificate: Certificate
    plaintext: Tuple[Network, ...]
    relays: Tuple[Tuple[Network, str], ...]
    smtp: Tuple[Door, ...]
    pop3: Tuple[Door, ...]

    @property
    def binds(self) -> List[str]:
        """Addresses to listen on, where none were chosen."""
        if not self.devices:
            return ["127.0.0.1"]
        is_six = any(network.version == 6 for network in self.devices if network not in EVERYWHERE)
        return ["0.0.0.0", "::"] if is_six else ["0.0.0.0"]


def of_config(config: Config, tenant: str, new: Iterable[str]) -> Answers:
    """What was answered so that the config is as it is; `tenant` and `new` are not in it."""
    app_only = bool(config.client_secret or config.client_certificate)  # a user beside it has no effect
    local_only = all(within(address, _LOOPBACK) for address in config.bind)
    return Answers(
        tenant=tenant,
        app_only=app_only,
        account="" if app_only else config.user or "",
        mailboxes=tuple(mailbox.username for mailbox in config.mailboxes),
        new=frozenset(new),
        devices=() if local_only else _outside(config.allowed_networks),
        certificate=Certificate(config.tls.tls_cert or "", config.tls.tls_key or ""),
        plaintext=_outside(config.plaintext_networks),
        relays=tuple(config.relay_networks),
        smtp=_doors(config, Service.SMTP),
        pop3=_doors(config, Service.POP3),
    )


_LOOPBACK: Tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def _outside(networks: Iterable[Network]) -> Tuple[Network, ...]:
    return tuple(network for network in networks if not network.is_loopback)


def _doors(config: Config, service: Service) -> Tuple[Door, ...]:
    found = [
        Door(socket.port, socket.tls == TlsMode.IMPLICIT) for socket in config.sockets if socket.protocol == service
    ]
    return tuple(dict.fromkeys(found))


def proposed_networks() -> Tuple[Network, ...]:
    """The network this machine goes out by, which probably has the devices; () if it cannot be told.

    A router's devices are in the others.  A container's own network tells
    nothing, and its host may hide the devices' addresses.
    """
    if machine.is_container():
        return EVERYWHERE
    own, gateways = interfaces.own_networks(), interfaces.default_gateways()
    towards = [network for network in own if any(within(gateway, [network]) for gateway in gateways)]
    if machine.is_openwrt():
        chosen = [network for network in own if network not in towards and network.is_private]
    else:
        chosen = towards[:1] or own[:1]
    return tuple(network for network in chosen if network.prefixlen >= 8)
