"""Machines and the cables between them: namespaces of Linux, joined by bridges inside the namespace of this process.

A machine has a network, a process table and mounts of its own.  Switching it off kills all that runs on it, after its
cables were pulled: a dead machine answers nothing, not even that it does not listen.  Everything is gone with the
namespaces, and these with the process that has them: `.ci/gateways` starts it as the first of its process table.
"""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
from typing import Dict, List, Optional, Sequence

from waiting import wait_until

# Seconds that a command of this module may take on a busy machine.
_PATIENCE = 60


def run(*words: object) -> str:
    """A command's output; CalledProcessError if it fails."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def prepare() -> None:
    """In namespaces of our own: what `ip netns` needs, seen by nobody outside."""
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "none", "/run")
    os.makedirs("/run/netns")
    run("ip", "link", "set", "lo", "up")


class Switch:
    """A network; `address` (with its length) is ours in it, "" if we are not in it."""

    def __init__(self, name: str, address: str = ""):
        self.name = name
        run("ip", "link", "add", name, "type", "bridge")
        run("ip", "link", "set", name, "up")
        if address:
            run("ip", "address", "add", address, "dev", name)


def children(pid: int) -> List[int]:
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class Machine:
    """Switched on by boot().  `cables`: by the name of the adapter in it, the switch and the address."""

    def __init__(self, name: str, cables: Dict[str, "tuple[Switch, str]"]):
        self.name = name
        self._cables = {adapter: f"{name}-{adapter}" for adapter in cables}
        run("ip", "netns", "add", name)
        for adapter, (switch, address) in cables.items():
            outer = self._cables[adapter]
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", adapter, "netns", name)
            run("ip", "link", "set", outer, "master", switch.name)
            run("ip", "-n", name, "address", "add", address, "dev", adapter)
            run("ip", "-n", name, "link", "set", adapter, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")

    def boot(self) -> None:
        inner = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]
        self._holder = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *inner, "sh", "-c", f"hostname {self.name}; exec sleep infinity"],
            stderr=subprocess.DEVNULL,  # unshare complains when its child is killed
        )
        (self._first,) = wait_until(lambda: children(self._holder.pid), what=f"the start of {self.name}")
        # unshare mounts /proc before it becomes the shell.
        what = f"the name of {self.name}"
        wait_until(lambda: self.run("hostname", checked=False).strip() == self.name, what=what)
        for adapter in self._cables:
            self.plug(adapter)
            self._announce(adapter)

    def _announce(self, adapter: str) -> None:
        """Others forget a machine that had this address before, as they do when a real one starts."""
        self.run("sh", "-c", f"echo 1 >/proc/sys/net/ipv4/conf/{adapter}/arp_notify")
        self.run("ip", "link", "set", adapter, "down")
        self.run("ip", "link", "set", adapter, "up")

    def power_off(self) -> None:
        for adapter in self._cables:
            self.unplug(adapter)
        os.kill(self._first, signal.SIGKILL)
        self._holder.wait(_PATIENCE)

    def plug(self, adapter: str) -> None:
        run("ip", "link", "set", self._cables[adapter], "up")

    def unplug(self, adapter: str) -> None:
        """What is sent either way is lost, and nobody is told."""
        run("ip", "link", "set", self._cables[adapter], "down")

    def words(self, *words: object) -> List[str]:
        """The command that runs `words` here."""
        return ["nsenter", f"--target={self._first}", "--net", "--mount", "--pid", "--uts", *map(str, words)]

    def run(self, *words: object, checked: bool = True) -> str:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, timeout=_PATIENCE)
        if checked and done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, words))}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def start(self, words: Sequence[object], log: pathlib.Path, **environ: str) -> "Running":
        return Running(self.words(*words), log, dict(os.environ, **environ))


class Running:
    """A program on a machine."""

    def __init__(self, words: Sequence[str], log: pathlib.Path, environ: Dict[str, str]):
        self.log = log
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ, cwd=log.parent
            )

    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: Optional[float] = None) -> int:
        """The exit status, as subprocess has it; TimeoutExpired after `seconds`."""
        return self._process.wait(seconds)

    def send(self, how: int) -> None:
        """A signal to the program itself, which nsenter waits for."""
        for pid in children(self._process.pid):
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                pass

    def said(self) -> str:
        return self.log.read_text(errors="replace")
