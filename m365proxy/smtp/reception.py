"""Receives the octets of a message, by DATA (RFC 5321 4.1.1.4) or BDAT (RFC 3030), into the spool."""

from __future__ import annotations

import contextlib
import time
from types import MappingProxyType
from typing import Mapping, Optional, Sequence, Union

from ..errors import Permanent, Temporary
from ..logins.users import User
from ..server.connection import Connection, TimedOut
from ..spool.envelope import Envelope
from ..spool.incoming import Incoming
from ..system import events, log
from . import replies
from .dotreader import DotReader, LfDotReader
from .policy import Policy
from .replies import Reply

logger = log.get("smtp")

# A message may take data_seconds and a second more for this many octets (64 kbit/s).
_SLOWEST = 8 * 1024

# Recipients named in the log line on an accepted message; the queue shows all.
_LOGGED = 10


class Reception:
    """One message coming in.  Belongs to its session's thread; ends with finish() or abort().

    The octets of a refused message are read to their end too, so that they are
    not taken for commands.
    """

    def __init__(self, connection: Connection, policy: Policy, incoming: Optional[Incoming], refusal: Optional[Reply]):
        """`incoming` is None if there is a `refusal` from the start."""
        self.refusal = refusal
        self._connection = connection
        self._policy = policy
        self._incoming = incoming
        self._received = 0
        self._began = time.monotonic()  # the time is limited for all chunks together

    def read_data(self, reader: Union[DotReader, LfDotReader]) -> None:
        """Read to the end of data.  Raises Closed, TimedOut."""
        while not reader.done:
            self._take(reader.feed(self._some()))
        self._connection.unread(reader.rest)

    def read_chunk(self, size: int) -> None:
        """Read exactly `size` octets.  Raises Closed, TimedOut."""
        while size:
            data = self._some()
            self._connection.unread(data[size:])
            data = data[:size]
            size -= len(data)
            self._take(data)

    def _some(self) -> bytes:
        seconds = self._policy.data_seconds + min(self._received, self._policy.size_limit) / _SLOWEST
        remaining = self._began + seconds - time.monotonic()
        if remaining <= 0:  # not left to read_some, which returns what is buffered already even so
            raise TimedOut
        return self._connection.read_some(remaining)

    def _take(self, octets: bytes) -> None:
        self._received += len(octets)
        if self.refusal is not None:
            return
        if self._received > self._policy.size_limit:
            self._refuse(self._policy.too_large)
            return
        assert self._incoming is not None
        try:
            self._incoming.write(octets)
        except Temporary as error:
            self._refuse(disk_refused(self._connection.peer, error))

    def _refuse(self, reply: Reply) -> None:
        self.refusal = reply
        self.abort()

    def finish(
        self,
        envelope: Envelope,
        user: User,
        null_sender: bool,
        habits: Mapping[str, events.Value] = MappingProxyType({}),
    ) -> Reply:
        """Accept the message unless something forbids it: 250 means that it is on the disk.

        `null_sender`: whether it came with MAIL FROM:<>.  `habits`: how the client speaks, for the event log.
        """
        if self.refusal is not None:
            return self.refusal
        assert self._incoming is not None
        try:
            refusal = self._check(user, null_sender)
            if refusal is not None:
                return refusal
            id = self._incoming.commit()
        except Temporary as error:
            return disk_refused(self._connection.peer, error)
        except Permanent as error:
            return replies.message_refused(str(error))
        # It is on the disk: after any error from here on the client would send it again.
        with contextlib.suppress(Exception):
            self._log_accepted(id, envelope, habits)
        return replies.queued(id)

    def _log_accepted(self, id: str, envelope: Envelope, habits: Mapping[str, events.Value]) -> None:
        logger.info(
            "accepted %s from %s: mailbox=%s sender=%s size=%d tls=%s recipients=%s",
            id,
            self._connection.peer,
            envelope.mailbox,
            envelope.sender,
            self._received,
            self._connection.tls_version or "none",
            _some(envelope.recipients),
            extra=events.step(
                "accepted",
                id=id,
                client=self._connection.peer,
                login=envelope.login or None,
                mailbox=envelope.mailbox,
                sender=envelope.sender,
                recipients=envelope.recipients,
                size=self._received,
                tls=self._connection.tls_version,
                **habits,
            ),
        )

    def _check(self, user: User, null_sender: bool) -> Optional[Reply]:
        if self._policy.check_message is None:
            return None
        assert self._incoming is not None
        with contextlib.closing(self._incoming.open()) as file:
            return self._policy.check_message(file, user, null_sender)

    def abort(self) -> None:
        """Remove what has come in; an accepted message stays."""
        if self._incoming is not None:
            self._incoming.abort()


def _some(recipients: Sequence[str]) -> str:
    """Recipients for one log line."""
    rest = len(recipients) - _LOGGED
    return ",".join(recipients[:_LOGGED]) + (f",+{rest}" if rest > 0 else "")


def disk_refused(peer: str, error: Temporary) -> Reply:
    """The reply if the spool cannot store a message; the reason is for the log only."""
    logger.error(
        "mail from %s not accepted: %s",
        peer,
        error,
        extra=events.step("refused", client=peer, reply=str(replies.NO_ROOM.code), reason=str(error)),
    )
    return replies.NO_ROOM
