"""Many connections, most of them slow or silent: the others deliver as usual, and memory stays bounded.

    python tests/bench/connections.py [--slow N] [--normal N]

The real program as a child process.  Printed: its memory before, with the slow
clients and after them; how long the normal ones take alone and beside the slow
ones.  Linux only.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import pathlib
import resource
import smtplib
import socket
import ssl
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from program import ALERTS, PASSWORD, SCANS, Program, wait_until  # noqa: E402

PLAIN = base64.b64encode(f"\0{ALERTS}\0{PASSWORD}".encode())
TO_DATA = b"EHLO x\r\nAUTH PLAIN %s\r\nMAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (PLAIN, SCANS.encode())


def memory(program):
    """Resident MB of the program."""
    lines = pathlib.Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _until(client, end):
    received = b""
    while not received.endswith(end):
        data = client.recv(4096)
        assert data, received
        received += data


def _trusting():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Slow:
    """Clients that hold on to their connections: silent, dripping commands or data, stuck in TLS or idle behind it."""

    KINDS = ("silent", "command", "data", "handshake", "tls")

    def __init__(self, port, count):
        self._port = port
        self._dripping = []
        self._over = threading.Event()
        self._context = _trusting()
        self.sockets = [getattr(self, "_" + self.KINDS[number % len(self.KINDS)])() for number in range(count)]
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()

    def _silent(self):
        client = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        _until(client, b"\r\n")
        return client

    def _command(self):
        client = self._silent()
        self._dripping.append(client)
        return client

    def _data(self):
        client = self._silent()
        client.sendall(TO_DATA)
        _until(client, b"dot\r\n")
        self._dripping.append(client)
        return client

    def _handshake(self):
        client = self._silent()
        client.sendall(b"STARTTLS\r\n")
        _until(client, b"TLS\r\n")
        client.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        return client

    def _tls(self):
        client = self._silent()
        client.sendall(b"STARTTLS\r\n")
        _until(client, b"TLS\r\n")
        return self._context.wrap_socket(client)

    def _drip(self):
        while not self._over.wait(0.5):
            for client in self._dripping:
                with contextlib.suppress(OSError):  # it was cut off, as it should be
                    client.send(b"x")

    def close(self):
        self._over.set()
        self._thread.join()
        for client in self.sockets:
            client.close()


def deliver(program, count):
    """`count` clients at once, each with TLS, sign-in and a message; seconds until the last had its 250."""
    context = _trusting()
    wrong = []

    def submit(number):
        try:
            with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
                smtp.starttls(context=context)
                smtp.login(ALERTS, PASSWORD)
                smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nSubject: {number}\r\n\r\nx\r\n")
        except (OSError, smtplib.SMTPException) as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(count)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    assert not wrong, wrong
    return seconds


def measure(program, slow, normal, row=print):
    """The clients, closed again; asserts that all normal mail has arrived."""
    delivered = program.sandbox.tenant.delivered

    def arrived(count):
        wait_until(lambda: len(delivered) == count and not program.queue(), 120, f"{count} messages")

    deliver(program, 1)  # libraries are loaded, ways learnt
    arrived(1)
    row(f"{'resident memory before':<58} {memory(program):>8.1f} MB")
    row(f"{f'{normal} clients alone':<58} {deliver(program, normal):>8.2f} s")
    arrived(1 + normal)
    row(f"{'resident memory after them':<58} {memory(program):>8.1f} MB")
    clients = Slow(program.port("smtp"), slow)
    try:
        row(f"{f'resident memory with {slow} slow ones':<58} {memory(program):>8.1f} MB")
        row(f"{f'{normal} clients beside them':<58} {deliver(program, normal):>8.2f} s")
        arrived(1 + 2 * normal)
        row(f"{'resident memory then':<58} {memory(program):>8.1f} MB")
        return clients
    except BaseException:
        clients.close()
        raise


def threads_and_files(program):
    process = pathlib.Path(f"/proc/{program.process.pid}")
    return tuple(len(list((process / of).iterdir())) for of in ("task", "fd"))


def crowd(program, count, tls):
    """Idle connections, closed at once; what is left of them after 12 seconds."""
    kind = "TLS" if tls else "plain"
    before = threads_and_files(program)
    clients = [socket.create_connection(("127.0.0.1", program.port("smtp")), timeout=60) for _ in range(count)]
    for number, client in enumerate(clients):
        _until(client, b"\r\n")
        if tls:
            client.sendall(b"STARTTLS\r\n")
            _until(client, b"TLS\r\n")
            client = clients[number] = _trusting().wrap_socket(client)
        client.sendall(b"EHLO x\r\n")
        _until(client, b"HELP\r\n")
    print(f"{f'resident memory with {count} idle ones, {kind}':<58} {memory(program):>8.1f} MB")
    for client in clients:
        client.close()
    time.sleep(12)
    print(f"{'resident memory 12 s after they have gone':<58} {memory(program):>8.1f} MB")
    print(f"{'threads, descriptors before and after':<58} {before} {threads_and_files(program)}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--slow", type=int, default=900)
    options.add_argument("--normal", type=int, default=100)
    chosen = options.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192) if most > 0 else 8192, most))
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-") as name:
        program = Program(name, limits={"connections": chosen.slow + chosen.normal})
        try:
            program.sign_in().start()
            measure(program, chosen.slow, chosen.normal).close()
            wait_until(lambda: program.status()["connections"] == 0, what="the end of the sessions")
            time.sleep(12)
            print(f"{'resident memory 12 s after they have gone':<58} {memory(program):>8.1f} MB")
            for kind in ("plain", "TLS"):
                crowd(program, chosen.slow + chosen.normal, kind == "TLS")
        finally:
            program.close()


if __name__ == "__main__":
    main()
