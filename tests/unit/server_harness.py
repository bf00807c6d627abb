"""Listeners whose sessions do next to nothing, and clients of theirs."""

from __future__ import annotations

import socket
import ssl
import threading

from waiting import PATIENCE

from m365proxy.server.client import Client, ListenerSettings, ServedProtocol
from m365proxy.server.connection import Connection
from m365proxy.server.connections import Connections
from m365proxy.server.listener import Listener
from m365proxy.system.choices import TlsMode

BUSY = b"421 4.3.2 No more connections are taken for now, try again in a minute\r\n"
PROTOCOLS = {
    "smtp": ServedProtocol("smtp", busy=BUSY, not_allowed=b"554 5.7.1 Not allowed\r\n"),
    "pop3": ServedProtocol(
        "pop3",
        busy=b"-ERR [SYS/TEMP] No more connections are taken for now\r\n",
        not_allowed=b"-ERR [SYS/PERM] Not allowed\r\n",
    ),
}


class Echo:
    """Says the peer, then sends every line back until "end"; "fault" breaks it."""

    def __init__(self, client):
        self.client = client
        self.connection = client.connection

    def run(self):
        self.connection.write(self.client.peer.encode() + b"\r\n")
        while True:
            line = self.connection.read_line(100, 30)
            if line == b"end":
                return
            if line == b"fault":
                raise KeyError("what")
            self.connection.write(line + b"\r\n")


def bound(session=Echo, connections=None, address="127.0.0.1", port=0, protocol="smtp", tls=None, **settings):
    """A Listener that is not started."""
    if "tls_mode" in settings:
        settings["tls_mode"] = TlsMode(settings["tls_mode"])
    settings = ListenerSettings(PROTOCOLS[protocol], **settings)
    return Listener(address, port, settings, session, Connections() if connections is None else connections, tls)


def connect(listener):
    return socket.create_connection(listener.server_address[:2], timeout=PATIENCE)


def line(sock):
    data = b""
    while not data.endswith(b"\n"):
        octet = sock.recv(1)
        if not octet:
            break
        data += octet
    return data


def client_of(peer, protocol="smtp"):
    """A client that has no socket."""
    return Client(Connection(None, peer), ListenerSettings(PROTOCOLS[protocol]))


def session_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(("smtp ", "pop3 ", "accept "))]


class connected:
    """Two ends of a TCP connection that no listener has seen."""

    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0)) as door:
            self.theirs = socket.create_connection(door.getsockname(), timeout=10)
            return door.accept()[0], self.theirs

    def __exit__(self, *_):
        self.theirs.close()


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def old_tls(talk, ciphers="DEFAULT:@SECLEVEL=0"):
    """Have a smtp_harness.Talk begin TLS 1.0."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    talk._file.close()
    talk.socket = context.wrap_socket(talk.socket)
    talk._file = talk.socket.makefile("rb")
    return talk
