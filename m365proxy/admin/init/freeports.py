"""Which ports can be opened here, and which to propose."""

from __future__ import annotations

import errno
import socket
from typing import Container, List, Sequence, Tuple

from ...system import machine
from ...system.choices import Service
from ..check.ports import Holder
from .spelling import Door

# What devices propose by themselves.
_USUAL = {
    Service.SMTP: (Door(25), Door(587), Door(465, True)),
    Service.POP3: (Door(110), Door(995, True)),
}

# What every user may open, and what a container forwards the usual ones to (etc/container).
_HIGH = {Service.SMTP: 2525, Service.POP3: 1110}
_IN_CONTAINER = {
    Service.SMTP: (Door(2525), Door(2465, True)),
    Service.POP3: (Door(1110), Door(1995, True)),
}

# Numbers tried from the high one on.
_TRIES = 50


def trouble(addresses: Sequence[str], port: int, ours: Container[int] = ()) -> str:
    """Why a port cannot be opened, as a predicate ("is in use ..."); "" if it can.

    `ours`: ports of the running program, which will give them back.
    """
    if not port or port in ours:
        return ""
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                _prepare(sock)
                sock.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # the address is at fault, not the port
            return _why(error, address, port)
    return ""


def _prepare(sock: socket.socket) -> None:
    """As a listener does, so that what is free for it is free here."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)  # Windows
    if exclusive is not None:
        sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _why(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        holder = Holder.of_port(port, address)
        return f"is in use by {holder.text if holder else 'another program'}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "may not be opened by this user"
    return f"cannot be opened ({error.strerror or error})"


def proposal(
    service: Service, addresses: Sequence[str], has_tls: bool, ours: Container[int] = ()
) -> Tuple[Tuple[Door, ...], List[str]]:
    """Free ports for a service, best the usual ones; and sentences about usual ones that are in use."""
    found, notes = [], []
    for door in (_IN_CONTAINER if machine.is_container() and not machine.is_root() else _USUAL)[service]:
        if door.implicit and not has_tls:
            continue
        why = trouble(addresses, door.number, ours)
        if not why:
            found.append(door)
        elif "in use" in why:
            notes.append(f"Port {door.number} {why}.")
    if found:
        return tuple(found), notes
    high = next((n for n in range(_HIGH[service], _HIGH[service] + _TRIES) if not trouble(addresses, n, ours)), 0)
    return (Door(high),), notes
