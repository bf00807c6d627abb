"""What is known of a folder from earlier sessions: its messages, their exact sizes, and Graph's deltaLink.

A line of JSON says what is to come, and each further one has the columns of some messages.

It only saves work: if a ledger is lost or cannot be read, the folder is listed
in full once, and sizes are estimates again until the messages were fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, Callable, Iterable, Iterator

from ..system import files, jsontext, log
from .table import Table

_log = log.get("ledger")

# Messages a ledger holds: about 10 MB.  A larger folder is listed in full every time.
_MOST = 100_000

# Messages in a line: read or written all at once, they would take as much memory again.
_AT_ONCE = 1000

# Octets a line may have on disk.
_LINE_LIMIT = 4 * 1024 * 1024

# An unchanged ledger is written again after this long (seconds), so that its deltaLink does not grow old.
_RENEWAL = 6 * 3600.0

_FORMAT = 2


class Ledger:
    """What is known of one folder.  Belongs to the session that has the folder's lock."""

    def __init__(self, directory: str, key: Iterable[str], clock: Callable[[], float] = time.time):
        """`key` tells folders and accounts apart; its parts are not written down."""
        name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = os.path.join(directory, name + ".json")
        self._clock = clock
        self._written = 0.0
        self.messages = Table()
        self.link = ""
        try:
            with files.open_shared(self._path) as file:
                self._take(iter(lambda: file.readline(_LINE_LIMIT), b""))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            self.messages, self.link = Table(), ""
            _log.info("%s cannot be used, the folder is listed in full: %s", self._path, error)

    def _take(self, lines: Iterator[bytes]) -> None:
        head = jsontext.parse(next(lines, b""))
        if head["format"] != _FORMAT:
            return
        messages = Table()
        for line in lines:
            columns = jsontext.parse(line)
            if len(set(map(len, columns))) != 1 or set(map(type, columns[0])) != {str}:
                raise ValueError("no columns")
            messages.extend(*columns)
            if len(messages) > _MOST:
                break
        if len(messages) != head["messages"]:
            raise ValueError("not whole")
        self.messages = messages
        self.link = str(head["link"])
        self._written = float(head["written"])

    def save(self, messages: Table, link: str) -> None:
        """Write down what is known now, if it is new.  Raises nothing: trouble is logged."""
        if len(messages) > _MOST:
            messages = messages.rows(range(len(messages) - _MOST, len(messages)))
            link = ""  # it would report changes to messages that are not here
        age = self._clock() - self._written
        known = messages == self.messages and (self.link or not link)
        # A newer link to the same messages is not worth it: writing wears out flash memory.
        if known and 0 <= age < _RENEWAL:
            return
        written = self._clock()
        head = {"format": _FORMAT, "written": written, "link": link, "messages": len(messages)}
        content = bytearray(_line(head))
        for first in range(0, len(messages), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            columns = (messages.ids, messages.received, messages.sizes, messages.exact)
            content += _line([list(column[part]) for column in columns])
        try:
            files.replace(self._path, content, durable=False)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error.strerror)
            return
        self.messages, self.link, self._written = messages, link, written


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
