"""Whether devices are let in: not while the program is drained, nor while its disk hangs."""

from __future__ import annotations

import enum
import threading
from typing import Set

from .receivers.receivers import Receivers
from .receivers.words import Task
from .server.connections import Connections
from .smtp import session as smtp
from .system import log
from .system.diskprobe import DiskProbe
from .system.readiness import Readiness

logger = log.get("daemon")


class _Closure(enum.Enum):
    """Why nobody is let in, as the log says it of a device that was turned away."""

    DRAINING = "m365proxy is being drained"
    HANGING = "the disk does not answer"


class Admission:
    """Any thread may call.  A restart lets everybody in again."""

    def __init__(self, connections: Connections, receivers: Receivers, state_dir: str):
        self._connections = connections
        self._receivers = receivers
        self._lock = threading.Lock()
        self._closures: Set[_Closure] = set()
        self._disk = DiskProbe(state_dir, self.set_hanging)

    @property
    def is_draining(self) -> bool:
        return _Closure.DRAINING in self._closures

    def readiness(self) -> Readiness:
        """Whether devices are let in, and their mail would get on the disk; it may take as long as DiskProbe waits."""
        if self.is_draining:
            return Readiness.DRAINING
        return Readiness.READY if self._disk.is_well() else Readiness.NOT_READY

    def drain(self) -> None:
        """Take no new mail and no new session until the end of the program; POP3 sessions may go on to their QUIT."""
        if not self.is_draining:
            logger.warning("draining: no new mail is accepted, and what is queued is sent. A restart ends it.")
        self._set(_Closure.DRAINING, True)

    def set_hanging(self, is_hanging: bool) -> None:
        self._set(_Closure.HANGING, is_hanging)

    def _set(self, closure: _Closure, is_closed: bool) -> None:
        with self._lock:
            (self._closures.add if is_closed else self._closures.discard)(closure)
            why = next((one.value for one in _Closure if one in self._closures), "")
            wake = smtp.PROTOCOL.name if self.is_draining else ""
            self._connections.shut(why, wake)
            self._receivers.tell(Task.SHUT, why, wake)
