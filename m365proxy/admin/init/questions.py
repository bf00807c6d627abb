"""Asking: on a terminal, again until an answer fits, or of a file of answers."""

from __future__ import annotations

import difflib
import json
import sys
from dataclasses import dataclass
from typing import Callable, Dict, Generic, List, Optional, Protocol, Sequence, TextIO, Tuple, TypeVar

from ...errors import UsageError
from ...system import files, log
from ..terminal import Mark, Terminal

T = TypeVar("T")

# Octets; an answer for each of a thousand mailboxes fits.
_LONGEST_FILE = 1024 * 1024


class InputEnded(UsageError):
    """Nobody answers any more."""


class Doubt(Exception):
    """An answer that fits, but is probably a mistake: to be asked again, and taken if it is given again."""

    def __init__(self, sentence: str, value: object):
        super().__init__(sentence)
        self.value = value


@dataclass(frozen=True)
class Question(Generic[T]):
    """`key`: in a file of answers.  `text`: one sentence, or two.  `default`: as it would be typed, or None.

    `read` makes a value of what was typed, which may be "" if that is the
    default.  It raises UsageError with a sentence that says what is wrong and
    what would be right, or Doubt.
    """

    key: str
    text: str
    read: Callable[[str], T]
    default: Optional[str] = None


class Questions(Protocol):
    """Who is asked."""

    def ask(self, question: Question[T]) -> T:
        """The answer.  UsageError if there is none that fits."""

    def heading(self, text: str) -> None:
        """What the next questions are about."""

    def note(self, text: str) -> None:
        """Something worth knowing before the next question."""


class Asked:
    """Asks somebody at a terminal."""

    def __init__(self, terminal: Terminal, answers: Optional[TextIO]):
        self._terminal = terminal
        self._answers = answers

    def heading(self, text: str) -> None:
        self._terminal.line()
        self._terminal.line(self._terminal.bold(text))

    def note(self, text: str) -> None:
        self._terminal.line(self._terminal.wrap(text, "  "))

    def ask(self, question: Question[T]) -> T:
        terminal = self._terminal
        terminal.line()
        terminal.line(terminal.wrap(question.text))
        doubted: Optional[Tuple[str, T]] = None
        while True:
            typed = self._typed(question.default)
            if not typed and question.default is None:
                self._complain("There is no default; type an answer.")
                continue
            typed = typed or question.default or ""
            if doubted is not None and typed == doubted[0]:
                return doubted[1]
            try:
                return question.read(typed)
            except UsageError as mistake:
                self._complain(str(mistake))
            except Doubt as doubt:
                self._complain(f"{doubt} Type it again if it is right.")
                doubted = typed, doubt.value  # type: ignore[assignment]  # it is what read would return

    def _typed(self, default: Optional[str]) -> str:
        self._terminal.prompt(f"[{default}]: " if default else "[none]: " if default == "" else ": ")
        try:
            line = self._answers.readline() if self._answers is not None else ""
        except UnicodeError:
            self._complain("That is not UTF-8 text.")
            return self._typed(default)
        if not line.endswith("\n"):
            self._terminal.line()
            raise InputEnded("The input ended before the last answer, so nothing was written. Run the command again.")
        return line.strip()

    def _complain(self, sentence: str) -> None:
        mark = self._terminal.mark(Mark.ATTENTION)
        self._terminal.line(self._terminal.wrap(f"{mark} {sentence}"))


class Given:
    """Takes the answers from a file, and the defaults for those that are not in it."""

    def __init__(self, answers: Dict[str, object], known: Sequence[str], terminal: Terminal):
        """UsageError if there is an answer to none of the questions `known`; keys that begin with # are comments."""
        self._answers = {key: value for key, value in answers.items() if not key.startswith("#")}
        self._terminal = terminal
        self._asked: List[str] = []
        for key in self._answers:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}."
                raise UsageError(f"The answers have {log.quote(key, 40)}, which is no key of theirs; {advice}")

    def heading(self, text: str) -> None:
        """Nobody needs one."""

    def note(self, text: str) -> None:
        mark = self._terminal.mark(Mark.INFO)
        self._terminal.line(self._terminal.wrap(f"{mark} {text}"))

    def ask(self, question: Question[T]) -> T:
        key = question.key
        self._asked.append(key)
        typed = _as_typed(self._answers[key], key) if key in self._answers else question.default
        if typed is None:
            raise UsageError(f"The answer {key} is missing: {question.text}")
        try:
            return question.read(typed)
        except UsageError as mistake:
            raise UsageError(f"The answer {key}: {mistake}") from None
        except Doubt as doubt:
            mark = self._terminal.mark(Mark.ATTENTION)
            self._terminal.line(self._terminal.wrap(f"{mark} {key}: {doubt}"))
            return doubt.value  # type: ignore[return-value]  # it is what read would return

    def check_all_used(self) -> None:
        """UsageError if there are answers to questions that were not asked: they would have no effect."""
        for key in self._answers:
            if key not in self._asked:
                raise UsageError(f"The answer {key} has no effect together with the others; remove it.")


def _as_typed(value: object, key: str) -> str:
    """A value of the file as it would be typed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, str)):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, (int, str)) for item in value):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    raise UsageError(f"The answer {key} must be text, a number, true or false, or a list or an object of texts.")


def read_answers(path: str) -> Dict[str, object]:
    """The answers in a file, "-" is standard input; UsageError says what is wrong with it."""
    try:
        content = sys.stdin.read(_LONGEST_FILE).encode() if path == "-" else files.read(path, _LONGEST_FILE)
    except (OSError, UnicodeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"The answers cannot be read from {log.quote(path)}: {reason}.") from None
    if content is None:
        raise UsageError(f"There is no file {log.quote(path)} with answers.")

    def once(pairs: List[Tuple[str, object]]) -> Dict[str, object]:
        names = [key for key, _ in pairs if not key.startswith("#")]
        for key in names:
            if names.count(key) > 1:
                raise UsageError(f"{log.quote(path)} has {log.quote(key, 40)} twice; keep one.")
        return dict(pairs)

    try:
        answers = json.loads(content, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "not text"
        raise UsageError(f"{log.quote(path)} is not valid JSON ({where}).") from None
    if not isinstance(answers, dict):
        raise UsageError(f'{log.quote(path)} must hold one object in braces, such as {{"tenant": "contoso.com"}}.')
    return answers
