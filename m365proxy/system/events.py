"""The event log: a line of JSON for each step of each message, and for each client that was refused.

A log line on such a step carries it as `extra`, so that log and events cannot disagree:

    logger.info("accepted %s", id, extra=events.step("accepted", id=id))

docs/events.md lists the events and their fields.
"""

from __future__ import annotations

import calendar
import contextlib
import io
import json
import logging
import os
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Union

from ..errors import CannotCreate
from . import files, jsontext, log
from .groupwriter import GroupWriter, UnlockedHandler

logger = log.get("events")

Value = Union[None, bool, int, float, str, Sequence[str]]

# The files have the configured size together; the oldest is deleted before a new one begins.
_FILES = 8

_ENDING = ".jsonl"

_encoder = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for each text

# Characters of a text; some come from outside.
_LONGEST = 500

# Seconds until a disk that took no event is tried again.
_WAIT = 10.0

# Seconds for which the open file is trusted to be where it was: each look would let other threads go first.
_TRUST = 1.0


def step(event: str, **fields: Value) -> Mapping[str, Dict[str, Value]]:
    """`extra` of the log line on a step.  No field may hold a subject, a text of a mail, or a secret."""
    return {"event": {"event": event, **fields}}


class Position(NamedTuple):
    """A place in the event log: the number of a file, and octets in it; (0, 0) before its first event."""

    number: int
    octets: int


class Incomplete(Exception):
    """The event log does not have all that was written after a position."""


class Step(NamedTuple):
    """What a record says of a step."""

    when: float  # seconds since 1970
    fields: Mapping[str, Value]
    is_written: bool = True  # to the event log; of what a client does, that leaves out what is too much


