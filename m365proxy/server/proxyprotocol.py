"""The PROXY protocol, versions 1 and 2: by it a load balancer says whose connection it passes on.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt.  The header comes
before everything else, TLS included, so not one octet after it is read.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Callable

# What a version 2 header begins with.  No header of either version is shorter.
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

# The longest version 1 header with its CRLF.
_LONGEST_LINE = 107

# Octets behind a version 2 header's length that are read: the addresses and any usual extension (TLV).
_LONGEST_REST = 2048

_LINE = re.compile(r"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n")

# Version 2: address family and transport -> octets of one address.
_STREAMS = {0x11: 4, 0x21: 16}
_WITHOUT_ADDRESS = {0x00, 0x31}  # unspecified, AF_UNIX stream


class Malformed(ValueError):
    """This is no PROXY header, or none for a TCP connection."""


def read(receive: Callable[[int], bytes]) -> str:
    """Read one header; the client's address as given there, or "".

    "" is for what a proxy does on its own account (LOCAL, such as a health
    check) and for a client it knows no address of (UNKNOWN).  `receive(n)`
    returns exactly n octets and nothing beyond them; what it raises passes
    through.  Malformed for anything else than a header.
    """
    head = receive(len(SIGNATURE))
    if head == SIGNATURE:
        return _second(receive)
    if head.startswith(b"PROXY "):
        return _first(head, receive)
    raise Malformed("no header")


def _first(head: bytes, receive: Callable[[int], bytes]) -> str:
    line = head
    while not line.endswith(b"\r\n"):
        if len(line) >= _LONGEST_LINE:
            raise Malformed("the line has no end")
        line += receive(1)
    if re.match(rb"PROXY UNKNOWN[ \r]", line):
        return ""
    found = _LINE.fullmatch(line.decode("latin-1"))
    if not found:
        raise Malformed("the line is not of the form")
    family, source, target, *ports = found.groups()
    if any(int(port) > 65535 for port in ports):
        raise Malformed("no port")
    try:
        addresses = [ipaddress.ip_address(text) for text in (source, target)]
    except ValueError:
        raise Malformed("no address") from None
    if {address.version for address in addresses} != {4 if family == "TCP4" else 6}:
        raise Malformed("the address is of another family")
    return str(addresses[0])


def _second(receive: Callable[[int], bytes]) -> str:
    command, stream, *size = receive(4)
    length = size[0] * 256 + size[1]
    if length > _LONGEST_REST:
        raise Malformed("too long")
    rest = receive(length) if length else b""
    if command == 0x20:  # LOCAL: whatever follows is to be skipped
        return ""
    if command != 0x21:
        raise Malformed("neither LOCAL nor PROXY of version 2")
    if stream in _WITHOUT_ADDRESS:
        return ""
    octets = _STREAMS.get(stream)
    if octets is None:
        raise Malformed("no TCP connection")
    if length < 2 * octets + 4:  # two addresses and two ports
        raise Malformed("too short")
    return str(ipaddress.ip_address(rest[:octets]))
