"""What a certificate says of itself: its end and its names, read from DER (ITU-T X.690 and RFC 5280, section 4.1).

The library cryptography reads all of X.509, and takes 7.5 MB for it, which a program that runs for months would keep.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from typing import List, NamedTuple, Tuple

# Tags: X.690, 8.1.2; RFC 5280, 4.1 and 4.2.1.6.
_SEQUENCE, _OCTETS, _OID, _UTC_TIME, _LATER_TIME = 0x30, 0x04, 0x06, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87

# 2.5.29.17, subjectAltName.
_ALTERNATIVE_NAMES = bytes((0x55, 0x1D, 0x11))

# A year of two digits from this on is of the last century: RFC 5280, 4.1.2.5.1.
_CENTURY = 50

_TIME = re.compile(rb"(\d\d|\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")


class CertificateNames(NamedTuple):
    """Whom a certificate is for, as clients compare it; `is_self_signed`: clients trust it only if they are told to."""

    names: Tuple[str, ...]
    addresses: Tuple[str, ...]
    is_self_signed: bool


class Certificate(NamedTuple):
    end: datetime.datetime  # UTC
    holder: CertificateNames


def read(der: bytes) -> Certificate:
    """ValueError if it is no certificate.  Its signature is not looked at."""
    fields = _parts(_one(_one(der, _SEQUENCE), _SEQUENCE))
    if fields[:1] and fields[0][0] == _VERSION:
        del fields[0]
    if len(fields) < 6:
        raise ValueError("a certificate without all of its fields")
    _serial, _algorithm, (_, issuer), (_, validity), (_, subject), _key, *rest = fields
    names = dict(rest).get(_EXTENSIONS, b"")
    found = _alternative_names(names) if names else []
    holder = CertificateNames(
        tuple(value.decode("ascii") for tag, value in found if tag == _DNS_NAME),
        tuple(str(ipaddress.ip_address(value)) for tag, value in found if tag == _IP_ADDRESS),
        issuer == subject,
    )
    return Certificate(_time(*_parts(validity)[-1]), holder)


def _alternative_names(extensions: bytes) -> List[Tuple[int, bytes]]:
    for _, extension in _parts(_one(extensions, _SEQUENCE)):
        parts = _parts(extension)
        if parts[0] == (_OID, _ALTERNATIVE_NAMES) and parts[-1][0] == _OCTETS:
            return _parts(_one(parts[-1][1], _SEQUENCE))
    return []


def _time(tag: int, value: bytes) -> datetime.datetime:
    found = _TIME.fullmatch(value)
    if not found or tag != (_UTC_TIME if len(found[1]) == 2 else _LATER_TIME):
        raise ValueError("not a time")
    year, month, day, hour, minute, second = map(int, found.groups())
    if tag == _UTC_TIME:
        year += 1900 if year >= _CENTURY else 2000
    return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc)


def _one(data: bytes, tag: int) -> bytes:
    """The contents of the first thing in `data`, which has this tag."""
    found = _parts(data)
    if found[0][0] != tag:
        raise ValueError("another thing than a certificate has there")
    return found[0][1]


def _parts(data: bytes) -> List[Tuple[int, bytes]]:
    """The things in `data`, at least one, each with its tag and its contents."""
    found: List[Tuple[int, bytes]] = []
    at = 0
    while at < len(data) or not found:
        head = data[at : at + 2]
        if len(head) < 2 or head[0] & 0x1F == 0x1F or head[1] == 0x80:
            raise ValueError("not DER")
        at += 2
        size = head[1]
        if size > 0x80:  # so many octets have the length
            size, at = int.from_bytes(data[at : at + size - 0x80], "big"), at + size - 0x80
        if at + size > len(data):
            raise ValueError("DER that breaks off")
        found.append((head[0], data[at : at + size]))
        at += size
    return found
