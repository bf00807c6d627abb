"""Resident memory: idle, with many sessions and after them, and while a large mail is taken and relayed.

The first mail loads what delivery needs, and a receiver's first session makes memory its own that it had in common
with the others.  So what a crowd or a large mail takes, and leaves, is compared with the idle program after some mail.
"""

from __future__ import annotations

import base64
import contextlib
import time
from typing import Iterator, List

from bench.clients import ask, greeted, trusting
from bench.growth import allow_descriptors
from bench.measuring import MEGABYTE, Bench, Tree, line, say, title
from bench.servers import running
from program import ALERTS, SCANS, Program
from waiting import wait_until

ATTACHMENT = 80 * MEGABYTE
SETTLE = 15  # seconds: the sign-in is refreshed, what that loaded and a rush has left is given back


def _report(what: str, megabytes: float, idle: float, budget: int) -> None:
    line(what, [megabytes], [idle], form="{:.1f} MB", note=f"{megabytes - idle:+.1f} MB (budget {budget:+d} MB)")


def _sessions(program: Program, count: int, tls: bool) -> List:
    """Idle sessions behind their EHLO."""
    port, context = program.port("smtp"), trusting()
    if not tls:
        return [greeted(port, b"EHLO x") for _ in range(count)]
    clients = [context.wrap_socket(greeted(port, b"EHLO x", b"STARTTLS")) for _ in range(count)]
    for client in clients:
        ask(client, b"EHLO x\r\n")
    return clients


def _crowds(program: Program, tree: Tree, idle: float, count: int, rest: float) -> None:
    for tls, with_them, after in ((False, 40, 8), (True, 90, 8)):
        kind = "with TLS" if tls else "plain"
        clients = _sessions(program, count, tls)
        _report(f"{count} sessions, {kind}", tree.memory(), idle, with_them)
        for client in clients:
            client.close()
        wait_until(lambda: program.status()["connections"] == 0, what="the end of the sessions")
        time.sleep(rest)
        _report(f"{rest:.0f} s after they have gone", tree.memory(), idle, after)
        say(f"  {tree.threads()} threads, {tree.descriptors()} descriptors")


def _large_mail() -> Iterator[bytes]:
    """A mail with one file, in pieces."""
    yield f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: scan\r\nMIME-Version: 1.0\r\n".encode()
    yield b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b\r\n'
    yield b'Content-Type: application/pdf; name="scan.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
    yield b'Content-Disposition: attachment; filename="scan.pdf"\r\n\r\n'
    piece = base64.encodebytes(b"0123456789abcdef" * 3 * 19).replace(b"\n", b"\r\n") * 64
    octets = 16 * 3 * 19 * 64
    for _ in range(ATTACHMENT // octets):
        yield piece
    yield b"--b--\r\n.\r\n"


def _relay(program: Program, tree: Tree) -> None:
    """Peaks of the main process while it takes the mail, and while it relays it."""
    delivered = program.sandbox.tenant.delivered
    before = len(delivered)
    program.sandbox.offline()
    tree.forget_peak()
    idle = tree.peak()
    commands = (b"EHLO x", b"MAIL FROM:<%s>" % ALERTS.encode(), b"RCPT TO:<%s>" % SCANS.encode())
    with contextlib.closing(greeted(program.port("smtp"), *commands, b"DATA")) as client:
        *pieces, end = _large_mail()
        for piece in pieces:
            client.sendall(piece)
        client.settimeout(300)
        ask(client, end)
    _report(f"most while a file of {ATTACHMENT // MEGABYTE} MB is taken", tree.peak(), idle, 12)
    tree.forget_peak()
    program.sandbox.online()
    wait_until(lambda: len(delivered) == before + 1 and not program.queue(), 300, "the delivery of the large mail")
    _report("most while it is relayed", tree.peak(), idle, 12)


def _first_mails(program: Program, tree: Tree, idle: float) -> float:
    """MB after what every program gets sooner or later: some mail, by plain sessions and with TLS."""
    text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: scan\r\n\r\nA scan.\r\n.\r\n".encode()
    commands = (f"MAIL FROM:<{ALERTS}>".encode(), f"RCPT TO:<{SCANS}>".encode(), b"DATA")
    for number in range(40):
        client = _sessions(program, 1, tls=number % 4 > 1)[0]
        with contextlib.closing(client):
            for octets in (*(command + b"\r\n" for command in commands), text):
                ask(client, octets)
    wait_until(lambda: not program.queue(), 100, "the delivery of the first mails")
    time.sleep(SETTLE)
    warm = tree.memory()
    _report("idle after the first 40 mails", warm, idle, 10)
    for pid in tree.pids():
        if pid != tree.root:
            say(f"  of this, a process beside the main one: {Tree(pid).private():.1f} MB (budget 3 MB)")
    return warm


def memory(bench: Bench) -> None:
    """idle, after some mail, while one of 80 MB is relayed, with 1,000 sessions, and 30 s after 1,000 with TLS"""
    allow_descriptors()
    title("Memory, signed in", "m365proxy", "idle")
    with running(bench.place("memory"), limits={"connections": 1100}) as program:
        tree = Tree(program.process.pid)
        time.sleep(SETTLE)
        idle = tree.memory()
        say(f"idle: {idle:.1f} MB in {len(tree.pids())} processes, {tree.threads()} threads (budget 38 MB)")
        warm = _first_mails(program, tree, idle)
        _relay(program, tree)
        _crowds(program, tree, warm, 1000, bench.choose(30, 15))


PARTS = (memory,)
