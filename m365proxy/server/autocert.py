"""`tls_cert: "auto"`: a self-signed certificate, made once and kept in the state directory."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import time
from typing import Callable, Container, List, NamedTuple, Optional, Sequence

from ..errors import ConfigError
from ..system import files, log
from ..system.interfaces import own_addresses
from . import tls

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


class Names(NamedTuple):
    """What clients may know this machine by."""

    needed: List[str]  # from the config: a certificate that lacks one is of no use
    found: Callable[[], List[str]]  # from the network, asked only when a certificate is made: that may take its time


def ensure(state_dir: str, names: Names, clock: Callable[[], float] = time.time) -> str:
    """The path of a PEM file with a certificate for `names` and its key.

    The one that is there is kept: devices may have been told to trust it, and
    addresses come and go.  A new one is made if a needed name is missing in
    it, if it ends within 30 days, or if it cannot be read; names once in it
    stay, and so does the key.  CannotCreate if the disk refuses.
    """
    path = path_in(state_dir)
    old = _read(path)
    if old is None:
        return _make(path, [*names.needed, *names.found()], "")
    missing = [name for name in names.needed if name not in old.names]
    if missing:
        return _make(path, [*names.needed, *names.found(), *old.names], "for " + ", ".join(missing), old.key)
    if old.end - clock() < _REMAKE_BEFORE:
        return _make(path, old.names, "because the old one expires soon", old.key)
    return path


def own_names(binds: Sequence[str]) -> Names:
    """The names and addresses clients reach this machine by when it listens on `binds`."""
    bound = [ipaddress.ip_address(bind) for bind in binds]
    versions = {address.version for address in bound if address.is_unspecified}
    needed = [str(address) for address in bound if not address.is_unspecified]
    return Names(needed, lambda: [*_host_names(), "localhost", *_lasting_addresses(versions), "127.0.0.1", "::1"])


def _host_names() -> List[str]:
    host, full = socket.gethostname(), socket.getfqdn()
    names = [host, full] if "." in full else [host]
    return [name for name in names if _HOST_NAME.match(name) and not name.startswith("localhost")]


def _lasting_addresses(versions: Container[int]) -> List[str]:
    """Without global IPv6 addresses, whose prefix the provider changes."""
    found = map(ipaddress.ip_address, own_addresses())
    return [str(one) for one in found if one.version in versions and (one.version == 4 or one.is_private)]


class _Old(NamedTuple):
    """The certificate that is there."""

    names: List[str]
    end: float
    key: bytes


def _read(path: str) -> Optional[_Old]:
    """What the lines above the certificate say of it, and its key; None if it is of no use."""
    try:
        content = (files.read(path) or b"").decode("ascii", "replace")
        tls.server_context(path, path)
    except (OSError, ConfigError):
        return None
    names = re.search(r"^Names: (.+)$", content, re.M)
    end = re.search(r"^Ends: (\d+) ", content, re.M)
    key = re.search(r"^-----BEGIN PRIVATE KEY-----$.*", content, re.M | re.S)
    return _Old(names.group(1).split(), float(end.group(1)), key.group().encode()) if names and end and key else None


def _make(path: str, names: Sequence[str], why: str, key: bytes = b"") -> str:
    names = list(dict.fromkeys(names))[:_MOST_NAMES]
    certificate, key = tls.self_signed(names, key)
    end = tls.end_of(certificate)
    about = (
        'Made by m365proxy for tls_cert "auto". Remove this file to have a new one made at the next start.\n'
        f"Names: {' '.join(names)}\n"
        f"Ends: {int(end.timestamp())} ({end:%Y-%m-%d})\n"
    ).encode()
    public = os.path.join(os.path.dirname(path), _PUBLIC)
    try:
        files.replace(path, about + certificate + key)
        files.replace(public, certificate, mode=0o644)
    except OSError as error:
        sentence = f"{path} cannot be written: {error.strerror}. Check the disk of state_dir."
        raise files.cannot_create(sentence, error) from None
    logger.warning(
        "a new self-signed certificate was made%s; install %s on clients that check certificates",
        f" {why}" if why else "",
        public,
    )
    return path
