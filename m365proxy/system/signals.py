"""What signals ask of the running program, from its first moment on; and what becomes of one whose terminal goes."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
from typing import Callable, Iterator

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


@contextlib.contextmanager
def outliving_terminal(gone: Callable[[], object]) -> Iterator[None]:
    """Go on if the terminal, or the connection it came over, is gone; `gone` is called then, perhaps more than once.

    It is called in the middle of the main thread: it may wait for no lock.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None:  # Windows ends the program with its console
        yield
        return
    before = signal.signal(number, lambda *_: gone())
    try:
        yield
    finally:
        signal.signal(number, before)


def lose_output(*descriptors: int) -> None:
    """From now on, what is printed goes nowhere: 1 is what commands say, 2 their errors and the log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
