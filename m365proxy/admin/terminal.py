"""Printing for people: marks, colour, and lines as wide as the terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import Mapping, Optional, TextIO

from ..system.choices import Word

if sys.platform == "win32":
    import ctypes
    import msvcrt

# Columns if nobody says how many there are, and the fewest that are believed.
_WIDTH, _MIN_WIDTH = 80, 20

# What must be shown as it is: a mark, and the corners, lines and blocks of boxes.
_CHARACTERS = "✓✗─│┌┐└┘█▀▄"

# A word; what is in backticks is part of one, blanks included.
_WORD = re.compile(r"(?:`[^`\n]*`|\S)+")
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Mark(Word):
    """How the thing a line is about stands; the word is for programs that read it."""

    OK = "ok"
    INFO = "info"
    ATTENTION = "warning"
    WRONG = "WRONG"
    SKIPPED = "skipped"


# With all characters, in ASCII, and the colour (ECMA-48, 8.3.117).
_MARKS = {
    Mark.OK: ("✓", "ok", "32"),
    Mark.INFO: ("-", "-", ""),
    Mark.ATTENTION: ("!", "!", "33"),
    Mark.WRONG: ("✗", "x", "1;31"),
    Mark.SKIPPED: ("-", "-", "2"),
}


class Terminal:
    """What a stream can show.  All of it is found out once, when this is made.

    `colour`: escape sequences are understood and wanted (https://no-color.org).
    `unicode`: marks and boxes are shown.  `width`: columns, at least 20.
    `interactive`: somebody sits there who can answer.
    """

    def __init__(self, stream: Optional[TextIO], environ: Mapping[str, str]):
        """`stream` is None if the program was started with it closed: nothing is shown then."""
        self._stream = stream
        is_screen = is_terminal(stream)
        self.colour = is_screen and not environ.get("NO_COLOR") and _knows_escapes(environ)
        self.unicode = _is_encoded(stream) and not (is_screen and _has_a_small_font(environ))
        self.width = max(_MIN_WIDTH, _columns(stream, environ))
        self.interactive = is_screen and is_terminal(sys.stdin)

    def mark(self, kind: Mark) -> str:
        """One column; two in ASCII, so that lines of all kinds are aligned."""
        shown, ascii, colour = _MARKS[kind]
        return self._coloured(shown if self.unicode else f"{ascii:<2}", colour)

    def bold(self, text: str) -> str:
        return self._coloured(text, "1")

    def wrap(self, text: str, indent: str = "") -> str:
        """`text` in lines of the width, each with the indent; its own line ends stay.

        A word, a command in backticks or an address is never broken, so that it can be copied.
        """
        lines = []
        for paragraph in text.split("\n"):
            line = ""
            for word in _WORD.findall(paragraph):
                if line and len(_ESCAPES.sub("", f"{indent}{line} {word}")) > self.width:
                    lines.append(indent + line)
                    line = word
                else:
                    line = f"{line} {word}" if line else word
            lines.append(indent + line if line else "")
        return "\n".join(lines)

    def line(self, text: str = "") -> None:
        """Print a line, at once."""
        if self._stream is not None:
            print(text, file=self._stream, flush=True)

    def prompt(self, text: str) -> None:
        """Print what stands before an answer, without a line end."""
        if self._stream is not None:
            print(text, end="", file=self._stream, flush=True)

    def _coloured(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colour and self.colour else text


def is_terminal(stream: Optional[TextIO]) -> bool:
    """Whether somebody may sit there; False for a stream that is missing or closed."""
    try:
        return stream is not None and stream.isatty() and not _is_nul(stream)
    except ValueError:  # it is closed
        return False


def _is_nul(stream: TextIO) -> bool:
    """Windows counts NUL among the terminals, but only a console has a mode (Microsoft: GetConsoleMode)."""
    if sys.platform == "win32":
        try:
            handle, mode = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno())), ctypes.c_uint32()
        except OSError:  # it has no descriptor
            return False
        return not ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode))
    return False


def _knows_escapes(environ: Mapping[str, str]) -> bool:
    # The old console of Windows does not, unless a program asks for it; Windows Terminal says that it is there.
    return "WT_SESSION" in environ if os.name == "nt" else environ.get("TERM", "dumb") != "dumb"


def _has_a_small_font(environ: Mapping[str, str]) -> bool:
    """Whether this is a screen whose fonts have few characters: the consoles of Linux and of Windows."""
    return "WT_SESSION" not in environ if os.name == "nt" else environ.get("TERM") == "linux"


def _is_encoded(stream: Optional[TextIO]) -> bool:
    try:
        _CHARACTERS.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _columns(stream: Optional[TextIO], environ: Mapping[str, str]) -> int:
    asked = environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or _WIDTH  # type: ignore[union-attr]
    return _WIDTH
