"""counters.json: keeps the counters over a restart, and with the event log over a kill.

The file says where the event log ended when it was written.  What was written there later is counted at the next start.
"""

from __future__ import annotations

import json
import os
from typing import Any, Collection, Dict, Optional

from ..system import events, files, jsontext, log
from ..system.events import Position
from .counters import DAMAGED, UNREPORTED, Counter, Counters

logger = log.get("status")

_NAME = "counters.json"


class CounterFile:
    """counters.json of a state directory.  Belongs to one thread."""

    def __init__(self, state_dir: str, counters: Counters):
        self._path = os.path.join(state_dir, _NAME)
        self._events = os.path.join(state_dir, "events")
        self._counters = counters
        self._written: Optional[Dict[str, Any]] = None

    def save(self, content: Dict[str, Any], end: Optional[Position], stopped: bool = False) -> None:
        """Write the file, unsynced, if anything has changed.  OSError or CannotCreate if the disk does not take it.

        `content`: what `Counters.content` gave when the event log ended at `end`; None if that is not known.
        `stopped`: whether nothing is counted any more.
        """
        content = {**content, "events": end, "stopped": stopped}
        if content != self._written:
            files.replace(self._path, json.dumps(content).encode(), durable=False)
            self._written = content

    def load(self, mailboxes: Collection[str]) -> None:
        """Go on where the last run ended; from zero if there is no file, or a damaged one.  `mailboxes`: the config's.

        A counter never goes on from less than it has shown: monitoring would take the whole of it for new.  So what
        nobody can add up after a kill begins at zero, which monitoring understands.
        """
        stored = self._read()
        if stored is not None:
            is_complete = self._replay(stored.get("events"))
            if not stored.get("stopped"):
                self._counters.drop_totals(UNREPORTED if is_complete else list(Counter))
        self._counters.begin(mailboxes)

    def _read(self) -> Optional[Dict[str, Any]]:
        """What the file holds; the counters are restored from it."""
        try:
            content = files.read(self._path)
            if content is None:
                return None
            stored = jsontext.parse(content)
            self._counters.restore(stored)
        except OSError as error:
            logger.warning("%s cannot be read, and counting begins at zero: %s", self._path, error.strerror or error)
        except DAMAGED:
            logger.warning("%s is damaged, and counting begins at zero.", self._path)
        else:
            assert isinstance(stored, dict)
            return stored
        return None

    def _replay(self, end: Any) -> bool:
        """Count what the event log has after its `end` of that time; whether it has everything."""
        try:
            number, octets = end
            for line in events.lines_after(self._events, Position(int(number), int(octets))):
                self._count(events.parse(line))
        except (OSError, events.Incomplete, *DAMAGED):
            return False
        return True

    def _count(self, event: Dict[str, Any]) -> None:
        if event:
            try:
                self._counters.note(events.time_of(event), event)
            except DAMAGED:
                return
