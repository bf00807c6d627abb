"""All of it: the tenant, the networks, HAProxy twice, two gateways on disks of their own and two on one volume."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from typing import Any, Dict, List

import spawner
from gateways import devices, machines
from gateways.balancers import Balancer, await_one, relay
from gateways.machines import Machine, Running
from gateways.nodes import Gateway, Networks
from gateways.storage import Storage
from program import PASSWORD, RELAY
from waiting import wait_until

from m365proxy.logins import passwords
from m365proxy.sandbox import Sandbox

MAILBOXES = [f"device{number}@contoso.com" for number in range(1, 9)]
ARCHIVE = "archive@contoso.com"

# Seconds that each of Graph's answers takes.
_LATENCY = 0.03

# Those that use the same mailboxes at the same time: a standby does not.
_NODES = 3

# The names that HAProxy has for them, by the last number of the address.
_SERVERS = {21: "gateway1", 22: "gateway2", 23: "gateway3", 24: "gateway3-standby"}

_HOSTS = ("login.contoso.com", "graph.contoso.com")
_FRONT = "10.77.2.1"


class Site:
    def __init__(self, directory: pathlib.Path):
        self._directory = directory
        machines.prepare()
        hosts = directory / "hosts"
        hosts.write_text(f"127.0.0.1 localhost\n{_FRONT} {' '.join(_HOSTS)}\n")
        machines.run("mount", "--bind", hosts, "/etc/hosts")
        self.networks = Networks()
        self.sandbox = Sandbox(mailboxes=(RELAY, ARCHIVE, *MAILBOXES), user=RELAY, hosts=_HOSTS)
        self.sandbox.latency = _LATENCY
        self.sandbox.tenant.keep_content = False
        self.storage = Storage(directory / "storage", self.networks.san)
        standbys = {"192.0.2.23": "192.0.2.24"}
        self.balancers = [Balancer(number, self.networks, directory, standbys) for number in (1, 2)]
        self._office = Machine("office", {"eth0": (self.networks.lan, "192.0.2.50/24")})
        self._settings: Dict[str, Any] = {}
        self.gateways: List[Gateway] = []
        self.pair: List[Gateway] = []
        self._made = 0

    def _make_settings(self) -> Dict[str, Any]:
        password = passwords.hash_password(PASSWORD)
        return {
            "user": RELAY,
            "tenant_id": self.sandbox.tenant_id,
            "client_id": self.sandbox.client_id,
            "authority_url": self.sandbox.authority_url,
            "graph_url": self.sandbox.graph_url,
            "ca_file": self.sandbox.ca_file,
            "mailboxes": [{"username": mailbox, "password": password} for mailbox in MAILBOXES],
            "bind": "0.0.0.0",
            "proxy_protocol_from": ["192.0.2.11", "192.0.2.12"],
            "limits": {"nodes": _NODES},
            "smtps_port": 2465,
            "pop3_port": None,
            "pop3s_port": 2995,
            "status_port": 8025,
            "status_password": password,
            "tls": {"tls_cert": "auto"},
        }

    def start(self) -> None:
        self.sandbox.start()
        self._front = relay(self._directory, _FRONT, self.sandbox.port)
        self.storage.start()
        self._settings = self._make_settings()
        for number in (21, 22):
            self.gateways.append(self._make(number))
        for number in (23, 24):
            self.pair.append(self._make(number, on_volume=True))
        for gateway in self.gateways:
            gateway.machine.boot()
            gateway.command("login")
            gateway.start()
        for gateway in self.pair:
            gateway.machine.boot()
            self.storage.mount(gateway.machine)
        first, second = self.pair
        self.storage.replicate(first.machine)
        first.command("login")
        for gateway in self.pair:
            gateway.command("adopt")
        first.start()
        first.await_serving()
        second.start()
        for gateway in self.gateways:
            gateway.await_serving()
        second.await_standby()
        for balancer in self.balancers:
            balancer.start()
        await_one(self.balancers)
        self.await_up(*self.gateways, first)
        self._office.boot()
        for number in range(devices.DEVICES):
            self._office.run("ip", "address", "add", f"{devices.own_address(number)}/24", "dev", "eth0")

    def _make(self, number: int, on_volume: bool = False) -> Gateway:
        """The machine with the address 192.0.2.`number`, or one that takes its place."""
        self._made += 1
        name = f"gw{self._made}"
        directory = self._directory / name
        state_dir = self.storage.mounted / "state" if on_volume else self._directory / f"disk-{name}"
        machine = Machine(name, self.networks.cables(number, on_volume))
        words = ("run", "--standby") if on_volume else ("run",)
        return Gateway(name, machine, directory, state_dir, self._settings, _SERVERS.get(number, ""), words)

    def start_devices(self, log: pathlib.Path) -> Running:
        words = [sys.executable, "-m", "gateways.devices", log, *MAILBOXES]
        path = os.pathsep.join((str(spawner.ROOT / "tests"), str(spawner.ROOT)))
        return self._office.start(words, self._directory / "devices.log", PYTHONPATH=path)

    def await_up(self, *gateways: Gateway) -> None:
        """Until both HAProxy send devices there."""

        def are_up() -> bool:
            return all(balancer.has_up(gateway.server) for gateway in gateways for balancer in self.balancers)

        wait_until(are_up, 120, f"HAProxy's checks of {' '.join(gateway.name for gateway in gateways)}")

    def await_down(self, gateway: Gateway) -> None:
        """Until neither HAProxy takes it for one that is up."""
        what = f"HAProxy's notice of the end of {gateway.name}"
        wait_until(lambda: not any(balancer.has_up(gateway.server) for balancer in self.balancers), 120, what)

    def boot_on_volume(self, gateway: Gateway) -> None:
        gateway.machine.boot()
        self.storage.mount(gateway.machine)
        gateway.start()

    def replace(self, dead: Gateway) -> Gateway:
        """Another machine with an installation of its own, in the place of one that is gone for good."""
        index = self.gateways.index(dead)
        successor = self._make(21 + index)
        successor.machine.boot()
        successor.command("login")
        successor.start()
        successor.await_serving()
        self.gateways[index] = successor
        return successor

    def clone(self, original: Gateway) -> Gateway:
        """Another machine with a copy of the disk; switched on."""
        clone = self._make(29)
        shutil.copytree(original.state_dir, clone.state_dir, ignore=lambda *_: {"control"})
        clone.machine.boot()
        return clone

    def all_gateways(self) -> List[Gateway]:
        """Those whose queues are to be looked at: one of those on the volume, which has all of it."""
        return [*self.gateways, self.pair[0]]

    def logs(self) -> List[str]:
        return [path.read_text(errors="replace") for path in sorted(self._directory.glob("gw*/log"))]
