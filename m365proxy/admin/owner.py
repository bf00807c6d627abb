"""Root's commands go on as the owner of the state directory, so that no file in it becomes root's."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Optional

from ..errors import CannotCreate

# What is imported only when it is needed; the owner of the state directory may be unable to read it then.
_IMPORTED_LATER = (
    "m365proxy.daemon",
    "m365proxy.system.control",
    "m365proxy.system.httpsession",
    "m365proxy.web.session",
    "m365proxy.web.site",
    "m365proxy.web.source",
    "m365proxy.admin.status",
    "m365proxy.admin.check.report",
    "m365proxy.admin.testmail.trial",
    "cryptography.fernet",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.serialization",
    "msal",
    "requests",
    "ctypes",
    "grp",
    "netrc",
    "pwd",
    "subprocess",
    "email.generator",
    "email.policy",
    "html",
    "encodings.ascii",
    "encodings.cp1252",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
)


def become_owner(state_dir: str) -> bool:
    """If this is root and the state directory belongs to somebody else, go on as its owner; whether it is so.

    CannotCreate if root is not allowed to.
    """
    owner = owner_to_become(state_dir)
    if sys.platform == "win32" or owner is None:
        return False
    for name in _IMPORTED_LATER:
        with contextlib.suppress(ImportError):  # the command may not need it
            importlib.import_module(name)
    try:
        os.setgroups([owner.st_gid])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    except PermissionError:  # root of a container that was given no rights
        raise CannotCreate(
            f"{state_dir} belongs to the user {owner.st_uid}, and root may not become that user here. Run the command "
            f"as that user; in a container: `docker exec -it -u {owner.st_uid} ...`."
        ) from None
    return True


def owner_to_become(state_dir: str) -> Optional[os.stat_result]:
    """The owner of the state directory, if this is root and it belongs to somebody else."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    try:
        owner = os.stat(state_dir)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return owner if owner.st_uid != 0 else None
