"""What a check found: a line, and what to do about it."""

from __future__ import annotations

import re
from typing import NamedTuple, Tuple

from ...errors import CannotCreate, ProxyError, Temporary
from ...system import files
from ...system.choices import Word
from ..terminal import Mark


class Group(Word):
    """What the lines below a heading are about."""

    MACHINE = "This machine"
    MICROSOFT = "Microsoft"
    MAILBOXES = "Mailboxes"


class Result(NamedTuple):
    """A line.  `remedy`: what to do, "" if nothing; `exit_status` is 0 unless the mark is WRONG."""

    mark: Mark
    name: str
    sentence: str
    remedy: str = ""
    exit_status: int = 0


# The end of a sentence; before "; " is one, too, if what follows is a command to run.
_END = re.compile(r"(?<=[.?])\s+(?=[A-Z`])|; (?=run `)")

# Microsoft's number of an error, behind all sentences.
_CODE = re.compile(r"(?<=\.) \([^()]*\)$")

# The disk is full or failing.
DISK = 74


def of_text(mark: Mark, name: str, text: str, exit_status: int = 0) -> Result:
    """A line of a text of ours that says what is so in its first sentence, and what to do in the others."""
    sentence, remedy = split(text)
    return Result(mark, name, sentence, remedy, exit_status)


def split(text: str) -> Tuple[str, str]:
    """The first sentence of a text, and the others.  A code in brackets at the end belongs to the first."""
    end = _END.search(text)
    if not end:
        return text, ""
    sentence, rest = text[: end.start()], text[end.end()].upper() + text[end.end() + 1 :]
    code = _CODE.search(rest)
    if code:
        sentence, rest = f"{sentence.rstrip('.')}{code.group()}.", rest[: code.start()]
    return sentence, rest


def of_error(name: str, error: Exception, remedy: str = "") -> Result:
    """The line of a ProxyError or OSError; `remedy`: if the error has no advice of its own."""
    if isinstance(error, ProxyError):
        line = of_text(Mark.WRONG, name, str(error), error.exit_status)
        may_pass = "Wait a few minutes, then run `m365proxy check` again." if isinstance(error, Temporary) else ""
        return line if line.remedy else line._replace(remedy=remedy or may_pass)
    assert isinstance(error, OSError)
    sentence = f"{error.filename or 'The system'}: {error.strerror or error}."
    status = DISK if error.errno in files.DISK_FAULTS else CannotCreate.exit_status
    return Result(Mark.WRONG, name, sentence, remedy, status)
