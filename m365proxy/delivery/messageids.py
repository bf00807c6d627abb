"""Message-IDs that devices have used: many put the same one on all their mail.

A Message-ID that the mailbox has used before is replaced before sending, so
that a copy found by it in Sent Items cannot be another message.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from typing import Dict

from ..system import files, log

logger = log.get("seen")

# Message-IDs remembered per mailbox; the oldest are forgotten (a copy found by them is older than any attempt).
_REMEMBERED = 5000


class SeenIds:
    """One file of short hashes per mailbox, appended to.  Any thread may call."""

    def __init__(self, directory: str):
        self._directory = directory
        self._lock = threading.Lock()
        self._known: Dict[str, "OrderedDict[bytes, bytes]"] = {}  # Message-ID -> queue id, both hashed
        self._appended: Dict[str, int] = {}

    def is_new(self, tag: str, message_id: str, id: str) -> bool:
        """Whether the mailbox (by its tag) uses this Message-ID for the first time, in the message with this queue id.

        It is remembered; another call for the same message gives the same answer.
        """
        mark, owner = _hashed(message_id), _hashed(id)
        path = os.path.join(self._directory, tag)
        with self._lock:
            known = self._known.get(tag)
        if known is None:
            known = self._load(path)
        with self._lock:
            known = self._known.setdefault(tag, known)
            if mark in known:
                return known[mark] == owner
            known[mark] = owner
            while len(known) > _REMEMBERED:
                known.popitem(last=False)
            appended = self._appended[tag] = self._appended.get(tag, 0) + 1
            kept = _lines(known) if appended % _REMEMBERED == 0 else b""
        if kept:
            self._rewrite(path, kept)
        else:
            self._append(path, mark + b" " + owner)
        return True

    def _load(self, path: str) -> "OrderedDict[bytes, bytes]":
        try:
            lines = (files.read(path) or b"").splitlines()
        except files.NoFile as error:
            logger.warning("%s cannot be read: %s", path, error.strerror)
            lines = []
        known = OrderedDict((mark, owner) for mark, _, owner in (line.partition(b" ") for line in lines[-_REMEMBERED:]))
        if len(lines) > 2 * _REMEMBERED:
            self._rewrite(path, _lines(known))
        return known

    def _rewrite(self, path: str, lines: bytes) -> None:
        try:
            files.replace(path, lines, durable=False)
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error.strerror)

    def _append(self, path: str, line: bytes) -> None:
        # Not synced: if a power failure loses a line, sentDateTime still distinguishes an old copy from a new one.
        try:
            with files.open_to_append(path) as file:
                file.write(line + b"\n")
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error.strerror)


def _lines(known: "OrderedDict[bytes, bytes]") -> bytes:
    return b"".join(mark + b" " + owner + b"\n" for mark, owner in known.items())


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16].encode()
