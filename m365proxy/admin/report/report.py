"""`report`: versions, config, check, status and the last errors, as a text that may be posted in public."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, cast

from ...config import load as configuration
from ...config.sections import Config
from ...errors import CannotCreate, ConfigError, ProxyError
from ...monitoring.monitor import Report
from ...system import files, statusfile
from .. import status
from ..check import ports, runner, subject
from ..check.report import Report as CheckReport
from ..owner import become_owner
from ..running import is_running
from ..statusview import StatusView
from ..terminal import Terminal
from . import configtext, lasterrors, machine
from .pseudonyms import Pseudonyms

# Columns; what is posted is often shown in a narrow box.
_WIDTH = 100

# Octets of a config; a longer one is none.
_LONGEST_FILE = 4 * 1024 * 1024

_PREFACE = """\
Passwords, keys and tokens are left out. Addresses, domains, user names, devices, hosts, paths and ids of the
config have pseudonyms: mailbox-1 is the same mailbox everywhere in this text, and nothing says which one.
Subjects and texts of mail are in none of this. IDs of the queue, request-ids, times and sizes are shown as they are.

Read it before you post it: a name that the program does not know as one cannot be replaced."""


def report(explicit: Optional[str], output: Optional[str], environ: Mapping[str, str]) -> Optional[int]:
    """Print the report; write it to the file `output`, or ask at a terminal whether to.  `explicit`: --config.

    A config that cannot be used ends nothing: the report says what is wrong with it.
    CannotCreate if the file is there already, or cannot be made.
    """
    file = _created(output) if output else None  # as who was called: root is somebody else afterwards
    try:
        text = compose(explicit, environ)
    except BaseException:
        if file is not None and output:
            file.close()
            with contextlib.suppress(OSError):
                files.remove(output)
        raise
    print(text)
    if file is not None:
        _write(file, text, str(output))
    elif Terminal(sys.stdout, environ).interactive:
        _ask(text)
    return None


def compose(explicit: Optional[str], environ: Mapping[str, str]) -> str:
    """The whole text.  Root goes on as the owner of the state directory."""
    made = _Composer(explicit, environ)
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    parts = [f"m365proxy report of {day}\n\n{_PREFACE}"]
    for title, section in made.sections():
        parts.append(f"== {title} ==\n\n{section}")
    text = made.pseudonyms.scrub_whole("\n\n".join(parts))
    legend = "\n".join(made.pseudonyms.legend())
    return f"{text}\n\n== Devices ==\n\n{legend}" if legend else text


class _Composer:
    def __init__(self, explicit: Optional[str], environ: Mapping[str, str]):
        self.pseudonyms = Pseudonyms()
        self._environ = environ
        self._problems: List[str] = []
        self._config: Optional[Config] = None
        self._path = ""
        self._document: Optional[Dict[str, object]] = None
        self._config_text = "There is none."
        self._holders: Dict[int, str] = {}
        self._dropped_root = False
        self._learn(explicit)

    def sections(self) -> Iterator["tuple[str, str]"]:
        yield "Versions", self._safely(self._versions)
        yield "Config", self._config_text
        yield "Check (offline)", self._safely(self._check)
        yield "Status", self._safely(self._status)
        yield "Last errors", self._safely(self._last_errors)

    def _learn(self, explicit: Optional[str]) -> None:
        """All names and secrets first: they may be in any text."""
        machine.learn(self.pseudonyms, self._environ)
        try:
            self._path = os.path.abspath(configuration.find(explicit, self._environ))
            self.pseudonyms.path(self._path)
            self._config_text = self._safely(self._read_config)
            self._config = configuration.load(self._path, self._environ)
        except ConfigError as error:
            self._problems += error.problems
        if self._config is not None:
            self._holders = ports.holders(ports.wanted_by(self._config))  # root sees more
        try:
            self._dropped_root = become_owner(self._state_dir())
        except ProxyError as error:
            self._problems.append(str(error))
        machine.learn_state(self.pseudonyms, self._state_dir())

    def _read_config(self) -> Iterator[str]:
        with open(self._path, "rb") as file:
            content = file.read(_LONGEST_FILE)
        document = configtext.parsed(content)
        if document is None:
            configtext.hide_all(content, self.pseudonyms)
            yield "It is no JSON object, and is not shown."
            return
        self._document = document
        yield f"{self.pseudonyms.path(self._path)}:"
        yield configtext.text(document, self.pseudonyms)

    def _state_dir(self) -> str:
        """The config's, or the one that it seems to have."""
        if self._config is not None:
            return self._config.state_dir
        given = (self._document or {}).get("state_dir")
        if isinstance(given, str) and given:
            return os.path.join(os.path.dirname(self._path), os.path.expanduser(given))
        return configuration.state_directory(self._environ, self._path)

    def _versions(self) -> Iterator[str]:
        for what, which in machine.versions(self.pseudonyms):
            yield f"{what:<14} {which}"

    def _check(self) -> Iterator[str]:
        if self._config is None:
            yield from map(self.pseudonyms.scrub_foreign, self._problems)
            return
        shown = io.StringIO()
        told = CheckReport(Terminal(shown, {"COLUMNS": str(_WIDTH)}))
        running = is_running(self._config)
        about = subject.Subject(self._config, running=running, dropped_root=self._dropped_root, holders=self._holders)
        for group, result in runner.run_quietly(about, offline=True):
            name, sentence, remedy = map(self.pseudonyms.scrub_foreign, (result.name, result.sentence, result.remedy))
            told.add(group, result._replace(name=name, sentence=sentence, remedy=remedy))
        told.end()
        yield shown.getvalue().rstrip()
        yield from map(self.pseudonyms.scrub_foreign, self._problems)

    def _status(self) -> Iterator[str]:
        if self._config is not None:
            shown = cast("Dict[str, Any]", status.look(self._config))
        else:
            shown = statusfile.read(self._state_dir())
            if not status.is_whole(shown):
                yield "There is none: the program has not run, or not with this config."
                return
            yield "As the program wrote it last; it may have ended since."
        text = io.StringIO()
        view = StatusView(Terminal(text, {"COLUMNS": str(_WIDTH)}))
        view.show(cast(Report, self.pseudonyms.scrub_all(shown)), time.time())
        yield text.getvalue().rstrip()

    def _last_errors(self) -> Iterator[str]:
        found = list(lasterrors.lines(os.path.join(self._state_dir(), "events"), self.pseudonyms))
        yield from found or ["There are none in the event log."]

    def _safely(self, section: Callable[[], Iterable[str]]) -> str:
        """The lines of a section; what goes wrong in it is its last line."""
        lines: List[str] = []
        try:
            lines.extend(section())
        except (ProxyError, OSError) as error:
            lines.append(f"This cannot be shown: {self.pseudonyms.scrub_foreign(str(error))}")
        except Exception as error:  # a report is wanted where something is wrong
            lines.append(f"An error in this program ({type(error).__name__}) kept the rest from being shown.")
        return "\n".join(lines)


def _created(path: str) -> files.NewFile:
    try:
        return files.create(path)
    except FileExistsError:
        raise CannotCreate(f"{path} is there already. Name another file with --output.") from None
    except OSError as error:
        raise files.cannot_create(
            f"{path} cannot be made: {error.strerror}. Name another file with --output.", error
        ) from None


def _write(file: files.NewFile, text: str, path: str) -> None:
    try:
        with file:
            file.write(text.encode("utf-8", "backslashreplace") + b"\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            files.remove(path)
        raise files.cannot_create(
            f"{path} cannot be written: {error.strerror}. Name another file with --output.", error
        ) from None
    print(f"Written to {path}.", file=sys.stderr)


def _ask(text: str) -> None:
    """Write it if whoever sits there says so."""
    name = time.strftime("m365proxy-report-%Y%m%d-%H%M%S.txt")
    path = os.path.join(os.path.abspath(os.curdir) if os.access(os.curdir, os.W_OK) else tempfile.gettempdir(), name)
    print(f"\nThis is all of it. Write it to {path}? [y/N] ", end="", flush=True, file=sys.stderr)
    if sys.stdin is not None and sys.stdin.readline().strip().lower() in ("y", "yes"):
        _write(_created(path), text, path)
