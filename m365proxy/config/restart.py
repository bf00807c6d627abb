"""What a reload cannot put to use."""

from __future__ import annotations

import functools
from typing import List

from .options import OPTIONS
from .sections import Config


def needing_restart(running: Config, reloaded: Config) -> List[str]:
    """The paths of the options that differ and whose change needs a restart."""
    paths = [option.path for option in OPTIONS if option.restart]
    changed = [path for path in paths if _value(running, path) != _value(reloaded, path)]
    # a first certificate turns STARTTLS on, and having none turns it off
    has_certificate = bool(running.tls.tls_cert), bool(reloaded.tls.tls_cert)
    if running.sockets != reloaded.sockets and has_certificate[0] != has_certificate[1]:
        changed.append("tls.tls_cert")
    return changed


def _value(config: Config, path: str) -> object:
    """The value of an option, by its path: "queue.retry_interval"."""
    value: object = functools.reduce(getattr, path.split("."), config)
    return value
