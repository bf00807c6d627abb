"""Who may read and change the files on Windows, where they have access lists."""

from __future__ import annotations

import os
import subprocess
from typing import Iterator, List

from ...system import accesslist
from ..terminal import Mark
from .result import Result
from .subject import Subject


def rights(subject: Subject) -> Iterator[Result]:
    """Whether everybody who has an account on this machine may read the secrets, or change the config."""
    found = [line for path in _places(subject) for line in _of(path)]
    yield from found
    if not found:
        yield Result(Mark.OK, "files", "sign-in and keys are closed to other users")


def _places(subject: Subject) -> List[str]:
    """The config, and what has secrets in it; what is in the state directory inherits its list."""
    certificate = subject.config.client_certificate
    keys = (subject.config.tls.tls_key, certificate.private_key if certificate else None)
    places = (subject.config.path, subject.config.state_dir, *keys)
    return [path for path in dict.fromkeys(places) if path and os.path.exists(path)]


def _of(path: str) -> Iterator[Result]:
    try:
        access = accesslist.of_text(accesslist.text_of(path))
    except OSError as error:
        reason = error.strerror or error
        yield Result(Mark.SKIPPED, "files", f"who may read {path} cannot be looked up: {reason}")
        return
    accounts = list(dict.fromkeys((*access.readers, *access.writers)))
    if accounts:
        done = " and ".join(how for how, who in (("read", access.readers), ("changed", access.writers)) if who)
        quoted = subprocess.list2cmdline([path])
        numbers = [f"*{one.number}" if one.number.startswith("S-") else one.number for one in accounts]
        yield Result(
            Mark.ATTENTION,
            "files",
            f"{path} can be {done} by other users of this machine ({', '.join(one.name for one in accounts)}).",
            f"In a console that runs as administrator: `icacls {quoted} /inheritance:d` and: "
            f"`icacls {quoted} /remove:g {subprocess.list2cmdline(numbers)}`",
        )
