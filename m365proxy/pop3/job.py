"""A call in a thread of its own, for somebody who has something to do meanwhile."""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from ..errors import ProxyError


class Job:
    """One call.  `ready` and `wait` are for the thread that began it.

    Where the machine has no thread left the call runs at once, in the caller's.
    """

    def __init__(self, call: Callable[[], Any], name: str):
        self._call = call
        self._over = threading.Event()
        self._result: Any = None
        self._error: Optional[BaseException] = None
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:
            self._run()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except ProxyError as error:
            self._error = error
        except BaseException as error:  # a fault here: its thread tells of it too
            self._error = error
            raise
        finally:
            self._over.set()

    def ready(self, seconds: float) -> bool:
        """Whether it is over, after waiting up to `seconds`; raises what the call raised."""
        over = self._over.wait(seconds)
        if self._error is not None:
            raise self._error
        return over

    def wait(self) -> Any:
        """Wait for its end, however long that takes; what the call returned, None if it raised something."""
        self._over.wait()
        return self._result
