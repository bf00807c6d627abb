"""Log lines: one line an event, no control characters, no traceback above DEBUG."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import time
import traceback
from typing import Any, Optional

from ..errors import CannotCreate
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


class _OneLine(logging.Formatter):
    """Time in UTC, level, logger, message; an exception shrinks to its last frame."""

    def __init__(self, stamp: bool):
        form = "%(levelname)s %(noun)s: %(message)s"
        super().__init__(("%(asctime)sZ " if stamp else "") + form, "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.asctime = self.formatTime(record, self.datefmt)
        record.noun = record.name.rpartition("m365proxy.")[2]
        record.message = record.getMessage()
        parts = [self.formatMessage(record)]
        if record.exc_info:
            parts.append(self.formatException(record.exc_info))
        return clean(": ".join(parts), _LONGEST)

    def formatException(self, info: Any) -> str:
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


class _LogFile(logging.handlers.WatchedFileHandler):
    """A log file whose loss stops nothing: lines it does not take go to stderr.

    The standard one raises in the caller's face if the file cannot be opened
    again after a rotation; a device would get a 451 for mail that is queued.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except (OSError, ValueError):
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            print(self.format(record), file=sys.stderr, flush=True)


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


def _main_handler(file: str) -> logging.Handler:
    if not file:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JournalLine(stamp=False) if _is_journal() else _OneLine(stamp=True))
        return handler
    handler = _log_file(file)
    handler.setFormatter(_OneLine(stamp=True))
    return handler


def _log_file(file: str) -> _LogFile:
    try:
        return _LogFile(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
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
