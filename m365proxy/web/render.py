"""HTML from text of anywhere: what is no `Html` is escaped, and nothing else makes `Html`."""

from __future__ import annotations

from typing import Iterable

from ..monitoring.stories import local_time
from ..system import log
from ..system.choices import Word

# Characters of one text; some come from outside.
_LONGEST = 500

_REFERENCES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Tone(Word):
    """How something stands: the class of its colour."""

    GOOD = "good"
    WAIT = "wait"
    BAD = "bad"
    NONE = "none"


class Html(str):
    """Text that is HTML already: templates that were filled, and text that was escaped."""


def escape(value: object) -> Html:
    """Anything, to stand between tags or in a quoted attribute; at most 500 characters, all of them printable."""
    return value if isinstance(value, Html) else Html(log.clean(value, _LONGEST).translate(_REFERENCES))


def fill(template: str, **values: object) -> Html:
    """A template of ours, in which {name} stands for the value of that name, escaped."""
    return Html(template.format_map({name: escape(value) for name, value in values.items()}))


def join(parts: Iterable[Html], separator: str = "\n") -> Html:
    """Parts one after the other; `separator` is HTML."""
    return Html(separator.join(parts))


def prose(text: str, program: str) -> Html:
    """A sentence whose commands, in backticks, can be copied.

    `program`: what starts this program, in the place of the `m365proxy` that sentences have.
    """
    parts = log.clean(text, _LONGEST).split("`")
    return join((code(part, program) if place % 2 else escape(part) for place, part in enumerate(parts)), "")


def code(command: str, program: str) -> Html:
    """A command that is selected as a whole."""
    return fill("<code>{command}</code>", command=as_typed(command, program))


def as_typed(command: str, program: str) -> str:
    """A command with what starts this program in the place of its `m365proxy`."""
    return program + command[len("m365proxy") :] if command.startswith("m365proxy ") else command


def mark(word: str, tone: Tone) -> Html:
    """A word in a colour that means the same."""
    return fill('<span class="mark {tone}">{word}</span>', tone=tone.value, word=word)


def moment(seconds: float) -> Html:
    """A moment (seconds since 1970) to the minute, in this machine's time zone; nothing if it is 0."""
    return fill("<time>{when}</time>", when=local_time(seconds)[:16]) if seconds else Html("")
