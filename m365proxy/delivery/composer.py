"""Makes a claimed message ready for Graph: chooses its Message-ID, repairs its header, takes large mail apart."""

from __future__ import annotations

import dataclasses
from typing import Any, BinaryIO, Callable, Dict, List, NamedTuple, Optional

from ..errors import ProxyError
from ..mime import header, prepare
from ..mime.skeleton import skeleton
from ..spool.envelope import Envelope
from ..spool.spool import Claim, tag_of
from ..system import log
from ..system.clock import clock_is_plausible
from . import jsonmail
from .messageids import SeenIds

logger = log.get("delivery")


@dataclasses.dataclass(frozen=True)
class Outgoing:
    """A claimed message, ready to be sent; `file` is the one it was prepared from."""

    claim: Claim
    envelope: Envelope
    prepared: prepare.Prepared
    file: BinaryIO


class WholeMail(NamedTuple):
    """Large mail that keeps its form: `message` without the files `attachments`, which are added to its draft.

    `has_files`: whether Exchange may show files of the message itself, too.
    """

    message: prepare.Prepared
    attachments: List[jsonmail.Attachment]
    has_files: bool


class Composer:
    """Any thread may use it."""

    def __init__(self, seen: SeenIds, may_send_as: Callable[[str, str], bool]):
        """`may_send_as(mailbox, address)`: whether the mailbox's From may be that address."""
        self._seen = seen
        self._may_send_as = may_send_as

    def prepare(self, claim: Claim, envelope: Envelope, file: BinaryIO) -> Outgoing:
        """Make a message ready; a message that cannot be repaired goes as it is.  Permanent if it cannot be sent."""
        start = file.tell()
        if not claim.state.message_id:
            claim.state.message_id = self._choose_message_id(claim, envelope, file, start)
        options = self._options(claim, envelope)
        try:
            prepared = prepare.prepare(file, start, **options)
            prepared.measure()  # generating the message may fail too; better here than while it is sent
        except (ProxyError, OSError):
            raise
        except Exception:
            logger.exception("%s cannot be repaired as usual; it is sent as it is", claim.id)
            prepared = prepare.prepare_unrepaired(file, start, **options)
        return Outgoing(claim, envelope, prepared, file)

    def take_apart(self, message: Outgoing) -> jsonmail.LargeMail:
        """Large mail as JSON and attachments; a message that cannot be taken apart goes as one file."""
        try:
            return jsonmail.compose(message.prepared, message.file)
        except (ProxyError, OSError):
            raise
        except Exception:
            logger.exception("%s cannot be taken apart as usual; it is sent as one file", message.claim.id)
            start, options = message.prepared.root.header_start, self._options(message.claim, message.envelope)
            return jsonmail.compose(prepare.prepare_unrepaired(message.file, start, **options), message.file)

    def keep_form(self, message: Outgoing, mail: jsonmail.LargeMail) -> Optional[WholeMail]:
        """Large mail as MIME and the files that do not fit into it; `mail`: the same taken apart.

        None if it has to go as `mail`, or loses nothing that way.
        """
        if not mail.left_out:
            return None
        by_part = {attachment.part: attachment for attachment in mail.attachments}
        try:
            made = skeleton(message.prepared, message.file, by_part)
        except (ProxyError, OSError):
            raise
        except Exception:
            logger.exception("%s cannot be sent in its form", message.claim.id)
            return None
        if made is None:
            return None
        taken = [attachment for part, attachment in by_part.items() if part in made.taken]
        return WholeMail(made.message, taken, made.has_files)

    def _options(self, claim: Claim, envelope: Envelope) -> Dict[str, Any]:
        """The arguments of prepare.prepare besides the file."""
        return dict(
            recipients=envelope.recipients,
            sender=envelope.sender or envelope.mailbox,
            message_id=claim.state.message_id,
            date=envelope.accepted if clock_is_plausible(envelope.accepted) else None,
            may_send_as=lambda address: self._may_send_as(envelope.mailbox, address),
            replace_message_id=True,
        )

    def _choose_message_id(self, claim: Claim, envelope: Envelope, file: BinaryIO, start: int) -> str:
        """The client's, if this mailbox has never used it before; else one of ours."""
        theirs = header.client_message_id(header.read(file, start))
        if theirs and self._seen.is_new(tag_of(claim.id), theirs, claim.id):
            return theirs
        ours = f"<{claim.id}@{envelope.mailbox.rpartition('@')[2]}>"
        if theirs:
            logger.info(
                "%s: Message-ID %s was used before by %s; replaced by %s",
                claim.id,
                log.quote(theirs),
                envelope.mailbox,
                ours,
            )
        return ours
