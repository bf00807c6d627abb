"""A call in a thread of its own, so that the caller can do something meanwhile."""

from __future__ import annotations

import threading
from typing import Callable, Generic, Optional, TypeVar

from ..errors import ProxyError

_T = TypeVar("_T")


class Job(Generic[_T]):
    """One call.  Its methods are for the thread that began it.

    If the machine has no thread left, the call runs at once in the caller's.
    """

    def __init__(self, call: Callable[[], _T], name: str):
        self._call = call
        self._over = threading.Event()
        self._result: Optional[_T] = None
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
        except BaseException as error:  # a fault of this program: its thread reports it too
            self._error = error
            raise
        finally:
            self._over.set()

    def wait_over(self, seconds: float) -> bool:
        """Whether it is over, after waiting up to `seconds`; raises what the call raised."""
        over = self._over.wait(seconds)
        if self._error is not None:
            raise self._error
        return over

    def result(self) -> Optional[_T]:
        """What the call returned, after waiting for its end however long that takes; None if it raised something."""
        self._over.wait()
        return self._result
