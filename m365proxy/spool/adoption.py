"""The queue of an installation that is gone for good becomes part of this one's; docs/internals.md has the steps.

A message belongs to the other queue until its file there is removed, and to
this one from then on: it waits in adopting/OWNER/, where no courier sees it,
before that.  So whoever is killed anywhere can begin again.
"""

from __future__ import annotations

import os
import shutil
from typing import Callable, Iterator, List, Tuple

from ..system import files, log
from .spool import DIRECTORIES, Spool
from .state import Entry, Phase, Place, State

logger = log.get("adoption")

# Messages that are moved together, so that they share what is synced.
_BATCH = 50

# What may have been sent is looked for first, then an administrator sees what is held.
_ORDER = (Phase.POSTING, Phase.HELD, Phase.WAITING, Phase.REPORTED)


class Adoption:
    """With the lock of the other state directory held.  The program of this one may run."""

    def __init__(self, source: Spool, target: Spool, owner: str):
        """`owner`: the other installation's id."""
        self._source = source
        self._target = target
        self._owner = owner
        self._staging = os.path.join(target.directory, "adopting", owner)

    def run(self, adopted: Callable[[List[Entry]], None]) -> Tuple[int, int]:
        """Take everything over; how many messages were, and how many could not be.

        `adopted`: called with those that are in this queue now.
        """
        for name in DIRECTORIES:
            files.make_directory(os.path.join(self._target.directory, name))
        files.make_directory(self._staging)
        self._source.make()
        self._source.recover()
        for name in os.listdir(self._staging):
            if name.endswith(".tmp"):
                files.remove(os.path.join(self._staging, name))
        moved, left = self._finish(adopted), 0
        entries = sorted(
            (entry for entry in self._source.entries() if entry.phase in _ORDER),
            key=lambda entry: (_ORDER.index(entry.phase), entry.id),
        )
        for start in range(0, len(entries), _BATCH):
            copied = [entry for entry in entries[start : start + _BATCH] if self._copy(entry)]
            left += len(entries[start : start + _BATCH]) - len(copied)
            files.sync_directory(self._staging)
            self._give(copied)
            self._place(copied)
            adopted(copied)
            moved += len(copied)
        left += sum(1 for entry in self._source.entries() if entry.phase is Phase.CLAIMED)
        if not left:
            shutil.rmtree(self._staging)
        return moved, left

    def _finish(self, adopted: Callable[[List[Entry]], None]) -> int:
        """Go on where an earlier run was killed: what is no more in the other queue is this one's."""
        ours = [entry for entry in self._staged() if self._source.find(entry.id) is None]
        self._place(ours)
        adopted(ours)
        return len(ours)

    def _staged(self) -> Iterator[Entry]:
        for name in sorted(os.listdir(self._staging)):
            place, comma, rest = name.partition(",")
            entry = Entry.from_file_name(Place(place), rest) if comma else None
            if entry is not None:
                yield entry

    def _copy(self, entry: Entry) -> bool:
        """Copy a message and its state; whether that was possible.  OSError if it is this disk that fails."""
        state = self._source.state(entry.id)
        if state is None and entry.place is Place.CUR:
            state = State()  # lost: that it is not known whether it was sent is the phase's
        try:
            file = files.open_shared(self._source.path(entry))
        except OSError as error:
            logger.error("%s cannot be read: %s. It stays where it is.", self._source.path(entry), error.strerror)
            return False
        with file:
            if state is not None:
                state.owner = state.owner or self._owner
                files.replace(self._staged_state(entry), state.to_json())
            path = self._staged_path(entry)
            with files.create(path + ".tmp") as copy:
                shutil.copyfileobj(file, copy, 1 << 16)
                files.sync_file(copy)
        files.move(path + ".tmp", path)
        return True

    def _give(self, entries: List[Entry]) -> None:
        """From here on they are in this queue only."""
        source = self._source
        for entry in entries:
            files.remove(source.path(entry))
        for place in {entry.place for entry in entries}:
            files.sync_directory(os.path.join(source.directory, place.value))
        for entry in entries:
            files.remove(os.path.join(source.directory, "state", entry.id + ".json"))

    def _place(self, entries: List[Entry]) -> None:
        """From adopting/ to where the courier sees them; the states first."""
        target = self._target
        for entry in entries:
            if os.path.exists(self._staged_state(entry)):
                files.move(self._staged_state(entry), os.path.join(target.directory, "state", entry.id + ".json"))
        files.sync_directory(os.path.join(target.directory, "state"))
        for entry in entries:
            files.move(self._staged_path(entry), target.path(entry))
        for place in {entry.place for entry in entries}:
            files.sync_directory(os.path.join(target.directory, place.value))

    def _staged_path(self, entry: Entry) -> str:
        return os.path.join(self._staging, f"{entry.place.value},{entry.file_name}")

    def _staged_state(self, entry: Entry) -> str:
        return os.path.join(self._staging, entry.id + ".json")
