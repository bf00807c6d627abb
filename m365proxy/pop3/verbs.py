"""What a verb takes and what it answers."""

from __future__ import annotations

from typing import Callable, Iterable, NamedTuple

from ..server.connection import CRLF
from .dotwriter import stuffed


class Reply(NamedTuple):
    """What a verb answers; the session sends it."""

    good: bool
    text: str
    body: Iterable[bytes] = ()  # as it goes on the wire, closing dot included
    begun: bool = False  # its +OK is already on the way, because the client had to wait
    fault: bool = False  # the client's mistake: counts against the limit of errors
    starts_tls: bool = False
    ends: bool = False


class Refused(Exception):
    """Ends a verb early with its reply."""

    def __init__(self, reply: Reply):
        super().__init__(reply.text)
        self.reply = reply


class Verb(NamedTuple):
    """One row of a state's table; `form` is shown to a client that got the arguments wrong."""

    do: Callable[..., Reply]
    form: str
    least: int = 0
    most: int = 0
    raw: bool = False  # takes the rest of the line as it is, spaces included

    def call(self, state: object, rest: bytes) -> Reply:
        """Carry it out for a state of the session, with what followed the verb on its line."""
        if self.raw:
            return self.do(state, rest)
        arguments = rest.split()
        if not self.least <= len(arguments) <= self.most:
            return fault(f"Usage: {self.form}")
        return self.do(state, *arguments)


def ok(text: str) -> Reply:
    return Reply(True, text)


def refusal(text: str) -> Reply:
    """A -ERR that is not the client's mistake."""
    return Reply(False, text)


def fault(text: str) -> Reply:
    """A -ERR that is the client's mistake."""
    return Reply(False, text, fault=True)


def listing(text: str, lines: Iterable[str]) -> Reply:
    """An answer of several lines."""
    return Reply(True, text, stuffed(line.encode("ascii") + CRLF for line in lines))
