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
import sys
import threading
from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

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


def _configure_postfix(directory: pathlib.Path, port: int, relay: int) -> None:
    """main.cf and master.cf of a Postfix with its default durable queue.

    `relay`: the port of the server that gets everything; 0: all is put on hold.
    """
    target = f"relayhost = [127.0.0.1]:{relay}" if relay else "smtpd_client_restrictions = static:HOLD"
    config, queue, data = (directory / name for name in ("config", "queue", "data"))
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n"
        "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nmydestination =\n"
        f"myhostname = bench.contoso.com\n{target}\nalias_maps =\n"
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
def postfix(directory: pathlib.Path, relay: int = 0) -> Iterator[Server]:
    """A Postfix of its own that keeps all it accepts in its hold queue, or relays it to a port of this machine."""
    if not shutil.which("postfix") or os.geteuid() != 0 or "postfix" not in {entry.pw_name for entry in pwd.getpwall()}:
        raise Skipped("not compared with Postfix: it is not installed (apt install postfix), or this is not root")
    for name in ("config", "queue", "data"):
        (directory / name).mkdir()
    shutil.chown(directory / "data", "postfix")
    certificate, key = tls.self_signed(["localhost"])
    (directory / "tls.pem").write_bytes(key + certificate)
    port = free_port()
    _configure_postfix(directory, port, relay)
    words = ["postfix", "-c", str(directory / "config")]
    logins = _Logins(directory / "logins")
    subprocess.run([*words, "start"], check=True, capture_output=True)
    try:
        wait_until(lambda: answers(port), what="Postfix")
        master = int((directory / "queue/pid/master.pid").read_text())
        yield Server(port, Tree(master), lambda: _files(directory / "queue/hold"), delivers=bool(relay))
    finally:
        subprocess.run([*words, "stop"], capture_output=True)
        logins.shutdown()
        logins.server_close()


@contextlib.contextmanager
def relaying_postfix(directory: pathlib.Path) -> Iterator[Server]:
    """A Postfix that relays at once to a server that takes as long for a message as the tenant for a request."""
    port = free_port()
    sink = [sys.executable, str(pathlib.Path(__file__).with_name("sink.py")), str(port), str(LATENCY)]
    with _process(sink, port), postfix(directory, relay=port) as server:
        yield server


@contextlib.contextmanager
def aiosmtpd(directory: pathlib.Path) -> Iterator[Server]:
    """What aiosmtpd brings along to store mail in a Maildir: about the least that a server in Python does."""
    venv, maildir, port = directory / "venv", directory / "maildir", free_port()
    for words in ([sys.executable, "-m", "venv", str(venv)], [f"{venv}/bin/pip", "install", "-q", "aiosmtpd"]):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Skipped(f"not compared with aiosmtpd: it cannot be installed here: {reason}")
    handler = ["-c", "aiosmtpd.handlers.Mailbox", "-l", f"127.0.0.1:{port}", str(maildir)]
    with _process([f"{venv}/bin/aiosmtpd", "-n", *handler], port) as process:
        yield Server(port, Tree(process.pid), lambda: _files(maildir / "new"))


@contextlib.contextmanager
def _process(words: Sequence[str], port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that runs meanwhile."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), what=words[0])
        yield process
    finally:
        process.terminate()
        process.wait()


def _files(directory: pathlib.Path) -> int:
    return sum(len(names) for _, _, names in os.walk(directory))
