"""What kind of machine this is, as far as it decides about ports, networks and places."""

from __future__ import annotations

import os
import sys

# Files that tell that this is a container, and a variable that Kubernetes sets.
_FILES, _VARIABLE = ("/.dockerenv", "/run/.containerenv"), "KUBERNETES_SERVICE_HOST"


def is_container() -> bool:
    """Whether addresses and ports that devices use are perhaps those of a host around this."""
    return _VARIABLE in os.environ or any(map(os.path.exists, _FILES))


def is_openwrt() -> bool:
    """Whether this is a router with OpenWrt: the devices are behind it, and /var is in memory."""
    return os.path.exists("/etc/openwrt_release")


def is_root() -> bool:
    """Whether this is root; the image's own user is not."""
    return sys.platform != "win32" and os.geteuid() == 0


def is_administrator() -> bool:
    """Whether this may change what is for all users of the machine: root, or a console run as administrator."""
    if sys.platform == "win32":
        import ctypes

        return bool(ctypes.WinDLL("shell32", use_last_error=True).IsUserAnAdmin())  # Win32 API, shlobj_core.h
    return is_root()
