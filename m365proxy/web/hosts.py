"""The names this port may be asked by.

A web page elsewhere can have its own name resolve to this machine (DNS rebinding) and then read what is here.  The
name is in the Host field then.  An address is always fine: where there is no name, nothing can be made to resolve.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from typing import Callable, FrozenSet, Iterable, Optional

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:@/\s]+)(?::[0-9]{0,5})?")


class Hosts:
    """Any thread may call."""

    def __init__(self, certified: Callable[[], Iterable[str]] = tuple):
        """`certified`: gives the names in the certificate."""
        self._certified = certified
        self._own = {"localhost", socket.gethostname().lower()}
        self._more: Optional[FrozenSet[str]] = None

    def forget(self) -> None:
        """The certificate has changed."""
        self._more = None

    def are_allowed(self, host: str) -> bool:
        """Whether a Host field names this machine."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found["host"].lower().rstrip(".")
        return name in self._own or _is_address(name) or self._is_certified(name)

    def _is_certified(self, name: str) -> bool:
        more = self._more
        if more is None:
            more = self._more = frozenset(one.lower() for one in self._certified())
        _, _, domain = name.partition(".")
        return name in more or f"*.{domain}" in more


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name.strip("[]"))
        return True
    return False
