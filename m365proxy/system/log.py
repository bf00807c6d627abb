"""Log lines: one line an event, no control characters, no traceback above DEBUG."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import logging.handlers
import os
import sys
import time
import traceback
from io import TextIOWrapper
from typing import Any, List, Optional

from ..errors import CannotCreate
from .groupwriter import GroupWriter, UnlockedHandler
from .restraint import Restraint

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_LONGEST = 2000

_SYSLOG = "/dev/log"

# Seconds to wait for a syslog that takes no line, and until it is tried again.
_SYSLOG_PATIENCE, _SYSLOG_PAUSE = 0.5, 10.0

# Levels and their priorities of syslog (RFC 5424 6.2.1).
_PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


def clean(value: object, limit: int = 200) -> str:
    """Text from outside, made safe for one log line: printable, at most `limit` characters."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)[: limit + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quote(value: object, limit: int = 200) -> str:
    """`clean`, in double quotes, so that a reader (fail2ban) sees where the value ends."""
    return '"' + clean(value, limit).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


@functools.lru_cache(1)
def utc(seconds: int) -> str:
    """A time (seconds since 1970) as "2026-11-29T13:05:00"; kept for the other lines of a busy second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class _OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; an exception shrinks to its last frame."""

    def __init__(self, stamp: bool):
        super().__init__()
        self._stamp = stamp

    def format(self, record: logging.LogRecord) -> str:
        noun = record.name.rpartition("m365proxy.")[2]
        line = f"{record.levelname} {noun}: {record.getMessage()}"
        if self._stamp:
            line = f"{utc(int(record.created))}Z {line}"
        if record.exc_info:
            line = f"{line}: {self.formatException(record.exc_info)}"
        return clean(line, _LONGEST)

    def formatException(self, info: Any) -> str:
        return exception_text(info)


def exception_text(info: Any) -> str:
    """An exception and its last frame, all frames if the log is for DEBUG; `info` as sys.exc_info gives it."""
    kind, error, trace = info
    if logging.getLogger("m365proxy").isEnabledFor(logging.DEBUG):
        return "".join(traceback.format_exception(kind, error, trace))
    frames = traceback.extract_tb(trace)
    where = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{kind.__name__}: {error}{where}"


class _JournalLine(_OneLine):
    """A line for journald, which stamps it itself and reads its priority from the first octets (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return f"<{priority}>{super().format(record)}"


def _is_journal() -> bool:
    """Whether standard error is the journal: $JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or replaced
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class _Lines(UnlockedHandler, logging.StreamHandler):  # type: ignore[type-arg]  # it has none on Python 3.9
    """A stream of lines; nobody waits for a lock while somebody writes."""

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self._writer = GroupWriter(self._write, self._tell_lost)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record))
        except Exception:  # as in all handlers of logging
            self.handleError(record)

    def close(self) -> None:
        with self._writer.held():
            super().close()

    def _write(self, lines: List[str]) -> None:
        """With one system call, if they are not many."""
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
            self._append("\n".join([*lines, ""]))

    def _append(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _tell_lost(self, count: int) -> None:
        self._write([f"WARNING log: {count} lines were lost: nobody took them for too long"])


class _LogFile(_Lines, logging.handlers.WatchedFileHandler):
    """A log file whose loss stops nothing: lines it does not take go to stderr.

    The standard one raises in the caller's face if the file cannot be opened
    again after a rotation; a device would get a 451 for mail that is queued.
    """

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=_open_without_waiting)

    def _append(self, text: str) -> None:
        try:
            self.reopenIfNeeded()
            if self.stream is None:
                self.stream = self._open()
            super()._append(text)
        except (OSError, ValueError):
            print(text, end="", file=sys.stderr, flush=True)


def _open_without_waiting(path: str, flags: int) -> int:
    """An opener that raises OSError (ENXIO) for a pipe nobody reads: the usual one would wait for a reader for ever."""
    if sys.platform == "win32":
        return os.open(path, flags, 0o666)
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


class _Syslog(logging.handlers.SysLogHandler):
    """A syslog that hangs costs its lines only: the standard one waits for it for ever, and so would all mail."""

    _paused_until = 0.0  # monotonic

    def _connect_unixsocket(self, address: str) -> None:
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self.socket.settimeout(_SYSLOG_PATIENCE)  # type: ignore[attr-defined]

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() >= self._paused_until:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self._paused_until = time.monotonic() + _SYSLOG_PAUSE


def setup(level: str = "INFO", file: str = "", syslog: bool = False, events: Optional[logging.Handler] = None) -> None:
    """Send the program's log to stderr, or to `file` (re-opened after rotation), and to syslog if asked.

    `events` gets all records from INFO on, whatever the level.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # its disk may be full
            handler.close()
    root.addHandler(_main_handler(file))
    if syslog:
        _add_syslog(root)
    restraint = Restraint(get("log"))
    for handler in root.handlers:
        handler.setLevel(level)
        handler.addFilter(restraint.allows_line)
    if events is not None:
        events.addFilter(restraint.allows_event)
        root.addHandler(events)
    root.setLevel(logging.WARNING)
    for library in ("msal", "urllib3"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they log URLs and claims
    logging.getLogger("m365proxy").setLevel(level if level == "DEBUG" else "INFO")  # counters follow all steps
    logging.raiseExceptions = False
    # What no line shows need not be found out for each (Python's Logging HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def let_go() -> None:
    """Close the log's files, for a process that has nothing to say: one that was rotated away would keep its room.

    A line makes them open again.
    """
    for handler in logging.getLogger().handlers:
        with contextlib.suppress(OSError):  # its disk may be full
            handler.close()


def _main_handler(file: str) -> logging.Handler:
    if not file:
        handler: logging.Handler = _Lines(sys.stderr)
        handler.setFormatter(_JournalLine(stamp=False) if _is_journal() else _OneLine(stamp=True))
        return handler
    handler = _log_file(file)
    handler.setFormatter(_OneLine(stamp=True))
    return handler


def _log_file(file: str) -> _LogFile:
    try:
        return _LogFile(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise CannotCreate(f"logging.file: {file} is a pipe that nobody reads. Name a file.") from None
        raise CannotCreate(
            f"logging.file: {file} cannot be opened: {error.strerror}. Make its directory, and let the user the "
            "service runs as write there."
        ) from None


def check_file(file: str) -> None:
    """CannotCreate if a log file cannot be written; one that was not there is made, as by `setup`."""
    _log_file(file).close()


def _add_syslog(root: logging.Logger) -> None:
    """A syslog that cannot be reached costs its lines only, not the service."""
    address = _SYSLOG if os.path.exists(_SYSLOG) else ("localhost", 514)
    try:
        handler = _Syslog(address, facility=_Syslog.LOG_MAIL)
    except OSError as error:
        print(f"logging.syslog cannot be reached: {error.strerror}; m365proxy runs without it.", file=sys.stderr)
        return
    handler.ident = "m365proxy: "
    handler.setFormatter(_OneLine(stamp=False))
    root.addHandler(handler)


def get(name: str) -> logging.Logger:
    """The logger of one module, by its noun: get("smtp")."""
    return logging.getLogger("m365proxy." + name)
