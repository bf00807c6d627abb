"""Reports to systemd, as by sd_notify(3): a datagram of NAME=value lines."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import Mapping

from .log import clean


class Notifier:
    """Speaks to the service manager that started us; without one every call does nothing.

    One thread at a time.  `environ` is where systemd puts NOTIFY_SOCKET and WATCHDOG_USEC.
    """

    def __init__(self, environ: Mapping[str, str]):
        self._address = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        # Twice within the time the watchdog gives, as sd_watchdog_enabled(3) advises.
        self._alive_seconds = int(microseconds) / 2e6 if microseconds.isdigit() else 0.0
        self._alive_due = 0.0
        self._status = ""

    def ready(self, status: str) -> None:
        """We serve, or wait for the administrator: units ordered after ours may start."""
        self._status = status
        self._send("READY=1", f"STATUS={clean(status)}")

    def wait(self, status: str, seconds: float) -> None:
        """We cannot serve yet, and want to be given so many seconds more for the start."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}", f"STATUS={clean(status)}")

    def status(self, status: str) -> None:
        """What `systemctl status` shows; sent when it changed."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={clean(status)}")

    def alive(self) -> None:
        """Call this more often than the watchdog's time; it sends no more often than needed."""
        if self._alive_seconds and time.monotonic() >= self._alive_due:
            self._alive_due = time.monotonic() + self._alive_seconds
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if sys.platform == "win32" or not self._address:
            return
        # @ stands for the NUL of an abstract address
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # Without this datagram the service manager acts by its own time limits; nothing for us to do.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
            wire.sendto("\n".join(lines).encode("utf-8", "replace"), address)
