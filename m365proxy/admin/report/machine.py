"""The machine for a report: versions of all that matters, and the names that must not be in it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import platform
import re
import socket
import ssl
import sys
from typing import Iterator, Mapping, Tuple
from urllib.parse import unquote

from ... import __version__
from ...system import files
from ...system.machine import is_container, is_openwrt
from .pseudonyms import Kind, Pseudonyms

_LIBRARIES = ("msal", "requests", "cryptography", "urllib3")

_PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")


def versions(pseudonyms: Pseudonyms) -> Iterator[Tuple[str, str]]:
    """(what, which)."""
    yield "m365proxy", f"{__version__}, {_packaging()}"
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "OpenSSL", ssl.OPENSSL_VERSION
    for name in _LIBRARIES:
        yield name, _version(name)
    yield "system", pseudonyms.scrub(f"{_system()}, {platform.machine()}")
    if is_container():
        yield "container", "yes"


def learn(pseudonyms: Pseudonyms, environ: Mapping[str, str]) -> None:
    """The names of this machine and of who works at it, and the secrets in the environment."""
    host = socket.gethostname()
    for name in {host, host.partition(".")[0]} - {"localhost", ""}:
        pseudonyms.name(Kind.HOST, name)
    home = os.path.expanduser("~")
    with contextlib.suppress(KeyError, OSError, ImportError):  # a user without a name
        _learn_user(pseudonyms, getpass.getuser())
    for user in (environ.get("SUDO_USER", ""), os.path.basename(home)):
        _learn_user(pseudonyms, user)
    for path in (home, "", sys.prefix, sys.argv[0]):
        with contextlib.suppress(OSError):  # where we are was removed
            pseudonyms.path(os.path.abspath(path))
    pseudonyms.hide(environ.get("M365PROXY_KEY", ""))
    for name, value in environ.items():
        if name.lower() in _PROXIES and "@" in value:
            for part in re.split(r"[:/]+", value.rpartition("@")[0])[1:]:
                pseudonyms.hide(part)
                pseudonyms.hide(unquote(part))


def learn_state(pseudonyms: Pseudonyms, state_dir: str) -> None:
    """The secrets and ids in the state directory."""
    pseudonyms.path(state_dir)
    for name in ("token.key", "installation"):
        with contextlib.suppress(OSError):
            pseudonyms.hide((files.read(os.path.join(state_dir, name)) or b"").decode("ascii", "replace"))


def _learn_user(pseudonyms: Pseudonyms, user: str) -> None:
    if user not in ("root", "m365proxy", ""):
        pseudonyms.name(Kind.USER, user)


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "missing, or its version is not known"


def _system() -> str:
    """The distribution with its version, or what Python calls it."""
    if is_openwrt():
        return "OpenWrt"
    with contextlib.suppress(OSError, UnicodeError):
        release = (files.read("/etc/os-release") or b"").decode()
        found = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', release, re.MULTILINE)
        if found is not None:
            return f"{found.group(1)}, kernel {platform.release().partition('-')[0]}"
    return f"{platform.system()} {platform.release()}"


def _packaging() -> str:
    """How the program was installed, as far as its place tells."""
    place = os.path.abspath(__file__)
    if not os.path.isfile(place):
        return "single file"
    if place.startswith("/usr/lib/python3/dist-packages/"):
        return "Debian package"
    if "site-packages" in place:
        return "installed by pip"
    return "from its source"
