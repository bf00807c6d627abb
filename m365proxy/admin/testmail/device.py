"""The device that `test` plays: which mailbox and user name it has, and which listener it connects to."""

from __future__ import annotations

import difflib
import ipaddress
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ...config.sections import Config, MailboxConfig, Socket
from ...errors import ConfigError, InUse, UsageError
from ...system import log
from ...system.choices import Service, TlsMode
from ...system.interfaces import own_addresses
from ...system.networks import Network, within
from ..steps import Failed

_EVERYWHERE: Tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


class Login(NamedTuple):
    """A user name of a mailbox, and the networks it is for."""

    name: str
    networks: Tuple[Network, ...] = _EVERYWHERE


class Way(NamedTuple):
    """How a device on this machine reaches a listener.  `address` is the device's own, too."""

    socket: Socket
    address: str
    port: int
    is_proxy: bool  # the listener wants a PROXY header from this address

    def __str__(self) -> str:
        return f"{self.socket.name.upper()} {_host(self.address)}:{self.port}"


def logins(mailbox: MailboxConfig, service: Service) -> List[Login]:
    """Those that may use a service."""
    found = []
    if mailbox.password and service in mailbox.services:
        found += [Login(name) for name in (mailbox.login, mailbox.username) if name]
    for entry in mailbox.logins:
        if service in (entry.services or mailbox.services):
            found.append(Login(entry.login, entry.networks))
    return found


def choose(config: Config, address: str, login: str) -> Tuple[MailboxConfig, Optional[Login]]:
    """The mailbox to send from and its login, as asked for ("": any); no login for devices that need none.

    UsageError, with the nearest right one, if there is no such mailbox or login.
    """
    mailboxes = [mailbox for mailbox in config.mailboxes if logins(mailbox, Service.SMTP) or _networks(config, mailbox)]
    if not mailboxes:
        raise UsageError(
            "No mailbox of the config may send: none has a login for smtp, or a network in relay_networks."
        )
    if login:
        by_login = {one.name.casefold(): (box, one) for box in mailboxes for one in logins(box, Service.SMTP)}
        if login.casefold() not in by_login:
            raise UsageError(f"--login: {_unknown(login, 'login for smtp', by_login)}")
        mailbox, chosen = by_login[login.casefold()]
        if address and address.lower() != mailbox.username:
            raise UsageError(f"--login: {chosen.name} is a login of {mailbox.username}, not of {log.clean(address)}.")
        return mailbox, chosen
    if not address:
        mailbox = mailboxes[0]
    else:
        by_address = {box.username: box for box in mailboxes}
        if address.lower() not in by_address:
            raise UsageError(f"--from: {_unknown(address, 'mailbox that may send', by_address)}")
        mailbox = by_address[address.lower()]
    return mailbox, next(iter(logins(mailbox, Service.SMTP)), None)


def _unknown(name: str, kind: str, known: Dict[str, Any]) -> str:
    near = difflib.get_close_matches(name.casefold(), list(known), 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known) or 'none'}."
    return f"The config has no {kind} {log.quote(name, 60)}. {hint}"


def _networks(config: Config, mailbox: MailboxConfig) -> List[Network]:
    """Those whose devices may send from the mailbox without a login."""
    if Service.SMTP not in mailbox.services:
        return []
    return [network for network, name in config.relay_networks if name == mailbox.username]


def way_to(config: Config, listeners: Sequence[str], service: Service, without_login: str = "") -> Optional[Way]:
    """The way that a device would take: with TLS rather than without; None if there is no listener.

    `listeners`: those of status.json.  `without_login`: the mailbox that the
    device must be taken for by its address.  Failed if the running program has
    other listeners than the config, or if this machine may use none.
    """
    wanted = [socket for socket in config.sockets if socket.protocol is service]
    if not wanted:
        return None
    obstacles: List[Failed] = []
    for socket in sorted(wanted, key=lambda one: one.tls is TlsMode.NONE):
        port = _port_in(listeners, socket)
        if port is None:
            raise Failed(
                f"The config has a listener at {socket.name} {_host(socket.address)}:{socket.port} ({socket.key}), "
                "which the running program does not have.",
                "Restart it, and run the test again.",
                InUse.exit_status,
            )
        for address in _addresses(socket.address):
            obstacle = _obstacle(config, address, without_login)
            if obstacle is None:
                return Way(socket, address, port, within(address, config.proxy_protocol_from))
            obstacles.append(obstacle)
    raise obstacles[0]


def _port_in(listeners: Sequence[str], socket: Socket) -> Optional[int]:
    """The port a socket of the config has in the running program, which chose one if it is 0 there."""
    for listener in listeners:
        place, _, port = listener.rpartition(":")
        if place == f"{socket.name} {_host(socket.address)}" and port.isdecimal() and socket.port in (0, int(port)):
            return int(port)
    return None


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _addresses(bound: str) -> Iterator[str]:
    """Addresses of this machine at which something is reached that listens on `bound`."""
    address = ipaddress.ip_address(bound)
    if not address.is_unspecified:
        yield bound
        return
    yield "127.0.0.1" if address.version == 4 else "::1"
    yield from (one for one in own_addresses() if ipaddress.ip_address(one).version == address.version)


def _obstacle(config: Config, address: str, without_login: str) -> Optional[Failed]:
    """Why a device with this address could not do what is to be tested; None if it could."""
    if not within(address, config.allowed_networks):
        return Failed(
            f"This machine may not connect to its own listener: {address} is not in allowed_networks.",
            "Add it, run `m365proxy reload`, and test again; or test from a device.",
            ConfigError.exit_status,
        )
    taken_for = next((name for network, name in config.relay_networks if within(address, [network])), "")
    if without_login and taken_for != without_login:
        return Failed(
            f"{without_login} has no login, and this machine ({address}) is not in its relay_networks.",
            "Test from a device there, or choose another mailbox with --from.",
            ConfigError.exit_status,
        )
    return None
