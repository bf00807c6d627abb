"""What a reload cannot put to use."""

from __future__ import annotations

import functools
from typing import List

from .options import OPTIONS
from .sections import Config
from .sockets import is_status_encrypted


def needing_restart(running: Config, reloaded: Config) -> List[str]:
    """The paths of the options that differ and whose change needs a restart."""
    paths = [option.path for option in OPTIONS if option.restart]
    changed = [path for path in paths if _value(running, path) != _value(reloaded, path)]
    if running.sockets != reloaded.sockets:
        if bool(running.tls.tls_cert) != bool(reloaded.tls.tls_cert):
            changed.append("tls.tls_cert")  # a first certificate turns STARTTLS on, and having none turns it off
        elif not changed:
            changed.append("smtp_port")  # beside listeners, its default opens a port only if it is written out
    if "status_port" not in changed and is_status_encrypted(running) != is_status_encrypted(reloaded):
        # It listens elsewhere then.
        had_certificate, has_certificate = bool(running.tls.tls_cert), bool(reloaded.tls.tls_cert)
        key = "status_password" if had_certificate == has_certificate else "tls.tls_cert"
        changed += [key] if key not in changed else []
    return changed


def _value(config: Config, path: str) -> object:
    """The value of an option, by its path: "queue.retry_interval"."""
    value: object = functools.reduce(getattr, path.split("."), config)
    return value
