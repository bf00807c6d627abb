"""Two machines with HAProxy and keepalived, by the files of etc/: nothing in them is changed but a standby is added."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
from typing import Dict

from gateways.machines import Machine, Running
from gateways.nodes import Networks
from waiting import wait_until

ETC = pathlib.Path(__file__).resolve().parents[2] / "etc"

# What devices know.
ADDRESS = "192.0.2.10"


def haproxy_text(standbys: Dict[str, str]) -> str:
    """etc/haproxy.cfg; `standbys`: by the address of a gateway that of the machine that waits for its volume."""
    text = (ETC / "haproxy.cfg").read_text("utf-8")
    for address, standby in standbys.items():
        line = re.compile(rf"^( +server )(\w+)( ){re.escape(address)}(:.*)$", re.MULTILINE)
        assert line.search(text), address
        text = line.sub(rf"\g<0>\n\1\2-standby\g<3>{standby}\4", text)
    return text


def keepalived_text(number: int) -> str:
    """etc/keepalived.conf, that of the second machine as its comment says."""
    text = (ETC / "keepalived.conf").read_text("utf-8")
    if number == 1:
        return text
    own, other = "unicast_src_ip 192.0.2.11", "        192.0.2.12\n"
    assert own in text and other in text and "priority 100" in text
    text = text.replace(own, "unicast_src_ip 192.0.2.12").replace(other, "        192.0.2.11\n")
    return text.replace("priority 100", "priority 90")


class Balancer:
    """One of two; 192.0.2.11 and 192.0.2.12."""

    def __init__(self, number: int, networks: Networks, directory: pathlib.Path, standbys: Dict[str, str]):
        self.machine = Machine(f"lb{number}", {"eth0": (networks.lan, f"192.0.2.1{number}/24")})
        self._directory = directory / f"lb{number}"
        self._directory.mkdir()
        (self._directory / "haproxy.cfg").write_text(haproxy_text(standbys))
        (self._directory / "keepalived.conf").write_text(keepalived_text(number))
        (self._directory / "stats.cfg").write_text(f"global\n    stats socket {self._directory / 'stats'}\n")
        self.haproxy: Running

    def start(self) -> None:
        self.machine.boot()
        self.start_haproxy()
        place = self._directory
        ids = ("-p", place / "keepalived.pid", "-r", place / "vrrp.pid")
        words = ["keepalived", "-n", "-l", "-f", place / "keepalived.conf", *ids]
        self.keepalived = self.machine.start(words, place / "keepalived.log")

    def start_haproxy(self) -> None:
        words = ["haproxy", "-db", "-f", self._directory / "haproxy.cfg", "-f", self._directory / "stats.cfg"]
        self.haproxy = self.machine.start(words, self._directory / "haproxy.log")

    def kill_haproxy(self) -> None:
        self.haproxy.send(signal.SIGKILL)
        self.haproxy.wait()

    def has_up(self, server: str) -> bool:
        """Whether mail is sent to a gateway; False as long as there is no HAProxy."""
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(self._directory / "stats"))
                sock.sendall(b"show stat\n")
                lines = sock.makefile("r").read().splitlines()
        except OSError:
            return False
        rows = [dict(zip(lines[0].lstrip("# ").split(","), line.split(","))) for line in lines[1:]]
        found = [row["status"] for row in rows if row.get("pxname") in ("smtp", "smtps") and row["svname"] == server]
        return found == ["UP", "UP"]

    def has_address(self) -> bool:
        return f" {ADDRESS}/" in self.machine.run("ip", "address", "show", "dev", "eth0")


def await_one(balancers: "list[Balancer]") -> Balancer:
    """The one that has the address."""

    def the_one() -> "list[Balancer]":
        found = [one for one in balancers if one.has_address()]
        return found if len(found) == 1 else []

    return wait_until(the_one, what="the address on one machine")[0]


def relay(directory: pathlib.Path, address: str, port: int) -> Running:
    """Microsoft's front door: connections to `address` reach the stand-in tenant, which listens on 127.0.0.1 only."""
    path = directory / "relay.cfg"
    path.write_text(
        "defaults\n  mode tcp\n  timeout connect 3s\n  timeout client 10m\n  timeout server 10m\n"
        f"listen graph\n  bind {address}:{port}\n  server tenant 127.0.0.1:{port}\n"
    )
    return Running(["haproxy", "-db", "-f", str(path)], directory / "relay.log", dict(os.environ))
