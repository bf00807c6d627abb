"""The way of a notice to notify_command: a program that reads it on its standard input."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

from ..errors import Temporary
from ..system import log
from .notice import Notice

if TYPE_CHECKING:
    import subprocess

# Seconds until it is ended.
SECONDS = 30.0

# Seconds between looks whether it has ended.
_LOOK = 0.05

# Octets of its error output that are looked at.
_READ = 4096

# What is ours alone: the key of the sign-in, systemd's credentials and its sockets.
_OURS = ("M365PROXY_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM")


def run(
    words: Sequence[str],
    notice: Notice,
    stopped: threading.Event,
    seconds: float = SECONDS,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """How it was.  Temporary if it cannot be started, does not end in time, or ends with a status other than 0.

    No shell is in between.  It gets title, a blank line and text on its
    standard input, and the health of the notice in M365PROXY_STATUS.
    """
    import subprocess

    name = os.path.basename(words[0])
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**_without_ours(environ), "M365PROXY_STATUS": notice.health.value},
            **_group(),
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Temporary(f"{name} cannot be started: {reason}.") from None
    said: List[bytes] = []
    writer = _start(_write, process.stdin, f"{notice.title}\n\n{notice.text}\n".encode())
    reader = _start(_read, process.stderr, said)
    has_ended = _wait(process, stopped, seconds)
    if not has_ended:
        _end(process)
    for thread in (writer, reader):
        thread.join(1.0)
    if not has_ended:
        raise Temporary(f"{name} has not ended within {seconds:.0f} s, and was ended.")
    if process.returncode:
        lines = b"".join(said).decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise Temporary(f"{name} ended with status {process.returncode}: {log.clean(lines[0])}")
    return f"taken by {name}"


def _without_ours(environ: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in environ.items() if not name.upper().startswith(_OURS)}


def _start(action: Any, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=action, args=arguments, name="notice-pipe", daemon=True)
    thread.start()
    return thread


def _write(pipe: IO[bytes], text: bytes) -> None:
    with contextlib.suppress(OSError), pipe:  # it need not read
        pipe.write(text)


def _read(pipe: IO[bytes], said: List[bytes]) -> None:
    """Take what it says, but keep the beginning only."""
    with pipe:
        said.append(pipe.read(_READ))
        while pipe.read(_READ):
            pass


def _wait(process: subprocess.Popen[bytes], stopped: threading.Event, seconds: float) -> bool:
    """Whether it has ended by itself."""
    end = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() >= end or stopped.wait(_LOOK):
            return False
    return True


if sys.platform == "win32":

    def _group() -> Dict[str, Any]:
        return {"creationflags": 0x08000000}  # CREATE_NO_WINDOW

    def _end(process: subprocess.Popen[bytes]) -> None:
        """End it, with all that it has started."""
        import subprocess

        words = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        process.kill()
        process.wait()

else:

    def _group() -> Dict[str, Any]:
        return {"start_new_session": True}

    def _end(process: subprocess.Popen[bytes]) -> None:
        """End it, with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
