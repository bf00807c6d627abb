"""The ways in for a device: which listener suits it best, and by which name or address it reaches this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from ...config.sections import Config, Socket
from ...server import tls
from ...system import interfaces
from ...system.choices import Service, TlsMode
from ...system.networks import Network, within

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

# The ports that devices propose by themselves, for each kind of TLS.
_USUAL_PORTS = (465, 587, 25, 995, 110)

# Documentation addresses (RFC 5737, RFC 3849): the way to them is the way to everywhere.
_ANYWHERE = ("192.0.2.1", "2001:db8::1")

# Names and addresses one card shows.
_MOST_SERVERS = 4


class Entrance(NamedTuple):
    """A port as devices see it: one or more sockets that differ in their address only.

    `without_tls`: a login is possible there without TLS, from where the device is.
    """

    protocol: Service
    port: int
    tls: TlsMode
    min_version: str
    lf_only: bool
    addresses: Tuple[str, ...]
    without_tls: bool

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine reach it."""
        return all(ipaddress.ip_address(address).is_loopback for address in self.addresses)

    @property
    def is_special(self) -> bool:
        """Whether it is made for devices that can do no better."""
        return self.lf_only or self.min_version in tls.OLD_VERSIONS

    @property
    def is_usable(self) -> bool:
        """Whether a login is possible at all."""
        return self.tls != TlsMode.NONE or self.without_tls


def entrances(config: Config, protocol: Service, networks: Sequence[Network], logs_in: bool = True) -> List[Entrance]:
    """The ports for a protocol, the best for a device first.

    `networks`: where the device may be, () if unknown.  `logs_in`: with a
    password, which not every network may send without TLS.
    """
    merged: Dict[Tuple[object, ...], List[Socket]] = {}
    for socket in config.sockets:
        if socket.protocol == protocol:
            key = (socket.port, socket.tls, socket.min_version, socket.lf_only_clients, socket.required)
            merged.setdefault(key, []).append(socket)
    plain = not logs_in or _is_plain_allowed(config, networks)
    found = [_entrance(sockets, plain) for sockets in merged.values()]
    own = _ways(networks)
    return sorted(found, key=lambda entrance: _rank(entrance, own))


def device_networks(config: Config, login_networks: Sequence[Network]) -> Tuple[Network, ...]:
    """Where a device may be, from what the config allows; () if it may be anywhere."""
    for networks in (login_networks, config.allowed_networks):
        narrow = tuple(network for network in networks if not network.is_loopback)
        if narrow and all(network.prefixlen for network in narrow):
            return narrow
        if networks and not narrow:
            return tuple(networks)  # programs on this machine only
    return ()


def plain_networks(config: Config, networks: Sequence[Network]) -> Tuple[Network, ...]:
    """Where a device must be to log in without TLS; () if it may be there from wherever it is (`networks`)."""
    narrow = tuple(network for network in config.plaintext_networks if not network.is_loopback)
    return narrow if not networks and all(network.prefixlen for network in narrow) else ()


def servers(entrance: Entrance, networks: Sequence[Network], certificate: Optional[tls.CertificateNames]) -> List[str]:
    """By what the device reaches the entrance, the best first: names a certificate vouches for, then addresses.

    Asks the resolver for this machine's name, for a few seconds at most.
    """
    addresses = _addresses(entrance, networks)
    name = "" if entrance.is_local else interfaces.full_name(addresses)
    if entrance.tls == TlsMode.NONE or certificate is None or certificate.is_self_signed:
        names = [name] if name else []
    else:
        names = [one for one in certificate.names if "*" not in one]
        names.sort(key=lambda one: one.lower() != name.lower())
    return list(dict.fromkeys([*names, *addresses]))[:_MOST_SERVERS]


def certificate(config: Config) -> Optional[tls.CertificateNames]:
    """Whom the listeners' certificate is for; None if there is none, or none that this user can read."""
    if config.tls.tls_cert is None:
        return None
    if config.tls.tls_cert == "auto":
        return tls.CertificateNames((), (), True)  # perhaps not made yet
    with contextlib.suppress(OSError, ValueError):
        return tls.names_in(config.tls.tls_cert)
    return None


def _entrance(sockets: List[Socket], plain: bool) -> Entrance:
    first = sockets[0]
    return Entrance(
        protocol=first.protocol,
        port=first.port,
        tls=first.tls,
        min_version=first.min_version,
        lf_only=first.lf_only_clients,
        addresses=tuple(socket.address for socket in sockets),
        without_tls=first.tls != TlsMode.IMPLICIT and not first.required and plain,
    )


def _is_plain_allowed(config: Config, networks: Sequence[Network]) -> bool:
    """Whether passwords are taken without TLS from all networks the device may be in, or, if unknown, from any."""
    if not networks:
        return any(not network.is_loopback for network in config.plaintext_networks)
    return all(any(_is_inside(one, other) for other in config.plaintext_networks) for one in networks)


def _is_inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and within(str(inner[0]), [outer]) and inner.prefixlen >= outer.prefixlen


def _rank(entrance: Entrance, own: Sequence[str]) -> Tuple[object, ...]:
    """Sorts entrances: reachable, usable, not special, then as safe as can be, on a port the device proposes."""
    reached = {ipaddress.ip_address(address) for address in entrance.addresses}
    everywhere = any(address.is_unspecified for address in reached)
    on_the_way = everywhere or not own or bool(reached & {ipaddress.ip_address(address) for address in own})
    kinds = (TlsMode.IMPLICIT, TlsMode.STARTTLS, TlsMode.NONE)
    usual = entrance.port in _USUAL_PORTS
    return (
        entrance.is_local,
        not on_the_way,
        not entrance.is_usable,
        entrance.is_special,
        entrance.tls == TlsMode.NONE,
        not usual,
        kinds.index(entrance.tls),
        entrance.port,
    )


def _ways(networks: Iterable[Network]) -> List[str]:
    """This machine's own addresses towards the networks."""
    hosts = [str(network[1] if network.num_addresses > 2 else network[0]) for network in networks]
    return list(dict.fromkeys(filter(None, map(interfaces.address_towards, hosts))))


def _addresses(entrance: Entrance, networks: Sequence[Network]) -> List[str]:
    """The addresses the device may use, the likeliest first."""
    bound = [ipaddress.ip_address(address) for address in entrance.addresses]
    fixed = [str(address) for address in bound if not address.is_unspecified]
    versions = {address.version for address in bound if address.is_unspecified}

    def listening(own: Iterable[str]) -> List[str]:
        return [one for one in own if one and (one in fixed or ipaddress.ip_address(one).version in versions)]

    found = listening(_ways(networks))
    if found:
        return found
    found = listening(map(interfaces.address_towards, _ANYWHERE))
    others = [one for one in interfaces.own_addresses() if ipaddress.ip_address(one).version in versions]
    return list(dict.fromkeys(itertools.chain(found, sorted(fixed, key=_is_loopback), others)))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
