"""Addresses of clients, and the networks they lie in."""

from __future__ import annotations

import functools
import ipaddress
from typing import Iterable, Union

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# A session asks some ten times about the same address.
_parsed = functools.lru_cache(maxsize=1024)(ipaddress.ip_address)


def within(address: str, networks: Iterable[Network]) -> bool:
    """Whether a normalised address lies in one of the networks; what is no address lies in none."""
    try:
        parsed = _parsed(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def normalise_address(address: str) -> str:
    """A peer's address in one spelling: IPv4-mapped IPv6 becomes IPv4, zone ids go."""
    address = address.partition("%")[0]
    try:
        parsed = _parsed(address)
    except ValueError:
        return address
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def client_network(address: str) -> str:
    """What counts as one client: an address, of IPv6 the /64 that one customer has."""
    try:
        parsed = _parsed(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def is_loopback(address: str) -> bool:
    try:
        return _parsed(address).is_loopback
    except ValueError:
        return False
