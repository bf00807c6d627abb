"""The servers that are compared: this program, Postfix, and those that users might take instead."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
from dataclasses import dataclass
from typing import Callable, Iterator

from bench.measuring import Skipped, Tree
from program import ALERTS, PASSWORD, SCANS, Program
from waiting import wait_until

from m365proxy.server import tls

LATENCY = 0.25  # seconds for each request to the stand-in tenant, where it does not answer at once


@dataclass
class Server:
    """Something that takes mail: where, which processes, and how many messages it holds."""

    port: int
    tree: Tree
    held: Callable[[], int]
    delivers: bool = False

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """What it does in the background, it does in its own turns only."""
        if self.delivers:
            self.tree.signal(signal.SIGCONT)
        try:
            yield
        finally:
            if self.delivers:
                self.tree.signal(signal.SIGSTOP)


@contextlib.contextmanager
def running(
    directory: pathlib.Path, mailboxes=(ALERTS, SCANS), signed_in: bool = True, **settings
) -> Iterator[Program]:
    """This program; loopback may send without a login."""
    directory.mkdir(exist_ok=True)
    program = Program(
        directory,
        mailboxes=[{"username": name, "password": PASSWORD} for name in mailboxes],
        relay_networks={"127.0.0.0/8": ALERTS},
        forked=False,  # what a fork shares with its parent is not its own
        **settings,
    )
    for name in mailboxes:
        program.sandbox.tenant.add_mailbox(name)
    try:
        if signed_in:
            program.sign_in()
        yield program.start()
    finally:
        if program.process is not None:
            Tree(program.process.pid).signal(signal.SIGCONT)
        program.close()


@contextlib.contextmanager
def ours(directory: pathlib.Path, delivering: bool) -> Iterator[Server]:
    """This program as a server of acceptance: delivering to a tenant at 250 ms a request, or without a sign-in."""
    with running(directory, signed_in=delivering) as program:
        program.sandbox.latency = LATENCY
        tree = Tree(program.process.pid)
        yield Server(program.port("smtp"), tree, lambda: len(program.queue()), delivering)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def answers(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            return client.recv(1)
    except OSError:
        return b""


class _Logins(socketserver.ThreadingUnixStreamServer):
    """Whom Postfix asks about passwords, by Dovecot's protocol for clients; the one password is right."""

    daemon_threads = True

    class RequestHandlerClass(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(
                b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t" + b"0" * 32 + b"\nDONE\n"
            )
            for line in self.rfile:
                words = line.rstrip(b"\n").split(b"\t")
                if words[0] == b"AUTH":
                    self.wfile.write(b"OK\t%s\tuser=%s\n" % (words[1], ALERTS.encode()))

    def __init__(self, path: pathlib.Path):
        super().__init__(str(path), self.RequestHandlerClass)
        path.chmod(0o666)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def _configure_postfix(directory: pathlib.Path, port: int) -> None:
    """main.cf and master.cf of a Postfix with its default durable queue, which puts everything on hold."""
    config, queue, data = (directory / name for name in ("config", "queue", "data"))
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n"
        "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nmydestination =\n"
        "myhostname = bench.contoso.com\nsmtpd_client_restrictions = static:HOLD\nalias_maps =\n"
        "smtpd_relay_restrictions = permit_mynetworks, reject\ndefault_process_limit = 100\n"
        f"maillog_file = {directory}/log\nmaillog_file_prefixes = {directory}\n"
        "smtpd_client_connection_count_limit = 0\n"
        f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {directory}/tls.pem\n"
        f"smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {directory}/logins\n"
    )
    stock = pathlib.Path("/usr/share/postfix/master.cf.dist").read_text().splitlines()
    # Without the machine's port 25, and without chroot.
    services = [line for line in stock if not line.startswith("smtp      inet")]
    services = [re.sub(r"^((\S+\s+){4})y(?=\s)", r"\1n", line) for line in services]
    (config / "master.cf").write_text(f"127.0.0.1:{port} inet n - n - - smtpd\n" + "\n".join(services) + "\n")


@contextlib.contextmanager
def postfix(directory: pathlib.Path) -> Iterator[Server]:
    """A Postfix of its own that keeps all it accepts in its hold queue."""
    if not shutil.which("postfix") or os.geteuid() != 0 or "postfix" not in {entry.pw_name for entry in pwd.getpwall()}:
        raise Skipped("not compared with Postfix: it is not installed (apt install postfix), or this is not root")
    for name in ("config", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    certificate, key = tls.self_signed(["localhost"])
    (directory / "tls.pem").write_bytes(key + certificate)
    port = free_port()
    _configure_postfix(directory, port)
    words = ["postfix", "-c", str(directory / "config")]
    logins = _Logins(directory / "logins")
    subprocess.run([*words, "start"], check=True, capture_output=True)
    try:
        wait_until(lambda: answers(port), what="Postfix")
        master = int((directory / "queue/pid/master.pid").read_text())
        yield Server(port, Tree(master), lambda: _files(directory / "queue/hold"))
    finally:
        subprocess.run([*words, "stop"], capture_output=True)
        logins.shutdown()
        logins.server_close()


def _files(directory: pathlib.Path) -> int:
    return sum(len(names) for _, _, names in os.walk(directory))