class EventLog(UnlockedHandler):
    """Writes the steps among the log's records to numbered files in a directory.

    Nothing is synced.  Events that the disk does not take are lost, and nothing
    else: nobody waits or fails for them.
    """

    def __init__(self, directory: str, octets: int):
        """`octets` is the size of all files together.  The directory is made for the first event."""
        super().__init__()
        self._directory = directory
        self._writer = GroupWriter(self.write, _tell_lost)
        self._writing = threading.Lock()  # of what is below; nobody waits for it but while followers come and go
        self._file_octets = max(1, octets // _FILES)
        self._file: Optional[io.FileIO] = None
        self._path = ""  # that of the file
        self._identity = (0, 0)  # its device and inode
        self._size = 0  # its octets at the last look, and those written since
        self._trusted_until = 0.0  # monotonic
        self._paused_until = 0.0  # monotonic; 0 while the disk takes what is written

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's step, if it has one."""
        fields = getattr(record, "event", None)
        if isinstance(fields, dict):
            self._writer.put(Step(record.created, fields))

    def write(self, steps: Sequence[Step]) -> None:
        """Write what is to be written of these, with one system call."""
        with self._writing:
            if time.monotonic() >= self._paused_until:
                try:
                    self._write(b"".join([_line(step) for step in steps if step.is_written]))
                except Exception:  # mail that was sent would be looked for again and again
                    logger.exception("events could not be written")

    def note(self, event: str, **fields: Value) -> None:
        """Write a step that has no log line: what a command does, which prints for people instead."""
        self.handle(logging.makeLogRecord(dict(step(event, **fields))))

    def end(self) -> Optional[Position]:
        """Where the next event is written, at the earliest; None while the disk takes none, or cannot be read."""
        try:
            return None if self._paused_until else _end(self._directory)
        except OSError:
            return None

    def close(self) -> None:
        with self._writer.held(), self._writing:
            self._close_file()
        super().close()

    def _write(self, lines: bytes) -> None:
        if not lines:
            return
        try:
            written = self._open().write(lines)
        except OSError as error:
            self._pause(error.strerror or str(error))
            return
        except CannotCreate as error:
            self._pause(str(error))
            return
        self._size += written
        if written < len(lines):
            self._pause("the disk is full")
        elif self._paused_until:
            self._paused_until = 0.0
            logger.warning("events are written again to %s; those in between are lost", self._directory)

    def _pause(self, reason: str) -> None:
        if not self._paused_until:
            logger.warning("events cannot be written to %s, and are lost: %s", self._directory, reason)
        self._paused_until = time.monotonic() + _WAIT
        self._close_file()

    def _open(self) -> io.FileIO:
        """The newest file, or the next one if that is full or was taken away."""
        if self._file is not None and self._goes_on():
            return self._file
        self._close_file()
        files.make_private(self._directory)
        numbers = _numbers(self._directory)
        newest = numbers[-1] if numbers else 0
        if not newest or _size(path_of(self._directory, newest)) >= self._file_octets:
            newest += 1
            for number in numbers[: max(0, len(numbers) - _FILES + 1)]:
                files.remove(path_of(self._directory, number))
        self._path = path_of(self._directory, newest)
        self._file = files.open_unbuffered(self._path)
        if not _ends_with_line(self._path):
            self._file.write(b"\n")
        self._trust(os.fstat(self._file.fileno()))
        return self._file

    def _trust(self, found: os.stat_result) -> None:
        self._identity, self._size = (found.st_dev, found.st_ino), found.st_size
        self._trusted_until = time.monotonic() + _TRUST

    def _goes_on(self) -> bool:
        """Whether the open file has room, and `trace` finds it.

        A command may have written into it, or an administrator have removed or moved it, or the directory.
        """
        if time.monotonic() >= self._trusted_until:
            try:
                found = os.stat(self._path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            if (found.st_dev, found.st_ino) != self._identity:
                return False
            self._trust(found)
        return self._size < self._file_octets

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # the disk may be full
                file.close()


class Followers(UnlockedHandler):
    """Hands each step among the log's records, and when it happened (seconds since 1970), to those who follow them.

    They are called one record after the other, in a thread that logs: they must be quick, and must not log.
    With an event log it stands in its place among the log's handlers, and writes each step there first: while it is
    `held`, the files have exactly the steps that were followed.
    """

    def __init__(
        self,
        followers: Sequence[Callable[[float, Mapping[str, Value]], object]],
        event_log: Optional[EventLog] = None,
    ):
        super().__init__()
        self._followers = followers
        self._event_log = event_log
        self._writer = GroupWriter(self._take, _tell_lost)

    def start(self) -> None:
        """Follow the whole log from now on."""
        _exchange(self._event_log, self)

    def stop(self) -> None:
        """Give the event log its place back."""
        _exchange(self, self._event_log)

    @contextlib.contextmanager
    def held(self) -> Iterator[Optional[Position]]:
        """A with block in which no step is followed; where the event log ends, None if there is none or it is lost."""
        with self._writer.held():
            yield self._event_log.end() if self._event_log is not None else None

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "event", None)
        if isinstance(fields, dict):
            is_written = self._event_log is not None and bool(self._event_log.filter(record))
            self._writer.put(Step(record.created, fields, is_written))

    def _take(self, steps: List[Step]) -> None:
        if self._event_log is not None:
            self._event_log.write(steps)
        for step in steps:
            try:
                for follow in self._followers:
                    follow(step.when, step.fields)
            except Exception:  # mail that was sent would be looked for again and again
                logger.exception("a step could not be counted")


def _tell_lost(count: int) -> None:
    logger.warning("%d events were lost: the disk took none for too long", count)


def _exchange(old: Optional[logging.Handler], new: Optional[logging.Handler]) -> None:
    """Put one handler of the log in the place of another, at once for all threads: no record passes both or neither."""
    root = logging.getLogger()
    kept = [handler for handler in root.handlers if handler is not old]
    root.handlers = [*kept, new] if new is not None else kept


def lines(directory: str, since: float = 0.0) -> Iterator[bytes]:
    """The lines on what happened since then (seconds since 1970), the oldest first.

    A line may be damaged: `parse` says so.  One file is in memory at a time.
    OSError if the directory or a file cannot be read.
    """
    begin = b'{"time": "' + _stamp(since).encode()
    try:
        numbers = _numbers(directory)
    except FileNotFoundError:  # nothing has happened yet
        return
    for number in numbers:
        try:
            file = files.open_shared(path_of(directory, number))
        except FileNotFoundError:  # the program has just deleted its oldest file
            continue
        with file:
            yield from (line for line in file if line >= begin)


def last_lines(directory: str, octets: int) -> List[bytes]:
    """The last lines, the oldest first, which together have at most so many octets.

    A line may be damaged: `parse` says so.  OSError if the directory or a file cannot be read.
    """
    found: List[bytes] = []
    with contextlib.suppress(FileNotFoundError):  # nothing has happened yet, or the oldest file has just been deleted
        for number in reversed(_numbers(directory)):
            with files.open_shared(path_of(directory, number)) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - octets - 1))
                lines = file.read(octets + 1).splitlines(keepends=True)
            if size > octets:
                return lines[1:] + found  # the first is not whole, or the end of another
            found = lines + found
            octets -= size
    return found


