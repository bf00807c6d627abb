"""How this program was started, so that commands it prints can be copied."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import List, Mapping

from ..config import load as configuration


def program(config_path: str, environ: Mapping[str, str] = os.environ) -> str:
    """The words that start this program with the config of that absolute path: "m365proxy" where that does it."""
    words = _started()
    if os.path.abspath(configuration.place(None, environ)) != config_path:
        words += ["--config", config_path]
    if sys.platform == "win32":  # cmd knows no single quotes
        import subprocess

        return subprocess.list2cmdline(words)
    return " ".join(map(shlex.quote, words))


def _started() -> List[str]:
    started = sys.argv[0]
    if not os.path.isfile(started) and os.path.isfile(started + ".exe"):  # pip's programs leave the ending out
        started += ".exe"
    if not os.path.isfile(started):  # embedded, or by -c
        return ["m365proxy"]
    if os.path.basename(started) == "__main__.py":
        return [_shortest(sys.executable), "-m", "m365proxy"]
    if started.endswith(".py"):
        return [_shortest(sys.executable), started]
    return [_shortest(started)]


def _shortest(path: str) -> str:
    """A program's name if the shell finds this one by it (the same link, not only the same file), else its path."""
    name = os.path.basename(path)
    found = os.path.normcase(shutil.which(name) or "")
    return name if found == os.path.normcase(os.path.abspath(path)) else path
