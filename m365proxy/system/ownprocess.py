"""How this program starts itself once more, for something that would keep memory for a moment's work."""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, List

# The command that has the sign-in renewed.  Nobody types it.
RENEWAL = "renew-sign-in"

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


def is_possible() -> bool:
    """Whether Python and the package can be read.

    They cannot where root started the program from root's own files and it goes on as the state directory's owner.
    """
    needed = os.R_OK if os.path.isfile(_ROOT) else os.R_OK | os.X_OK
    return bool(sys.executable) and os.access(sys.executable, os.X_OK) and os.access(_ROOT, needed)
