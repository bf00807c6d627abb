"""`run --standby`: waits until no other machine has the state directory, which is on a volume that both can open."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from typing import NamedTuple, Optional, Tuple

from ..config.sections import Config
from ..errors import InUse, ProxyError
from ..system import files, log
from ..system.signals import Asked
from ..system.systemd import Notifier

# Between two tries (seconds): so long, at most, nobody serves after the first machine's end.
_AGAIN = 0.5

# What the service manager is asked to grant (seconds), and how often: to it, the program is still starting.
_GRANTED, _ASK_AGAIN = 60.0, 20.0


class Turn(NamedTuple):
    """`lock`: that of the state directory, held now; `has_waited`: whether somebody else was seen to hold it."""

    lock: files.Lock
    has_waited: bool


def wait(config: Config, notifier: Notifier, asked: "Asked[str]") -> Optional[Turn]:
    """Our turn, once the lock of the state directory is free; None if `asked` says "stop" before.

    The directory is not made: as long as the volume is not mounted, there is none, and one beside it would have an
    empty queue.
    """
    log.setup(config.logging.level, "", config.logging.syslog)  # a log file may be on the volume
    logger = log.get("run")
    said, due, has_waited = "", 0.0, False
    while True:
        why, is_held, lock = _try(config.state_dir)
        if lock is not None:
            if said:
                logger.info("standby: taking over %s", config.state_dir)
            return Turn(lock, has_waited)
        has_waited = has_waited or is_held
        if why != said:
            logger.info("standby: %s", why)
            said, due = why, 0.0
        if time.monotonic() >= due:
            notifier.wait(f"Standby: {why}", _GRANTED)
            due = time.monotonic() + _ASK_AGAIN
        with contextlib.suppress(queue.Empty):
            if asked.get(timeout=_AGAIN) == "stop":
                logger.info("standby: stopped")
                return None


def _try(state_dir: str) -> Tuple[str, bool, Optional[files.Lock]]:
    """Why there is no lock, whether somebody holds it, and the lock if it is ours."""
    if not os.path.isdir(state_dir):
        return f"{state_dir} is not there; waiting for its volume to be mounted.", False, None
    lock = files.Lock(os.path.join(state_dir, "lock"))
    try:
        lock.acquire()
    except InUse as error:
        return f"{error} Waiting for its end.", True, None
    except (OSError, ProxyError) as error:
        return f"{error} Waiting until it can be opened.", False, None
    return "", False, lock
