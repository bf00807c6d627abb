"""`login`: the code on the screen, the time it is still valid, and what happens if whoever waits there leaves."""

from __future__ import annotations

import os
import sys
from typing import Callable, Mapping, Optional, TextIO

from ..account import Account
from ..config.sections import Config
from ..entra.devicecode import DeviceCode
from ..errors import CannotCreate
from ..system import files, signals
from . import invocation
from .blockletters import enlarged
from .terminal import Terminal, is_terminal


def login(config: Config) -> Optional[int]:
    """Sign in by device code.  Goes on if the connection of whoever started it drops, until the code expires."""
    files.make_directory(config.state_dir)
    account = Account(config)
    if config.client_secret or config.client_certificate:
        print("No sign-in is needed: the app registration's own secret or certificate is used.")
        return None
    before = account.tokens.state()
    program = invocation.program(config.path)
    screen = Screen(sys.stdout, os.environ, program=program)
    with signals.outliving_terminal(screen.leave):
        try:
            user = account.tokens.login(screen.show, screen.count_down)
        except KeyboardInterrupt:
            screen.say(_given_up(before, account.tokens.state()))
            raise
        except BaseException:
            screen.say("")
            raise
        screen.say(f"Signed in as {user}. Next: `{program} check`.")
    return None


def _given_up(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    if now["signed_in_at"] != before["signed_in_at"]:
        return "Interrupted, but the sign-in was complete already: it is stored."
    still = f" {now['user']} is signed in as before." if now["user"] else ""
    return f"Given up. Nothing was changed.{still}"


class Screen:
    """Where the code is shown: a terminal, on which the time left is counted down in place, or a pipe."""

    def __init__(
        self,
        stream: Optional[TextIO],
        environ: Mapping[str, str],
        lose: Callable[[int], object] = signals.lose_output,
        program: str = "m365proxy",
    ):
        """`lose` is called with 1 if nobody can read the stream any more, and with 2 if no error either.

        `program`: how it is started, in commands that can be copied.
        """
        self._terminal = Terminal(stream, environ)
        self._stream = stream
        self._lose = lose
        self._program = program
        self._counts = is_terminal(stream) and environ.get("TERM") != "dumb"
        self._counting = ""  # what stands on the line of the countdown

    def show(self, code: DeviceCode) -> None:
        """CannotCreate if nobody can see the code: waiting for it would be in vain."""
        if self._counts:
            self._write("\n".join(self._page(code)) + "\n")
        else:
            self._write(f"{code} Interrupt this command to give up; nothing is changed then.\n")
        if self._stream is None:
            raise CannotCreate("The code cannot be shown, because nothing can be printed. Nothing was changed.")

    def count_down(self, seconds: float) -> None:
        """Show the time that is left, in place of what was shown before."""
        if self._counts:
            left = f"Waiting. {int(seconds) // 60}:{int(seconds) % 60:02d} left. Ctrl-C: give up."
            left = left[: self._terminal.width - 1]
            self._write("\r" + left.ljust(len(self._counting)))
            self._counting = left

    def say(self, sentence: str) -> None:
        """Print a last sentence below everything else; with none, only end the line of the countdown."""
        if self._counting:
            self._write("\n")
            self._counting = ""
        if sentence:
            self._write(self._terminal.wrap(sentence) + "\n")

    def leave(self) -> None:
        """Show nothing any more: the terminal is gone."""
        self._stream = None
        self._lose(1)
        self._lose(2)

    def _page(self, code: DeviceCode) -> "list[str]":
        terminal = self._terminal
        large = enlarged(code.code, "█" if terminal.unicode else "#")
        if not large or max(map(len, large)) + 2 > terminal.width:
            large = []
        return [
            terminal.wrap("Open this address in a browser, on this machine or any other, or on a phone:"),
            "",
            "  " + terminal.bold(code.address),
            "",
            "Enter this code:",
            "",
            *[terminal.bold("  " + line) for line in large],
            *([""] if large else []),
            "  " + (code.code if large else terminal.bold(" ".join(code.code))),
            "",
            terminal.wrap(f"Sign in there as {code.user}."),
            "",
            terminal.wrap(
                f"The code is good for {code.minutes} minutes. If you give up, nothing is changed. If this connection "
                f"drops, the command waits on: finish on the phone, then see `{self._program} status`."
            ),
            "",
        ]

    def _write(self, text: str) -> None:
        stream = self._stream  # it may be lost in the middle of this
        if stream is None:
            return
        try:
            stream.write(text)
            stream.flush()
        except OSError:  # the terminal or the pipe has gone; the sign-in goes on
            self._stream = None
            self._lose(1)
