"""How this program starts itself once more, for something that would keep memory for a moment's work.

A process is asked on its standard input, and answers on its standard output: others can read arguments and environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Dict, List

# The commands that have the sign-in renewed and a certificate read.  Nobody types them.
RENEWAL = "renew-sign-in"
CERTIFICATE = "read-certificate"

# Where the package is: a directory, or the single file.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Arguments of Popen: Ctrl-C at our terminal is not for it, and it opens no window.
APART: Dict[str, Any] = (
    {"creationflags": 0x08000000}  # CREATE_NO_WINDOW
    if sys.platform == "win32"
    else {"start_new_session": True}
)


def command(word: str) -> List[str]:
    """What starts this program with one word for a command, from whatever package it is."""
    if os.path.isfile(_ROOT):  # it makes preparations of its own
        return [sys.executable, _ROOT, word]
    # The modules are looked for where this process looks for them, and not in the current directory.
    path = [place for place in sys.path if isinstance(place, str)]
    code = f"import sys; sys.path[:] = {ascii(path)}; from m365proxy.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, word]


def environ() -> Dict[str, str]:
    """The environment for such a process: ours without the key of the sign-in."""
    return {name: value for name, value in os.environ.items() if name != "M365PROXY_KEY"}


def ask(word: str, question: bytes, seconds: float) -> bytes:
    """What a process answers; OSError if it cannot be started, or fails, or is killed because it takes longer."""
    try:
        done: "subprocess.CompletedProcess[bytes]" = subprocess.run(
            command(word),
            input=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ(),
            timeout=seconds,
            check=True,
            **APART,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"the process for {word} has failed ({error})") from None
    return done.stdout


def is_possible() -> bool:
    """Whether Python and the package can be read.

    They cannot where root started the program from root's own files and it goes on as the state directory's owner.
    """
    needed = os.R_OK if os.path.isfile(_ROOT) else os.R_OK | os.X_OK
    return bool(sys.executable) and os.access(sys.executable, os.X_OK) and os.access(_ROOT, needed)
