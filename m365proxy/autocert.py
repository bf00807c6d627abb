"""`tls_cert: "auto"`: a self-signed certificate, made once and kept in the state directory."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from typing import Callable, List, Optional, Sequence, Tuple

from . import files, log, tls
from .errors import CannotCreate, ConfigError
from .interfaces import own_addresses

logger = log.get("tls")

# Certificate and key in one file, so that they always belong together.
_FILE = "tls-auto.pem"

# The certificate alone, to be given to devices that want to know whom to trust.
_PUBLIC = "tls-auto.crt"

# A new one is made in its last days (seconds).
_REMAKE_BEFORE = 30 * 24 * 3600.0

# Names one certificate holds; addresses that come and go would let it grow.
_MOST_NAMES = 100

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_-]{1,63})*\Z")


def path_in(state_dir: str) -> str:
    """Where the certificate with its key is kept."""
    return os.path.join(state_dir, _FILE)


def ensure(state_dir: str, names: Sequence[str], clock: Callable[[], float] = time.time) -> str:
    """The path of a PEM file with a certificate for `names` (at least) and its key.

    The one that is there is kept: devices may have been told to trust it.  A
    new one is made if a name is missing in it, if it ends within 30 days, or
    if it cannot be read; names once in it stay.  CannotCreate if the disk
    refuses.
    """
    path = path_in(state_dir)
    found = _read(path)
    if found is None:
        return _make(path, names, "")
    known, end = found
    missing = [name for name in names if name not in known]
    if missing:
        return _make(path, [*names, *(name for name in known if name not in names)], "for " + ", ".join(missing))
    if end - clock() < _REMAKE_BEFORE:
        return _make(path, known, "as the old one ends")
    return path


def own_names(binds: Sequence[str]) -> List[str]:
    """The names and addresses clients reach this machine by when it listens on `binds`."""
    host = socket.gethostname()
    names = [host] if _HOST_NAME.match(host) and host != "localhost" else []
    addresses = [bind for bind in binds if not ipaddress.ip_address(bind).is_unspecified]
    if len(addresses) < len(binds):
        addresses += own_addresses()
    return list(dict.fromkeys([*names, "localhost", *addresses, "127.0.0.1", "::1"]))


def _read(path: str) -> Optional[Tuple[List[str], float]]:
    """The names and the end of the certificate there, from the lines above it; None if it is of no use."""
    try:
        content = (files.read(path) or b"").decode("ascii", "replace")
        tls.server_context(path, path)
    except (OSError, ConfigError):
        return None
    names = re.search(r"^Names: (.+)$", content, re.M)
    end = re.search(r"^Ends: (\d+) ", content, re.M)
    return (names.group(1).split(), float(end.group(1))) if names and end else None


def _make(path: str, names: Sequence[str], why: str) -> str:
    names = names[:_MOST_NAMES]
    certificate, key = tls.self_signed(names)
    end = tls.end_of(certificate)
    about = (
        "Made by m365proxy for tls_cert \"auto\". Remove this file to have a new one made at the next start.\n"
        f"Names: {' '.join(names)}\n"
        f"Ends: {int(end.timestamp())} ({end:%Y-%m-%d})\n"
    ).encode()
    public = os.path.join(os.path.dirname(path), _PUBLIC)
    try:
        files.replace(path, about + certificate + key)
        files.replace(public, certificate, mode=0o644)
    except OSError as error:
        raise CannotCreate(f"{path} cannot be written: {error.strerror}. Check the disk of state_dir.") from None
    logger.warning(
        "a new self-signed certificate was made%s; clients that check it must be told to trust %s",
        f" {why}" if why else "", public,
    )  # fmt: skip
    return path
