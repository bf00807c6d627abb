"""Steps that are printed as they are done, each with its time, and the failure that ends them."""

from __future__ import annotations

import time
from typing import Optional

from ..errors import ProxyError
from ..system import log
from .terminal import Mark, Terminal

# The width of a time, and of what stands before the text.
_TIME, _HEAD = 11, 13


class Failed(ProxyError):
    """A step failed.  str() is what happened, `advice` what to do."""

    def __init__(self, sentence: str, advice: str, exit_status: int):
        super().__init__(sentence)
        self.advice = advice
        self.exit_status = exit_status


class Steps:
    """Prints each step with the time it took, as `demo` does."""

    def __init__(self, terminal: Terminal, program: str = "m365proxy"):
        """`program`: how this program is started with this config, for commands that are to be copied."""
        self._terminal = terminal
        self._program = program
        self._began = self._last = time.monotonic()
        self.doing = ""  # what fails if something does

    def start(self, doing: str) -> None:
        self.doing = doing

    def lap(self) -> float:
        """Seconds since the last step."""
        return time.monotonic() - self._last

    def done(self, what: str, mark: Mark = Mark.OK, took: Optional[float] = None) -> None:
        """A step is done; `took` seconds, if it was done before now."""
        self._print(f"  {self.lap() if took is None else took:6.2f} s ", mark, what)
        self._last = time.monotonic()

    def note(self, what: str, mark: Mark) -> None:
        """A line of something that takes no time of its own."""
        self._print(" " * _TIME, mark, what)

    def fail(self, error: Failed) -> None:
        self.done(f"{self.doing}: {error}", Mark.WRONG)
        if error.advice:
            self._terminal.line(self._terminal.wrap(self.adapted(error.advice), " " * _HEAD))

    def adapted(self, text: str) -> str:
        """With the program's commands in it as they are to be typed here."""
        return text.replace("`m365proxy ", f"`{self._program} ")

    def _print(self, head: str, mark: Mark, what: str) -> None:
        indent = " " * _HEAD
        text = self._terminal.wrap(self.adapted(log.clean(what, 2000)), indent)[len(indent) :]
        self._terminal.line(f"{head}{self._terminal.mark(mark)} {text}")

    @property
    def total(self) -> float:
        return time.monotonic() - self._began
