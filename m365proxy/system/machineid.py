"""What tells this machine from all others: read from the system, shown to nobody."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from typing import FrozenSet, Mapping, NamedTuple, Optional

from . import files, log
from .machine import is_container

# The machine's name, where there is nothing better: in containers, which have no identity of their own.
VARIABLE = "M365PROXY_MACHINE"

# machine-id(5): it is 32 hexadecimal digits; a template may say "uninitialized".
_PATHS, _DIGITS = ("/etc/machine-id", "/var/lib/dbus/machine-id"), 32

_ADAPTERS = "/sys/class/net"

# What all machines are that cannot be told apart.
UNKNOWN = "unknown"


class Machine(NamedTuple):
    """`id`, `adapters`: hashes, because machine-id(5) asks not to show the id itself; `id` may be UNKNOWN."""

    id: str
    adapters: FrozenSet[str]  # hardware addresses that came with the network adapters; empty if none is known
    host: str  # its name, for a person


def this_machine(environ: Mapping[str, str], root: str = "/") -> Machine:
    """The machine this process runs on.  `root`: where /etc and /sys are."""
    host = log.clean(socket.gethostname())
    named = environ.get(VARIABLE, "").strip()
    if named:
        return Machine(_hashed("name", named), frozenset(), log.clean(named))
    if is_container():
        return Machine(UNKNOWN, frozenset(), host)  # its machine-id is that of the image, or new each time
    found = _windows_id() if sys.platform == "win32" else _id_of_file(root)
    if not found:
        return Machine(UNKNOWN, frozenset(), host)
    return Machine(_hashed("machine", found), _adapters(os.path.join(root, _ADAPTERS[1:])), host)


def _id_of_file(root: str) -> str:
    for path in _PATHS:
        with contextlib.suppress(OSError):
            content = (files.read(os.path.join(root, path[1:])) or b"").strip().lower()
            if len(content) == _DIGITS and not content.strip(b"0123456789abcdef") and content.strip(b"0"):
                return content.decode()
    return ""


def _windows_id() -> str:
    """MachineGuid, which the setup of Windows makes; "" if it cannot be read."""
    if sys.platform == "win32":
        import winreg

        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, access) as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0]).strip().lower()
        except OSError:
            return ""
    return ""


def _adapters(directory: str) -> FrozenSet[str]:
    """Of adapters with a device behind them whose address is their own (addr_assign_type 0), not random or set."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            address = _line(directory, name, "address")
            is_real = os.path.exists(os.path.join(directory, name, "device"))
            if is_real and address and address.strip("0:") and _line(directory, name, "addr_assign_type") == "0":
                found.add(_hashed("adapter", address.lower()))
    return frozenset(found)


def _line(*parts: str) -> Optional[str]:
    try:
        return (files.read(os.path.join(*parts)) or b"").decode("ascii", "replace").strip()
    except OSError:
        return None


def _hashed(kind: str, text: str) -> str:
    return hashlib.sha256(f"m365proxy {kind} {text}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
