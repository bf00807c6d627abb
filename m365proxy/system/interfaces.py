"""This machine's place in the network: its own addresses, and the gateways it goes out by.

Best effort: what the system does not say is left out.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import struct
import sys
import threading
from typing import Iterable, Iterator, List, Set, Tuple, Union

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_IPV4_OF_INTERFACE = 0x8915  # SIOCGIFADDR
_MASK_OF_INTERFACE = 0x891B  # SIOCGIFNETMASK

# What the kernel says without a netlink socket, also under systemd's ProcSubset=pid: its unit allows neither
# netlink nor /proc/net.
_PROC = "/proc/self/net/"

# Flags of if_inet6: privacy addresses change daily, deprecated ones go, tentative ones may never come.
_FLEETING = 0x01 | 0x20 | 0x40

_RTF_GATEWAY = 0x2


def own_addresses() -> List[str]:
    """The addresses clients may know this machine by, without loopback, link-local and fleeting ones; sorted."""
    found = _from_linux() if sys.platform.startswith("linux") else _from_resolver()
    chosen = {a for a in found if not (a.is_loopback or a.is_link_local or a.is_unspecified or a.is_multicast)}
    return [str(address) for address in sorted(chosen, key=lambda a: (a.version, int(a)))]


def address_towards(peer: str) -> str:
    """The address of this machine from which it would answer `peer`, an IP address; "" if there is no way to it.

    Nothing is sent: connecting a UDP socket only asks the routing table.
    """
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((peer, 9))
        return str(sock.getsockname()[0]).partition("%")[0]
    return ""


def full_name(addresses: Iterable[str], seconds: float = 2.0) -> str:
    """This machine's name with its domain, if it resolves to one of `addresses`; "" if not.

    A resolver that does not answer is waited for `seconds` and no longer.
    """
    found: "queue.SimpleQueue[str]" = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: found.put(_resolving_name(set(addresses))), name="name", daemon=True)
    try:
        thread.start()
        return found.get(timeout=seconds)
    except (queue.Empty, RuntimeError):
        return ""


def _resolving_name(addresses: Set[str]) -> str:
    name = socket.getfqdn()
    if "." in name:
        with contextlib.suppress(OSError, UnicodeError):
            if addresses & {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}:
                return name
    return ""


def own_networks() -> List[ipaddress.IPv4Network]:
    """The networks of IPv4 this machine is in, without loopback and link-local ones (Linux only; else none); sorted."""
    found = set()
    for address, mask in _masked() if sys.platform.startswith("linux") else ():
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            with contextlib.suppress(ValueError):
                found.add(ipaddress.IPv4Network((int(address), str(mask)), strict=False))
    return sorted(found)


def default_gateways() -> List[str]:
    """The gateways of the default routes of IPv4 (Linux only; elsewhere none are known)."""
    found = []
    for line in _lines(_PROC + "route")[1:]:
        fields = line.split()
        with contextlib.suppress(ValueError, IndexError, OverflowError):
            if int(fields[1], 16) == 0 and int(fields[7], 16) == 0 and int(fields[3], 16) & _RTF_GATEWAY:
                # The kernel prints the octets as a number of this machine's own order.
                found.append(str(ipaddress.IPv4Address(int(fields[2], 16).to_bytes(4, sys.byteorder))))
    return found


def _from_linux() -> Iterator[_Address]:
    yield from (address for address, _ in _masked())
    for line in _lines(_PROC + "if_inet6"):
        fields = line.split()
        with contextlib.suppress(ValueError, IndexError):
            if not int(fields[4], 16) & _FLEETING:
                yield ipaddress.IPv6Address(int(fields[0], 16))


def _masked() -> Iterator[Tuple[ipaddress.IPv4Address, ipaddress.IPv4Address]]:
    """The address and the mask of each interface with IPv4."""
    if sys.platform == "win32":
        return  # nobody asks there; it says so to type checkers
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for line in _lines(_PROC + "dev")[2:]:
            with contextlib.suppress(OSError):  # it has no IPv4 address
                request = struct.pack("256s", line.partition(":")[0].strip().encode()[:15])
                answers = [
                    fcntl.ioctl(sock.fileno(), code, request) for code in (_IPV4_OF_INTERFACE, _MASK_OF_INTERFACE)
                ]
                address, mask = (ipaddress.IPv4Address(answer[20:24]) for answer in answers)
                yield address, mask


def _from_resolver() -> Iterable[_Address]:
    with contextlib.suppress(OSError):
        for entry in socket.getaddrinfo(socket.gethostname(), None):
            with contextlib.suppress(ValueError):
                yield ipaddress.ip_address(str(entry[4][0]).partition("%")[0])


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []
