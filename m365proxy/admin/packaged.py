"""The packaged service on this machine: its user, its configs, and what it may read."""

from __future__ import annotations

import os
import stat
import sys
from typing import Iterator, List, Optional

# The user and the group it runs as.
NAME = "m365proxy"

# Its config, and the directory of those of further tenants.
_CONFIG, _FURTHER = "/etc/m365proxy.json", "/etc/m365proxy"


def group() -> Optional[int]:
    """The number of its group, if this is root and there is one."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import grp

    try:
        return grp.getgrnam(NAME).gr_gid
    except KeyError:
        return None


def is_service() -> bool:
    """Whether this process runs as the user of the service: administrators need sudo for its files."""
    return sys.platform != "win32" and _user() == os.geteuid()


def unit_of(path: str) -> str:
    """The unit with a config at this path, if this is root and the service is installed; else ""."""
    if group() is None:
        return ""
    directory, name = os.path.split(path)
    if directory == _FURTHER and name.endswith(".json"):
        return f"{NAME}@{name[: -len('.json')]}"
    return NAME if path == _CONFIG else ""


def obstacles(*paths: str) -> List[str]:
    """The files, and the directories on the way to them, that keep the service from reading them.

    Nothing is known of it, and nothing returned, unless this is root and the service is installed.
    """
    number, user = group(), _user()
    if number is None or user is None:
        return []
    places = [place for path in map(os.path.realpath, paths) for place in (*_directories(path), path)]
    return [place for place in dict.fromkeys(places) if _is_closed(place, user, number)]


def _is_closed(place: str, user: int, number: int) -> bool:
    try:
        found = os.stat(place)
    except OSError:
        return True
    wanted = stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
    if found.st_uid == user:
        wanted <<= 6
    elif found.st_gid == number:
        wanted <<= 3
    return not found.st_mode & wanted


def _user() -> Optional[int]:
    if sys.platform == "win32":
        return None
    import pwd

    try:
        return pwd.getpwnam(NAME).pw_uid
    except KeyError:
        return None


def _directories(path: str) -> Iterator[str]:
    """Those a path leads through, the root first."""
    above = os.path.dirname(path)
    if above != path:
        yield from _directories(above)
        yield above
