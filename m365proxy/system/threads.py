"""Threads and timers: what is done later, or again and again, and goes on whatever happens in it."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from ..errors import ProxyError
from . import log

logger = log.get("threads")

# Seconds until a repeated action is tried again for which there was no thread.
_NO_THREAD_SECONDS = 60.0


def try_start(thread: threading.Thread) -> bool:
    """Start a thread; False if the system has none left."""
    try:
        thread.start()
    except RuntimeError as error:
        logger.warning("no thread can be started for now: %s", error)
        return False
    return True


def survive(action: Callable[[], object], name: str) -> None:
    """Do one part of a loop that must go on whatever happens in it; what happened is logged."""
    try:
        action()
    except (ProxyError, OSError) as error:
        logger.warning("%s: %s", name, error)
    except Exception:  # the loop's last resort: without it, signals would go unheard or the sign-in would expire
        logger.exception("%s ended by an error in this program", name)


class Timer:
    """Calls an action once, some time later, in a thread of its own.  It can be started again and again.

    Any thread may call, the action too.  An action whose timer was cancelled or started again is not called.
    """

    def __init__(self, action: Callable[[], object], name: str):
        """`name`: of the thread."""
        self._action = action
        self._name = name
        self._lock = threading.Lock()
        self._timer: Optional[threading.Timer] = None
        self._due = 0.0  # monotonic

    @property
    def is_running(self) -> bool:
        """Whether the action is still to be called."""
        return self._timer is not None

    def start(self, seconds: float) -> bool:
        """Call the action after so many seconds, instead of when it was due; False if there is no thread for it."""
        with self._lock:
            return self._start(time.monotonic() + seconds)

    def start_within(self, seconds: float) -> bool:
        """As `start`, but if the action is due sooner, that stays as it is."""
        with self._lock:
            due = time.monotonic() + seconds
            return (self._timer is not None and self._due <= due) or self._start(due)

    def cancel(self) -> None:
        """Do not call the action; one that has begun is not ended."""
        with self._lock:
            self._cancel()

    def _start(self, due: float) -> bool:
        self._cancel()
        timer = threading.Timer(max(0.0, due - time.monotonic()), self._run)
        timer.daemon = True
        timer.name = self._name
        if not try_start(timer):
            return False
        self._timer, self._due = timer, due
        return True

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return
            self._timer = None
        self._action()


class Repeating:
    """Calls an action after `first` seconds, then every `seconds`, in a timer's thread.  A fault in it is logged."""

    def __init__(self, seconds: float, action: Callable[[], object], name: str, first: float):
        self._seconds = seconds
        self._first = first
        self._action = action
        self._name = name
        self._stopped = threading.Event()
        self._timer = Timer(self._run, name)

    def start(self) -> None:
        self._timer.start(self._first)

    def stop(self) -> None:
        """Call the action no more; one that has begun is not ended."""
        self._stopped.set()
        self._timer.cancel()

    def _run(self) -> None:
        survive(self._action, self._name)
        while not self._stopped.is_set() and not self._timer.start(self._seconds):
            self._stopped.wait(_NO_THREAD_SECONDS)
