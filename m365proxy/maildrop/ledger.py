"""What is known of a folder from earlier sessions: its messages, their exact sizes, and Graph's deltaLink.

It only saves work: if a ledger is lost or cannot be read, the folder is listed
in full once, and sizes are estimates again until the messages were fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, Callable, Dict, Iterable

from ..system import files, jsontext, log
from .listing import Listed

_log = log.get("ledger")

# Messages a ledger holds: about 10 MB.  A larger folder is listed in full every time.
_MOST = 50_000

# Octets a ledger may have on disk.
_FILE_LIMIT = 64 * 1024 * 1024

# An unchanged ledger is written again after this long (seconds), so that its deltaLink does not grow old.
_RENEWAL = 6 * 3600.0

_FORMAT = 1


class Ledger:
    """What is known of one folder.  Belongs to the session that has the folder's lock."""

    def __init__(self, directory: str, key: Iterable[str], clock: Callable[[], float] = time.time):
        """`key` tells folders and accounts apart; its parts are not written down."""
        name = hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = os.path.join(directory, name + ".json")
        self._clock = clock
        self._written = 0.0
        self.messages: Dict[str, Listed] = {}
        self.sizes: Dict[str, int] = {}  # exact octets, by id
        self.link = ""
        try:
            content = files.read(self._path, _FILE_LIMIT)
            if content is not None:
                self._take(jsontext.parse(content))
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            self.messages, self.sizes, self.link = {}, {}, ""
            _log.info("%s cannot be used, the folder is listed in full: %s", self._path, error)

    def _take(self, value: Any) -> None:
        if value["format"] != _FORMAT:
            return
        for id, received, size, exact in value["messages"]:
            self.messages[str(id)] = Listed(str(id), int(size), str(received))
            if exact:
                self.sizes[str(id)] = int(exact)
        self.link = str(value["link"])
        self._written = float(value["written"])

    def save(self, messages: Dict[str, Listed], sizes: Dict[str, int], link: str) -> None:
        """Write down what is known now, if it is new.  Raises nothing: trouble is logged."""
        if len(messages) > _MOST:
            messages = dict(list(messages.items())[-_MOST:])
            link = ""  # it would report changes to messages that are not here
        sizes = {id: size for id, size in sizes.items() if id in messages}
        age = self._clock() - self._written
        known = messages == self.messages and sizes == self.sizes and (self.link or not link)
        # A newer link to the same messages is not worth it: writing wears out flash memory.
        if known and 0 <= age < _RENEWAL:
            return
        rows = [(one.id, one.received, one.size, sizes.get(one.id, 0)) for one in messages.values()]
        written = self._clock()
        value = {"format": _FORMAT, "written": written, "link": link, "messages": rows}
        try:
            files.replace(self._path, json.dumps(value, separators=(",", ":")).encode("ascii"), durable=False)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._path, error.strerror)
            return
        self.messages, self.sizes, self.link, self._written = dict(messages), sizes, link, written
