"""What is done again and again in the background, and goes on whatever happens in it."""

from __future__ import annotations

import threading
from typing import Callable, Optional

from ..errors import ProxyError
from . import log

logger = log.get("daemon")

# Seconds until a timer is set again for which there was no thread.
_NO_THREAD_SECONDS = 60.0


def survive(action: Callable[[], object], name: str) -> None:
    """Do a part of a loop that has to go on whatever happens in it; what happened is logged."""
    try:
        action()
    except (ProxyError, OSError) as error:
        logger.warning("%s: %s", name, error)
    except Exception:  # the last resort of a loop: without it the program would be deaf, or its sign-in die of age
        logger.exception("%s broke off by a fault here", name)


class Repeating:
    """An action in a threading.Timer of its own: after `first` seconds, then every so many."""

    def __init__(self, seconds: float, action: Callable[[], object], name: str, first: float):
        self._seconds = seconds
        self._first = first
        self._action = action
        self._name = name
        self._stopped = threading.Event()
        self._timer: Optional[threading.Timer] = None

    def start(self) -> None:
        self._start(self._first)

    def _start(self, after: float) -> bool:
        timer = threading.Timer(after, self._run)
        timer.daemon = True
        timer.name = self._name
        self._timer = timer
        return started(timer)

    def _run(self) -> None:
        survive(self._action, self._name)
        while not self._stopped.is_set() and not self._start(self._seconds):
            self._stopped.wait(_NO_THREAD_SECONDS)

    def stop(self) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()


def started(thread: threading.Thread) -> bool:
    """Start a thread or timer; False if the system has none left."""
    try:
        thread.start()
    except RuntimeError as error:
        logger.warning("something waits for a thread: %s", error)
        return False
    return True
