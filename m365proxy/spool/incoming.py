"""A message on its way from the wire to new/.  A small one touches the disk at its end only."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, Callable, Optional

from ..errors import Temporary
from ..system import files, log
from .room import Room

logger = log.get("spool")

# Octets with the envelope up to which a message stays in memory; of a larger one so many are written at a time.
SMALL = 64 * 1024


class Incoming:
    """Ends with commit() or abort(), in one thread."""

    def __init__(
        self,
        id: str,
        directory: str,
        envelope: bytes,
        room: Room,
        sync_new: Callable[[], None],
        arrived: Callable[[str], None],
    ):
        """`directory`: of the queue; `sync_new()` syncs its new/; `arrived(id)` is called once it is durable there."""
        self.id = id
        self.size = 0  # octets of the message, without our envelope
        self._path = os.path.join(directory, "tmp", id)
        self._target = os.path.join(directory, "new", id)
        self._start = len(envelope)
        self._room = room
        self._sync_new = sync_new
        self._arrived = arrived
        self._file: Optional[files.NewFile] = None
        self._pending = bytearray()
        self._held = 0  # octets of what is pending that `room` knows of
        self._over = False
        self._add(envelope)

    def write(self, data: bytes) -> None:
        """Add octets; Temporary (and nothing is left) when the disk refuses them."""
        self.size += len(data)
        self._add(data)

    def _add(self, data: bytes) -> None:
        assert not self._over
        self._pending += data
        if self._room.hold(len(data)):
            self._held += len(data)
            if len(self._pending) <= SMALL:
                return
        try:
            self._written()
        except OSError as error:
            self.abort()
            raise disk_trouble(error) from None

    def _written(self) -> files.NewFile:
        """The file in tmp/, with all that has come in."""
        if self._file is None:
            self._file = files.create(self._path)
        if self._pending:
            self._file.write(self._pending)
        self._forget_pending()
        return self._file

    def _forget_pending(self) -> None:
        self._pending = bytearray()  # a new one: the traceback of a failed write holds on to the old
        self._room.let_go(self._held)
        self._held = 0

    def open(self) -> BinaryIO:
        """What has come in so far, from the message's first octet.  The caller closes it."""
        file: BinaryIO
        if self._file is None:
            file = io.BytesIO(self._pending)
        else:
            try:
                self._written()
                file = files.open_shared(self._path)
            except OSError as error:
                self.abort()
                raise disk_trouble(error) from None
        file.seek(self._start)
        return file

    def commit(self) -> str:
        """Make it durable and inform the courier; returns the id.

        Once this has returned, power may fail.  Temporary: nothing is left behind.
        """
        assert not self._over
        try:
            file = self._written()
            files.sync_file(file)
            file.close()
            files.move(self._path, self._target)
            self._sync_new()
        except OSError as error:
            self.abort()
            _discard(self._target)
            raise disk_trouble(error) from None
        self._over = True
        self._arrived(self.id)
        return self.id

    def abort(self) -> None:
        """Leave nothing.  Safe to call at any time; what commit() has taken stays."""
        if self._over:
            return
        self._over = True
        self._forget_pending()
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError:
            pass  # what could not be written is not wanted any more
        _discard(self._path)


def _discard(path: str) -> None:
    try:
        files.remove(path)
    except OSError as error:
        logger.error("%s cannot be removed: %s. Remove it by hand.", path, error.strerror)


def disk_trouble(error: OSError) -> Temporary:
    """What a client or an administrator is told of a queue that cannot be written."""
    return Temporary(f"The queue cannot be written: {error.strerror or error}. Check the disk of state_dir.")
