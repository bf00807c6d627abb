"""What is said when a Python library or module is missing, or cannot be loaded."""

from __future__ import annotations

import re
import sys
from typing import Optional

from . import log

_LIBRARIES = (
    "msal",
    "requests",
    "cryptography",
    "urllib3",
    "jwt",
    "idna",
    "certifi",
    "charset_normalizer",
    "cffi",
    "_cffi_backend",
)

# What compiled modules need on Windows; Python's installer brings a part of it.
_RUNTIME = "https://aka.ms/vs/17/release/vc_redist.x64.exe"


def explain(error: ImportError, platform: str = sys.platform) -> str:
    """A missing or broken library, as a sentence with the next step.  `platform` is as sys.platform."""
    library = _library(error)
    name = library or error.name or "of its libraries"
    what = "is missing" if isinstance(error, ModuleNotFoundError) else f"cannot be loaded ({log.clean(error)})"
    if platform == "win32":
        return _on_windows(name, what, is_library=library is not None)
    if library:
        return (
            f"The Python library {name} {what}. Debian: apt install python3-msal python3-requests "
            "python3-cryptography; elsewhere: pip install msal requests cryptography."
        )
    return (
        f"Python's module {name} {what}. Install all of Python (Debian: apt install python3), and make sure that "
        f"the user the program runs as may read {sys.prefix}."
    )


def _on_windows(name: str, what: str, is_library: bool) -> str:
    """A file that is there and cannot be loaded lacks a DLL, which Windows does not name."""
    runtime = f"Install the Microsoft Visual C++ Redistributable ({_RUNTIME}), and run the command again."
    if is_library:
        again = f'"{sys.executable}" -m pip install --force-reinstall msal requests cryptography'
        if what == "is missing":
            return f"The Python library {name} {what}. Install it: {again.replace('--force-reinstall ', '')}"
        return f"The Python library {name} {what}. {runtime} If that does not help: {again}"
    if what == "is missing":
        return f"Python's module {name} {what}. Run Python's installer again and choose Repair."
    return f"Python's module {name} {what}. {runtime}"


def _library(error: ImportError) -> Optional[str]:
    """The library that is concerned, if it is none of Python's own modules.

    Windows names only the last part of a compiled module: _rust, for cryptography.hazmat.bindings._rust.
    """
    named = (error.name or "").split(".")[:1]
    folders = re.split(r"[\\/]", error.path or "")
    return next((part for part in named + folders if part in _LIBRARIES), None)
