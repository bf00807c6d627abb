"""The ports to listen on: whether they are free, and who holds those that are not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import socket
import sys
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Protocol, Tuple

from ...config.sections import Config
from ...config.sockets import is_status_encrypted, status_addresses
from ...errors import InUse
from ...server.listener import bind_error
from ...system import log, statusfile
from ..terminal import Mark
from .result import Result, of_error
from .subject import Subject

# The state of a listening socket in /proc/net/tcp (Linux, include/net/tcp_states.h).
_LISTENING = "0A"

# A service of the system in /proc/PID/cgroup; those of a template stand in a slice of their own.
_UNIT = re.compile(r"/system\.slice/(?:[^/\n]+\.slice/)*([\w.@:\\-]+\.service)(?:/|$)", re.MULTILINE)


class Wanted(Protocol):
    """A socket that the config asks for; `key` says where."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...


class _StatusSocket(NamedTuple):
    address: str
    port: int
    name: str = "status"
    key: str = "status_port"


def ports(subject: Subject) -> Iterator[Result]:
    """A line for each socket of the config."""
    if subject.running:
        yield from _of_running(subject)
        return
    for wanted in wanted_by(subject.config):
        yield _free(wanted, subject)


def wanted_by(config: Config) -> List[Wanted]:
    """The sockets of a config.  Without IPv6 status_port does without its ::1, which is left out here."""
    found: List[Wanted] = list(config.sockets)
    if config.status_port is not None:
        addresses = status_addresses(config) if is_status_encrypted(config) else status_addresses(config)[:1]
        found += [_StatusSocket(address, config.status_port) for address in addresses]
    return found


def place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _of_running(subject: Subject) -> Iterator[Result]:
    """Whether the program listens where the config says; a port of 0 is any."""
    status = statusfile.read(subject.config.state_dir)
    listeners = status.get("listeners") or []
    for wanted in wanted_by(subject.config):
        name = f"{wanted.name} {place(wanted.address, wanted.port)}"
        start = name[: -len("0")] if wanted.port == 0 else ""
        found = [one for one in listeners if one == name or (start and str(one).startswith(start))]
        if found:
            yield Result(Mark.OK, "port", f"{found[0]} is open: the program is running")
        else:
            yield Result(
                Mark.ATTENTION,
                "port",
                f"{name} is not open: the running program has an older config.",
                _restart(status.get("pid")),
            )


def _restart(pid: object) -> str:
    unit = _unit_of(pid) if isinstance(pid, int) else ""
    return f"Run `systemctl restart {shlex.quote(unit)}`." if unit else "Stop the program, and start it again."


def _free(wanted: Wanted, subject: Subject) -> Result:
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    where = f"{wanted.name} {place(wanted.address, wanted.port)}"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            if os.name == "posix":
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            trial.bind((wanted.address, wanted.port))
            trial.listen(1)  # Linux lets a second socket be bound, but not listen
    except OSError as error:
        if subject.dropped_root and error.errno == errno.EACCES:
            sentence = f"{where} cannot be tested by this user; the service may be allowed to open it."
            return Result(Mark.ATTENTION, "port", sentence)
        if error.errno == errno.EADDRINUSE:
            return _busy(wanted, subject)
        return of_error("port", bind_error(error, wanted.address, wanted.port))
    return Result(Mark.OK, "port", f"{where} is free")


def _busy(wanted: Wanted, subject: Subject) -> Result:
    found = Holder.of_port(wanted.port, wanted.address)
    who = subject.holders.get(wanted.port) or (found.text if found else "")
    if not who:
        return of_error("port", bind_error(OSError(errno.EADDRINUSE, ""), wanted.address, wanted.port))
    sentence = f"{place(wanted.address, wanted.port)} is in use by {who}."
    unit = re.search(r"\(unit ([^)]+)\)", who)
    stop = f"Stop it: `systemctl disable --now {shlex.quote(unit.group(1))}`" if unit else "Stop it"
    return Result(Mark.WRONG, "port", sentence, f"{stop}, or choose another port: {wanted.key}.", InUse.exit_status)


def holders(sockets: Iterable[Wanted]) -> Dict[int, str]:
    """Who listens on these ports now: root sees it of every program, other users of their own."""
    found = {wanted.port: Holder.of_port(wanted.port, wanted.address) for wanted in sockets if wanted.port}
    return {port: holder.text for port, holder in found.items() if holder}


class Holder:
    """Who has a port, as far as /proc tells."""

    def __init__(self, user: str, pid: int = 0, name: str = "", unit: str = ""):
        self.user, self.pid, self.name, self.unit = user, pid, name, unit

    @property
    def text(self) -> str:
        if not self.pid:
            return f"a program of the user {self.user}"
        return f"{self.name}, pid {self.pid}" + (f" (unit {self.unit})" if self.unit else "")

    @classmethod
    def of_port(cls, port: int, address: str) -> Optional[Holder]:
        """Who listens there; None if that cannot be found out."""
        if not sys.platform.startswith("linux"):
            return None
        listening = list(_listening(port))
        # One that has the address itself comes first; one of all addresses, or of another, is the next to blame.
        listening.sort(key=lambda one: one[0] != address)
        for _, uid, inode in listening:
            pid = _pid_of(inode)
            return cls(_user(uid), pid, _name_of(pid), _unit_of(pid)) if pid else cls(_user(uid))
        return None


def _listening(port: int) -> Iterator[Tuple[str, int, str]]:
    """(address, user ID, inode) of the sockets that listen on a port."""
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in _text(f"/proc/self/net/{name}").splitlines()[1:]:
            fields = line.split()
            with contextlib.suppress(ValueError, IndexError):
                address, _, number = fields[1].partition(":")
                if fields[3] == _LISTENING and int(number, 16) == port:
                    yield socket.inet_ntop(family, _octets(address)), int(fields[7]), fields[9]


def _octets(text: str) -> bytes:
    """An address of /proc/net/tcp: numbers of 32 bits in this machine's own order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def _pid_of(inode: str) -> int:
    """The process that has a socket open; 0 if none is seen.  Other users' are seen by root only."""
    for pid in _pids():
        directory = f"/proc/{pid}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                if os.readlink(f"{directory}/{name}") == f"socket:[{inode}]":
                    return pid
    return 0


def _pids() -> List[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []


def _name_of(pid: int) -> str:
    return log.clean(_text(f"/proc/{pid}/comm").strip(), 40) or "a program"


def _unit_of(pid: int) -> str:
    found = _UNIT.search(_text(f"/proc/{pid}/cgroup"))
    return found.group(1) if found else ""


def _user(uid: int) -> str:
    if sys.platform == "win32":
        return str(uid)
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
