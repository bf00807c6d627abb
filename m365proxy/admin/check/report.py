"""What `check` prints: lines as they come, or one JSON object."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from ..terminal import Mark, Terminal
from .result import Group, Result, split
from .runner import exit_status

# What gets a line of its own, ready to be copied: a command that is to be run, or follows a colon.
_COMMAND = re.compile(r"(?:(?:^|(?<=[.:] ))Run|(?P<lead>\bthen run)|(?<=:)) `(?P<command>[^`]+)`(?: again)?")


class Report:
    """Prints each line at once; those that are skipped for one reason become one line."""

    def __init__(self, terminal: Terminal, program: str = "m365proxy"):
        """`program`: how this program is started with this config, for commands that are to be copied."""
        self._terminal = terminal
        self._program = program
        self._group: Optional[Group] = None
        self._skipped: List[Tuple[Group, Result]] = []
        self._results: List[Result] = []

    def add(self, group: Group, result: Result) -> None:
        """The next line."""
        result = result._replace(sentence=self._adapted(result.sentence), remedy=self._adapted(result.remedy))
        self._results.append(result)
        if self._skipped and (group, result._replace(name="")) != _nameless(self._skipped[0]):
            self._print_skipped()
        if result.mark is Mark.SKIPPED:
            self._skipped.append((group, result))
        else:
            self._print(group, result)

    def end(self) -> None:
        """Print what is left, and the last line."""
        self._print_skipped()
        self._terminal.line()
        self._terminal.line(self._terminal.wrap(summary(self._results)))

    def _print_skipped(self) -> None:
        if self._skipped:
            group, first = self._skipped[0]
            self._print(group, first._replace(name=", ".join(result.name for _, result in self._skipped)))
            self._skipped = []

    def _print(self, group: Group, result: Result) -> None:
        terminal = self._terminal
        if group is not self._group:
            if self._group is not None:
                terminal.line()
            terminal.line(terminal.bold(str(group)))
            self._group = group
        mark = terminal.mark(result.mark)
        indent = " " * (4 if terminal.unicode else 5)
        text = terminal.wrap(f"{terminal.bold(result.name)}: {result.sentence}", indent)
        terminal.line(f"  {mark} {text[len(indent) :]}")
        for text, is_command in pieces(result.remedy):
            terminal.line(f"{indent}    {text}" if is_command else terminal.wrap(text, indent + "  "))

    def _adapted(self, text: str) -> str:
        """A text whose commands start this program as it was started itself."""
        return text.replace("`m365proxy ", f"`{self._program} ")


def _nameless(line: Tuple[Group, Result]) -> Tuple[Group, Result]:
    return line[0], line[1]._replace(name="")


def pieces(remedy: str) -> Iterator[Tuple[str, bool]]:
    """A remedy as (text, whether it is a command that gets a line of its own), a line or more each."""
    begin = 0
    for found in _COMMAND.finditer(remedy):
        before = remedy[begin : found.start()].lstrip(" .,;") + (f"{found['lead']}:" if found["lead"] else "")
        if before.strip():
            yield before.strip(), False
        yield found["command"], True
        begin = found.end()
    rest = remedy[begin:].lstrip(" .,;") if begin else remedy
    if rest:
        yield rest, False


def summary(results: Sequence[Result]) -> str:
    """One line that says how it all stands."""
    wrong = [result for result in results if result.mark is Mark.WRONG]
    if wrong:
        first = wrong[0]
        step = split(first.remedy)[0] if first.remedy else first.sentence
        count = f"{len(wrong)} problems; first mend" if len(wrong) > 1 else "1 problem; mend"
        return f"{count}: {first.name}. {step}"
    marks = {result.mark for result in results}
    if Mark.ATTENTION in marks:
        return "Nothing is wrong, but see the lines with an exclamation mark."
    return "All that was looked at is well." if Mark.SKIPPED in marks else "All is well."


def as_json(lines: Sequence[Tuple[Group, Result]]) -> str:
    """All of it as one JSON object."""
    results = [result for _, result in lines]
    status = exit_status(results)
    checks: List[Any] = [{"group": group, **result._asdict()} for group, result in lines]
    return json.dumps(
        {"ok": status == 0, "exit_status": status, "summary": summary(results), "checks": checks}, indent=1
    )
