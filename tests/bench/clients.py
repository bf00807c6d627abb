"""Clients in Python, for what smtp-source cannot do.

    python clients.py PORT SESSIONS MESSAGES RESPONSE SENDER RECIPIENT

sends messages of 4 KB, each in a connection of its own with STARTTLS and AUTH PLAIN; RESPONSE is its initial response.
"""

from __future__ import annotations

import re
import socket
import ssl
import sys
import threading

_END_OF_REPLY = re.compile(rb"^\d{3}( .*)?\r\n\Z", re.MULTILINE)
_TEXT = b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 52 + b".\r\n"


def trusting() -> ssl.SSLContext:
    """Whatever the server's certificate is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def reply(client: socket.socket) -> bytes:
    """An SMTP reply, with all its lines."""
    received = b""
    while not _END_OF_REPLY.search(received):
        data = client.recv(4096)
        assert data, received
        received += data
    return received


def ask(client: socket.socket, octets: bytes) -> None:
    """Send a command or a text, whose reply must be no refusal."""
    client.sendall(octets)
    said = reply(client)
    assert said[:1] in b"23", said


def greeted(port: int, *commands: bytes) -> socket.socket:
    """A connection on which the server has said its name, and answered to commands."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    reply(client)
    for command in commands:
        ask(client, command + b"\r\n")
    return client


def _submit(port: int, context: ssl.SSLContext, dialogue: bytes) -> None:
    with context.wrap_socket(greeted(port, b"EHLO x", b"STARTTLS")) as client:
        for command in [*dialogue.splitlines(), b"DATA"]:
            ask(client, command + b"\r\n")
        ask(client, _TEXT)
        client.sendall(b"QUIT\r\n")


def main(port: str, sessions: str, messages: str, response: str, sender: str, recipient: str) -> None:
    context = trusting()
    dialogue = f"EHLO x\nAUTH PLAIN {response}\nMAIL FROM:<{sender}>\nRCPT TO:<{recipient}>".encode()

    def submit() -> None:
        for _ in range(int(messages) // int(sessions)):
            _submit(int(port), context, dialogue)

    threads = [threading.Thread(target=submit) for _ in range(int(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
