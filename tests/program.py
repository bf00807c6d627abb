"""The real program as a child process, against the stand-in tenant in this one.

M365PROXY_TEST_COMMAND names another way to start it (an installed package, the
single file); without it the checkout is used.
"""

import contextlib
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import spawner
from waiting import wait_until

from m365proxy.account import Account
from m365proxy.config import load as configuration
from m365proxy.sandbox import Sandbox
from m365proxy.server import tls
from m365proxy.system import control, files
from m365proxy.system.outbound import Outbound

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMAND = shlex.split(os.environ.get("M365PROXY_TEST_COMMAND", "")) or [sys.executable, spawner.PROGRAM]

# What runs a line of a shell, where the program is: the single file is tested in a root of its own.
_SHELL = [*(COMMAND[:2] if COMMAND[0] == "chroot" else ()), "sh", "-c"]

# Windows has no signal that tells a program to end: it is ended there, as Task Scheduler does it.  A kill is the same.
STOPPED = 1 if sys.platform == "win32" else 0  # its exit status
KILL = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL

RELAY, ALERTS, SCANS = "relay@contoso.com", "alerts@contoso.com", "scans@contoso.com"
PASSWORD = "drawer full of devices"

# What the machine's own environment says of the network, and pytest-xdist's of the screen, must not decide a test.
_NOT_OURS = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "requests_ca_bundle",
    "curl_ca_bundle",
    "ssl_cert_file",
    "columns",
    "lines",
)


class Program:
    """One installation: directory, config, tenant; started and stopped at will."""

    def __init__(self, directory, beside=None, forked=True, **settings):
        """`beside`: another installation whose tenant is used.

        `forked`: whether it may be a fork of a process that has all modules (spawner); not where memory, or what is
        imported when, is looked at, or where something is changed before others copy it.
        """
        self.directory = pathlib.Path(directory)
        self.beside = beside
        self.sandbox = beside.sandbox if beside else Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY)
        if not beside:
            self.sandbox.start()
        certificate, key = tls.self_signed(["localhost", "127.0.0.1"])
        self.certificate = self.directory / "cert.pem"
        self.certificate.write_bytes(certificate)
        (self.directory / "key.pem").write_bytes(key)
        self.config = self.directory / "config.json"
        self.settings = {
            "user": RELAY,
            "tenant_id": self.sandbox.tenant_id,
            "client_id": self.sandbox.client_id,
            "authority_url": self.sandbox.authority_url,
            "graph_url": self.sandbox.graph_url,
            "ca_file": self.sandbox.ca_file,
            "mailboxes": [{"username": ALERTS, "password": PASSWORD}, {"username": SCANS, "password": PASSWORD}],
            "smtp_port": 0,
            "pop3_port": 0,
            "tls": {"tls_cert": "cert.pem", "tls_key": "key.pem"},
            "state_dir": "state",
            "queue": {"min_free_mb": 0},
        }
        self.configure(**settings)
        self.environ = {name: value for name, value in os.environ.items() if name.lower() not in _NOT_OURS}
        self.environ.update(HOME=str(self.directory), PYTHONUNBUFFERED="1", PYTHONWARNINGS="default")
        self.process = None
        self.words = ()  # the command with its options, behind --config; `run` if there are none
        self._forked = forked
        self.log = self.directory / "log"

    def configure(self, **settings):
        self.settings.update(settings)
        self.config.write_text(json.dumps(self.settings))
        self.config.chmod(0o600)

    def command(self, *words, stdin="", config=True, timeout=60, **environ):
        """Run one command to its end; the completed process with its texts."""
        chosen = ["--config", str(self.config)] if config else []
        env = dict(self.environ, **environ)
        run = spawner.run if self._forked else spawner.run_new
        return run([*COMMAND, *chosen, *words], stdin, env=env, cwd=self.directory, timeout=timeout)

    def type(self, line):
        """Run a line that the program has printed, as an administrator types it; the completed process."""
        words = line if sys.platform == "win32" else [*_SHELL, line]
        return subprocess.run(
            words, shell=sys.platform == "win32", env=self.environ, capture_output=True, text=True, timeout=60
        )

    def login(self):
        """The login command; the completed process."""
        done = self.command("login")
        assert done.returncode == 0, done.stderr
        return done

    def sign_in(self):
        """What login does, in this process: for tests that are about something else."""
        config = configuration.load(str(self.config), {})
        files.make_directory(config.state_dir)
        Account(config, Outbound(None, config.ca_file, direct=True)).tokens.login(lambda text: None)
        return self

    def clean(self):
        """An empty tenant without faults for the next test on a running program; nothing may be queued."""
        self.sandbox.faults.clear()
        wait_until(lambda: self.queue() == [], what="an empty queue")
        tenant = self.sandbox.tenant
        with tenant.lock:
            for mailbox in tenant.mailboxes.values():
                for item in [item for folder in mailbox.folders.values() for item in folder.items.values()]:
                    tenant.purge(item)
            tenant.delivered.clear()
            tenant.outside.clear()
        self.sandbox.forget()

    def launch(self, command=None, **environ):
        """Start it, and wait for nothing."""
        with open(self.log, "ab") as log:
            popen = spawner.popen if self._forked else subprocess.Popen
            self.process = popen(
                [*(command or COMMAND), "--config", str(self.config), *self.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environ, **environ),
                cwd=self.directory,
            )
        return self

    def start(self, command=None, **environ):
        return self.launch(command, **environ).await_status()

    def await_status(self):
        """Wait until it says in its status file that it runs."""
        wait_until(self._is_up, what="start")
        return self

    def _is_up(self):
        assert self.process.poll() is None, self.said()
        status = self.status()
        return status.get("pid") == self.process.pid and status["listeners"]

    def status(self):
        content = files.read(str(self.directory / "state" / "status.json"))
        return json.loads(content) if content else {}

    def port(self, protocol):
        found = (line for line in self.status()["listeners"] if line.startswith(f"{protocol} "))
        return int(next(found).rpartition(":")[2])

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def queue(self):
        """(directory, phase) of every message, sorted."""
        found = {}
        for place in ("new", "cur", "failed", "new"):  # new/ twice: a message may move between two listings
            path = self.directory / "state" / "queue" / place
            for name in os.listdir(path) if path.exists() else ():
                found[name.partition(".")[0]] = (place, name.rpartition(".")[2] if place == "cur" else "")
        return sorted(found.values())

    def reload(self):
        """Let it read its config anew, whatever that is like: the command looks at it first."""
        if sys.platform == "win32":
            control.request(str(self.directory / "state"), "reload")
        else:
            self.process.send_signal(signal.SIGHUP)

    def stop(self, how=signal.SIGTERM):
        """End it; its exit status."""
        if self.process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        status = self.process.wait(30)
        self.process = None
        return status

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if not self.beside:
            self.sandbox.stop()
