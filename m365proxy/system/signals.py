"""What signals ask of the running program, from its first moment on."""

from __future__ import annotations

import queue
import signal

# What is asked for: "stop", "reload" or "flush".  A signal's handler runs in the middle of the main thread: it may
# wait for no lock, as this put does not.
Asked = queue.SimpleQueue

_WORDS = (("SIGTERM", "stop"), ("SIGINT", "stop"), ("SIGHUP", "reload"), ("SIGUSR1", "flush"))


def listen() -> "Asked[str]":
    """Take TERM, INT, HUP and USR1 from now on; what they ask for is put into the queue."""
    asked: "Asked[str]" = queue.SimpleQueue()
    for name, word in _WORDS:
        number = getattr(signal, name, None)  # Windows has neither HUP nor USR1
        if number is not None:
            signal.signal(number, lambda *_, word=word: asked.put(word))
    return asked
