"""Gateways: m365proxy on machines of their own, with what systemd does for it."""

from __future__ import annotations

import json
import os
import pathlib
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Optional

import spawner
from gateways.machines import Machine, Running, Switch
from program import COMMAND
from waiting import wait_until

from m365proxy.monitoring import counters  # noqa: F401  the import that fails first where PYTHONPATH is wrong

# As in etc/m365proxy.service, but for the time until a restart.
_WATCHDOG = 120
_STOP = 20
_NOT_AGAIN = (64, 78)
_RESTART_AFTER = 2.0

# Where mail is in a state directory.
_PLACES = ("new", "cur", "failed")


class Networks:
    """`lan`: devices, HAProxy and gateways; `wan`: gateways and Microsoft; `san`: gateways and storage."""

    def __init__(self) -> None:
        self.lan = Switch("lan")
        self.wan = Switch("wan", "10.77.2.1/24")
        self.san = Switch("san")

    def cables(self, number: int, has_volume: bool) -> Dict[str, "tuple[Switch, str]"]:
        """eth0 to devices, eth1 to Microsoft, eth2 to the storage."""
        found = {"eth0": (self.lan, f"192.0.2.{number}/24"), "eth1": (self.wan, f"10.77.2.{number}/24")}
        if has_volume:
            found["eth2"] = (self.san, f"10.77.3.{number}/24")
        return found


class Gateway:
    """One machine.  start() and stop() are what an administrator asks systemd for; others may kill what runs."""

    def __init__(
        self,
        name: str,
        machine: Machine,
        directory: pathlib.Path,
        state_dir: pathlib.Path,
        settings: Dict[str, Any],
        server: str,
        words: "tuple[str, ...]" = ("run",),
    ):
        """`server`: its name in etc/haproxy.cfg.  `words`: `run`, with its options."""
        self.server = server
        self.name = name
        self.machine = machine
        self.state_dir = state_dir
        self.statuses: List[int] = []  # with which the program has ended, signals negative
        self.forced = 0  # how often stop() had to kill it
        self._words = words
        directory.mkdir(parents=True)
        self._config = directory / "config.json"
        self._config.write_text(json.dumps({**settings, "state_dir": str(state_dir)}))
        self._config.chmod(0o600)
        self.log = directory / "log"
        self._notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notes.bind(str(directory / "notify"))
        self._environ = {
            "HOME": str(directory),
            "PYTHONPATH": os.pathsep.join((str(spawner.ROOT), os.environ.get("PYTHONPATH", ""))),
            "M365PROXY_MACHINE": name,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "WATCHDOG_USEC": str(_WATCHDOG * 1_000_000),
        }
        self._is_wanted = False
        self._is_ready = False
        self._status = ""
        self._program: Optional[Running] = None
        self._supervisor: Optional[threading.Thread] = None

    # --- systemd's part

    def start(self) -> None:
        self._is_wanted = True
        self._supervisor = threading.Thread(target=self._supervise, name=self.name, daemon=True)
        self._supervisor.start()

    def stop(self) -> None:
        """In order, or by force if that takes too long; returns at its end."""
        self._is_wanted = False
        self.kill(signal.SIGTERM)
        assert self._supervisor is not None
        self._supervisor.join(_STOP)
        if self._supervisor.is_alive():
            self.forced += 1
            self.kill()
        self._join()

    def _join(self) -> None:
        if self._supervisor is not None:
            self._supervisor.join(60)
            assert not self._supervisor.is_alive(), f"{self.name} does not end"

    def _supervise(self) -> None:
        while self._is_wanted:
            self._program = self.machine.start(self._command(*self._words), self.log, **self._environ)
            self._watch(self._program)
            self._is_ready = False
            self.statuses.append(self._program.wait())
            if self.statuses[-1] in _NOT_AGAIN:
                return
            end = time.monotonic() + _RESTART_AFTER
            while self._is_wanted and time.monotonic() < end:
                time.sleep(0.1)

    def _watch(self, program: Running) -> None:
        """Until it has ended; one that has not said for long that it is alive is killed."""
        deadline = float("inf")
        while program.is_running():
            if time.monotonic() > deadline:
                program.send(signal.SIGKILL)
            if select.select([self._notes], [], [], 0.1)[0]:
                for line in self._notes.recv(65536).decode().splitlines():
                    name, _, value = line.partition("=")
                    if name == "READY":
                        self._is_ready, deadline = True, time.monotonic() + _WATCHDOG
                    elif name == "WATCHDOG":
                        deadline = time.monotonic() + _WATCHDOG
                    elif name == "STATUS":
                        self._status = value

    def _command(self, *words: object) -> List[object]:
        command = [sys.executable, *COMMAND[1:]] if COMMAND[0] == sys.executable else COMMAND
        return [*command, "--config", self._config, *words]

    # --- what an administrator does, and what happens

    def is_serving(self) -> bool:
        return self._is_ready and self._program is not None and self._program.is_running()

    def await_serving(self) -> None:
        wait_until(self.is_serving, 120, f"{self.name} serving")

    def await_standby(self) -> None:
        wait_until(lambda: self.is_serving() or self._status.startswith("Standby"), 120, f"{self.name} waiting")

    def kill(self, how: int = signal.SIGKILL) -> None:
        if self._program is not None:
            self._program.send(how)

    def power_off(self) -> None:
        self._is_wanted = False
        self.machine.power_off()
        self._join()

    def command(self, *words: object) -> str:
        environ = [f"{name}={value}" for name, value in self._environ.items() if name != "NOTIFY_SOCKET"]
        return self.machine.run("env", *environ, *self._command(*words))

    def drain(self, seconds: int) -> None:
        """For so long at most."""
        environ = [f"{name}={value}" for name, value in self._environ.items() if name != "NOTIFY_SOCKET"]
        self.machine.run("timeout", str(seconds), "env", *environ, *self._command("drain"), checked=False)

    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def queue(self) -> Dict[str, str]:
        """What is in the queue: the place and phase of each message, by the path of its file as this machine has it."""
        listing = self.machine.run("find", *(self.state_dir / "queue" / place for place in _PLACES), "-type", "f")
        return {path: _phase(path) for path in listing.splitlines()}

    def tokens(self, paths: List[str]) -> List[str]:
        """The first word of each message's subject."""
        if not paths:
            return []
        found = self.machine.run("grep", "-ihm1", "^subject: ", *paths)
        return [line.split()[1] for line in found.splitlines()]


def _phase(path: str) -> str:
    place, name = path.split("/")[-2:]
    return name.rpartition(".")[2] if place == "cur" else place
