"""PROXY headers as a pure function; behind a listener they are in test_server_proxy.py."""

import io
import ipaddress
import struct

import pytest
from cases import each
from hypothesis import given, settings
from hypothesis import strategies as st

from m365proxy.server import proxyprotocol
from m365proxy.server.proxyprotocol import SIGNATURE, Malformed

REST = b"\x16\x03\x01 what the client sent"


class End(Exception):
    """The client sent no more."""


def read(octets):
    """(what the reader says, what it left)."""
    file = io.BytesIO(octets)

    def receive(count):
        assert count > 0
        data = file.read(count)
        if len(data) < count:
            raise End
        return data

    return proxyprotocol.read(receive), file.read()


def second(command=0x21, stream=0x11, source="192.0.2.7", target="198.51.100.1", more=b"", length=None):
    rest = b""
    if source:
        rest = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed + struct.pack("!HH", 5, 25)
    rest += more
    return SIGNATURE + bytes([command, stream]) + struct.pack("!H", len(rest) if length is None else length) + rest


SIX = {"stream": 0x21, "source": "2001:db8::7", "target": "2001:db8::1"}


@each(
    "header, client",
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 25\r\n", "192.0.2.7"),
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
        (b"PROXY TCP6 2001:DB8::7 ::1 1 25\r\n", "2001:db8::7"),
        (b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n", "ffff:" * 7 + "ffff"),
        (b"PROXY UNKNOWN\r\n", ""),
        (b"PROXY UNKNOWN 192.0.2.7 anything at all\r\n", ""),
        (second(), "192.0.2.7"),
        (second(**SIX), "2001:db8::7"),
        (second(more=b"\x04\0\x03abc"), "192.0.2.7"),
        (second(**SIX, more=b"\x02" * 1000), "2001:db8::7"),
        (second(command=0x20), ""),
        (second(command=0x20, stream=0, source=""), ""),
        (second(command=0x20, stream=0xFF, source="", more=b"x"), ""),
        (second(stream=0x00, source=""), ""),
        (second(stream=0x31, source="", more=bytes(216)), ""),
    ],
)
def test_headers(header, client):
    assert read(header + REST) == (client, REST)
    for end in range(len(header)):
        with pytest.raises(End):
            read(header[:end])


@each(
    "octets",
    [
        b"EHLO device.contoso.com\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"proxy TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY\tTCP4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 25\n\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 192.0.2.777 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 1 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7 2001:db8::1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 25\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 25\r\n",
        b"PROXY TCP5 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 \xb2.0.2.7 198.51.100.1 1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 " + b"2" * 70 + b"\r\n",
        b"PROXY UNKNOWN " + b"x" * 100,
        SIGNATURE[:-1] + b"x" + bytes(20),
        second(command=0x11),
        second(command=0x22),
        second(stream=0x12),
        second(stream=0x22, source="2001:db8::7", target="::1"),
        second(stream=0x32, source="", more=bytes(216)),
        second(stream=0x10),
        second(stream=0x13),
        second(length=11),
        second(stream=0x21),
        second(more=b"x" * 3000),
        second(command=0x20, more=b"x" * 3000),
    ],
)
def test_what_is_no_header(octets):
    with pytest.raises(Malformed):
        read(octets + REST)


header_octets = st.lists(
    st.sampled_from(
        [
            SIGNATURE,
            b"PROXY ",
            b"TCP4 ",
            b"TCP6 ",
            b"UNKNOWN",
            b"192.0.2.7 ",
            b"::1 ",
            b"2001:db8::7 ",
            b"25",
            b" ",
            b"\r\n",
            b"\x21\x11\0\x0c",
            b"\x21\x21\0\x24",
            b"\x20\0\0\0",
            b"\xff",
            b"\0" * 12,
            b"\0" * 36,
            b"65536",
        ]
    )
    | st.binary(max_size=4),
    max_size=12,
).map(b"".join)


@settings(max_examples=300, deadline=None, database=None)
@given(header_octets | st.binary(max_size=300))
def test_any_octets(octets):
    try:
        client, left = read(octets)
    except (Malformed, End):
        return
    assert octets.endswith(left)
    assert octets.startswith((b"PROXY ", SIGNATURE))
    assert not client or ipaddress.ip_address(client)