def lines_after(directory: str, position: Position) -> Iterator[bytes]:
    """The lines that were written after a position, as `lines`; Incomplete if some of them are not there any more."""
    try:
        numbers = [number for number in _numbers(directory) if number >= position.number]
        if position.number and (position.number not in numbers or _end_of(directory, position.number) < position):
            raise Incomplete
    except (FileNotFoundError, NotADirectoryError):
        if position.number:
            raise Incomplete from None
        return
    for number in numbers:
        with files.open_shared(path_of(directory, number)) as file:
            file.seek(position.octets if number == position.number else 0)
            yield from file


class Tail:
    """What is written from now on, file by file."""

    def __init__(self, directory: str):
        """OSError if the directory cannot be read; it may be missing."""
        self._directory = directory
        self._number, self._offset = _end(directory)
        self._begun = b""  # a line whose end was not there yet

    def read(self) -> List[bytes]:
        """The lines since the last call.  A line may be damaged: `parse` says so."""
        numbers = self._numbers()
        if numbers and numbers[-1] < self._number:  # the directory was moved away, and there is a new one
            self._number = self._offset = 0
        for number in (number for number in numbers if number >= self._number):
            if number > self._number:
                self._number, self._offset = number, 0
            path = path_of(self._directory, number)
            # It may be missing: the program has just deleted its oldest file.
            with contextlib.suppress(FileNotFoundError), files.open_shared(path) as file:
                file.seek(self._offset)
                self._begun += file.read()
                self._offset = file.tell()
        *whole, self._begun = self._begun.split(b"\n")
        return whole

    def _numbers(self) -> List[int]:
        try:
            return _numbers(self._directory)
        except FileNotFoundError:
            return []


def parse(line: bytes) -> Dict[str, Any]:
    """The fields of a line; {} if it was cut off by a power cut or a full disk."""
    try:
        event = jsontext.parse(line)
    except ValueError:
        return {}
    is_event = isinstance(event, dict) and all(isinstance(event.get(name), str) for name in ("time", "event"))
    return event if is_event else {}


def time_of(event: Mapping[str, Any]) -> float:
    """When an event happened (seconds since 1970), without its fraction.  ValueError if nobody can tell."""
    return float(calendar.timegm(time.strptime(event["time"][:19], "%Y-%m-%dT%H:%M:%S")))


def path_of(directory: str, number: int) -> str:
    """The path of a file."""
    return os.path.join(directory, f"{number:08}{_ENDING}")


def _numbers(directory: str) -> List[int]:
    """The numbers of the files, the oldest first."""
    names = (name[: -len(_ENDING)] for name in files.names(directory) if name.endswith(_ENDING))
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and name == f"{int(name):08}")


def _end(directory: str) -> Position:
    try:
        numbers = _numbers(directory)
    except (FileNotFoundError, NotADirectoryError):
        numbers = []
    return _end_of(directory, numbers[-1]) if numbers else Position(0, 0)


def _end_of(directory: str, number: int) -> Position:
    return Position(number, _size(path_of(directory, number)))


def _size(path: str) -> int:
    return os.stat(path).st_size


def _ends_with_line(path: str) -> bool:
    """False after a power cut or on a full disk, where the last line may have been cut off."""
    with open(path, "rb") as file:
        file.seek(max(0, _size(path) - 1))
        return file.read(1) in (b"", b"\n")


def _line(step: Step) -> bytes:
    """One event, with its time in UTC; b"" if a value is none that JSON knows."""
    try:
        fields = [f'"{name}": {_text(value)}' for name, value in step.fields.items() if value is not None]
    except (TypeError, ValueError):  # the fault is in one step, and others are written with it
        logger.exception("an event could not be written")
        return b""
    return f'{{"time": "{_stamp(step.when)}", {", ".join(fields)}}}\n'.encode("utf-8", "backslashreplace")


def _text(value: Value) -> str:
    """A value in JSON, made safe.  What most are is asked first: there are many in each event."""
    if isinstance(value, str):
        return _encoder.encode(value if len(value) <= _LONGEST and value.isprintable() else log.clean(value, _LONGEST))
    if type(value) is int:  # not bool; the encoder takes longer for a number than for a text
        return str(value)
    if isinstance(value, (list, tuple)):  # to ask for a Sequence would take longer than all the rest
        return f"[{', '.join([_text(item) for item in value])}]"
    return _encoder.encode(value)


def _stamp(seconds: float) -> str:
    return f"{log.utc(int(seconds))}.{int(seconds * 1000) % 1000:03}Z"
