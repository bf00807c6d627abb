"""The steps of large mail's draft: asked, filling, ready.

Its form is kept where Exchange allows it: a draft is made of MIME, without the largest files, and these are added to
it.  Nobody knows what a given Exchange makes of such a draft (GF 2.4), so it is looked at before it is called ready:
only a ready draft is sent.  If something is missing, it is deleted and made anew of JSON.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypeVar

from ..graph.answer import GraphRefused, GraphTrouble, NoAnswer
from ..spool.spool import Claim
from ..spool.state import DraftPhase, DraftState
from ..system import log
from .composer import Composer, Outgoing, WholeMail
from .drafts import MARKER, Drafts, draft_state, outline
from .draftsteps import DraftSteps
from .form import Form
from .jsonmail import Attachment, LargeMail
from .routes import Routes
from .uploads import DraftSpoiled, LargeDrafts, UploadDenied

logger = log.get("delivery")

# What Graph may say of a message's form or of the files added to it; and what it would say in any form.
_OF_THE_FORM = (400, 405, 413, 415, 422)
_OF_ANY_FORM = frozenset(
    (
        "errormessagesizeexceeded",
        "errorattachmentsizelimitexceeded",
        "errorquotaexceeded",
        "quotalimitreached",
        "errorinvalidrecipients",
    )
)

# Characters of the lists of what a draft has lost, and of what large mail is sent without.
_LONGEST_LOST, _LONGEST_LEFT_OUT = 200, 400

# How many drafts of MIME are made for a message.  If Exchange stumbles over them again and again, JSON may do.
_MOST_DRAFTS = 3

_Result = TypeVar("_Result")


class _FormLost(Exception):
    """The draft is not what was meant: send the message as JSON.  `of_mailbox`: other mail would fare likewise."""

    def __init__(self, reason: str, of_mailbox: bool):
        super().__init__(reason)
        self.of_mailbox = of_mailbox


@dataclasses.dataclass
class _Filling:
    """What is known of an unfinished draft in this run of the program only.

    `attached`: how many files were added to the `had` that it was made with.  `keeps_form`: it was made of MIME; then
    `outline`, and `form` if it has to be compared, are what it was before any file was added.  `lost`: it is of JSON
    because this mailbox's Exchange did not keep that; "" if not.
    """

    keeps_form: bool
    lost: str = ""
    had: int = 0
    attached: int = 0
    outline: Sequence[Any] = ()
    form: Optional[Form] = None


class LargeSteps:
    """Any thread may use it; a claim belongs to its caller.  Methods raise what Graph.read raises."""

    def __init__(self, drafts: Drafts, large: LargeDrafts, composer: Composer, steps: DraftSteps, routes: Routes):
        """`routes`: remembers which mailboxes keep a draft's form."""
        self._drafts = drafts
        self._large = large
        self._composer = composer
        self._steps = steps
        self._routes = routes
        self._filling: Dict[str, _Filling] = {}  # by queue id

    def end_attempt(self, claim: Claim, pause: float) -> None:
        """Forget how far a draft is, unless the attempt ended with a pause of so many seconds that Graph asked for
        (inf: it ended otherwise)."""
        if pause == math.inf:
            self._filling.pop(claim.id, None)

    def can_be_filled(self, claim: Claim, draft: DraftState) -> bool:
        """Whether an unfinished draft has the files that this run put there, and no other."""
        known = self._filling.get(claim.id)
        return known is not None and self._large.holds(draft.mailbox, draft.id, known.had + known.attached)

    def make(self, message: Outgoing, mailbox: str) -> DraftState:
        """Make or go on with the draft of a large message, and fill it.

        Raises UploadDenied and DraftSpoiled, too, and Permanent if it cannot be sent in any form.
        """
        claim = message.claim
        mail = self._composer.take_apart(message)
        known, lost = self._filling.get(claim.id) if self._is_unfinished(claim, mailbox) else None, ""
        if known is None or known.keeps_form:
            whole = self._composer.keep_form(message, mail) if known or self._may_keep_form(claim, mailbox) else None
            claim.state.left_out = ""
            try:
                if whole is not None:
                    return self._make_whole(message, mailbox, whole, known)
            except _FormLost as error:
                logger.info("%s: its form cannot be kept: %s", claim.id, error)
                lost = str(error) if error.of_mailbox else ""
            known = None
            self._filling.pop(claim.id, None)
            self._steps.discard(claim)
        claim.state.left_out = log.clean(", ".join(mail.left_out), _LONGEST_LEFT_OUT)
        return self._make_of_json(claim, mailbox, mail, known or _Filling(keeps_form=False, lost=lost))

    def _is_unfinished(self, claim: Claim, mailbox: str) -> bool:
        """Whether there is a draft to go on with in this mailbox; one in another is deleted."""
        draft = claim.state.draft
        if draft is None or draft.phase is not DraftPhase.FILLING:
            return False
        if draft.mailbox == mailbox:
            return True
        self._steps.discard(claim)
        return False

    def _may_keep_form(self, claim: Claim, mailbox: str) -> bool:
        # An interrupted draft of MIME is known by another one only.
        may = self._routes.keeps_form(mailbox) is not False and claim.state.whole_drafts < _MOST_DRAFTS
        return may or claim.state.stray == mailbox

    # --- of JSON

    def _make_of_json(self, claim: Claim, mailbox: str, mail: LargeMail, filling: _Filling) -> DraftState:
        attached = partial(_note_attached, filling)
        if self._filling.get(claim.id) is filling:
            id = self._draft_of(claim).id
            self._large.go_on(mailbox, id, mail.attachments, filling.attached, attached)
        else:
            self._steps.ask(claim, mailbox)
            marker = {MARKER: self._drafts.mark(claim.id, claim.state.owner)}
            self._large.create(mailbox, mail, marker, partial(self._note_created, claim, mailbox, filling), attached)
        draft = self._ready(claim, mailbox, self._drafts.get(mailbox, self._draft_of(claim).id))
        if filling.lost:
            self._note_lost(mailbox, filling.lost)
        return draft

    def _note_lost(self, mailbox: str, lost: str) -> None:
        """Of JSON, the message was taken: it is this mailbox that does not take it in its form."""
        if self._routes.keeps_form(mailbox) is not False:
            self._routes.learn_form(mailbox, False)
            logger.warning(
                "%s: Exchange does not keep the form of large mail in this mailbox (%s). For a week, large mail is "
                "assembled anew, from one text and the files.",
                mailbox,
                lost,
            )

    def _note_created(self, claim: Claim, mailbox: str, filling: _Filling, value: Dict[str, Any]) -> None:
        """The draft exists: its id is on disk before anything is added to it."""
        claim.state.draft = draft_state(DraftPhase.FILLING, mailbox, value)
        self._filling[claim.id] = filling
        claim.save_state()

    def _ready(self, claim: Claim, mailbox: str, value: Optional[Mapping[str, Any]]) -> DraftState:
        if value is None:
            raise DraftSpoiled("The draft of a large message is gone; it is made anew.")
        draft = claim.state.draft = draft_state(DraftPhase.READY, mailbox, dict(value))
        return draft

    @staticmethod
    def _draft_of(claim: Claim) -> DraftState:
        assert claim.state.draft is not None  # it was created
        return claim.state.draft

    # --- of MIME

    def _make_whole(self, message: Outgoing, mailbox: str, whole: WholeMail, known: Optional[_Filling]) -> DraftState:
        claim = message.claim
        try:
            if known is None:
                known = self._create_whole(message, mailbox, whole)
                id = self._draft_of(claim).id
                self._large.fill(mailbox, id, whole.attachments, known.had, partial(_note_attached, known))
            else:
                id, attached = self._draft_of(claim).id, partial(_note_attached, known)
                self._large.go_on(mailbox, id, whole.attachments, known.attached, attached, known.had)
        except UploadDenied:
            raise
        except GraphRefused as error:
            if not _is_of_the_form(error):
                raise
            has_draft = claim.state.draft is not None and bool(claim.state.draft.id)
            raise _FormLost(f"HTTP {error.answer.status} {log.clean(error.answer.code)}", has_draft) from None
        value = self._look(mailbox, partial(self._drafts.get_with_files, mailbox, id))
        if value is not None:
            self._compare(claim, mailbox, whole, known, value)
        return self._ready(claim, mailbox, value)

    def _create_whole(self, message: Outgoing, mailbox: str, whole: WholeMail) -> _Filling:
        """Make the draft of MIME, with marker and Bcc, and see what it is before files are added."""
        claim = message.claim
        self._steps.ask(claim, mailbox)
        self._large.budget.spend(mailbox, whole.message.size * 4 // 3)
        try:
            value = self._drafts.create(mailbox, whole.message)
        except GraphRefused:
            claim.state.draft = None  # surely none was made
            raise
        made = draft_state(DraftPhase.MADE, mailbox, value)
        claim.state.whole_drafts += 1
        claim.state.draft = draft_state(DraftPhase.FILLING, mailbox, value)
        claim.save_state()
        value = self._steps.put_marker(message, made)
        kept = self._routes.keeps_form(mailbox)
        if kept is False:
            raise _FormLost("it was made to find an interrupted one", False)
        filling = _Filling(keeps_form=True, outline=outline(value))
        if whole.has_files:
            filling.had = self._large.count(mailbox, made.id)
        if kept is None:
            filling.form = self._form(mailbox, made.id, whole, lambda form: False)
        self._note_created(claim, mailbox, filling, value)
        return filling

    def _form(self, mailbox: str, id: str, whole: WholeMail, enough: Callable[[Form], bool]) -> Form:
        return self._look(mailbox, partial(self._drafts.form, mailbox, id, whole.message.size, enough))

    def _look(self, mailbox: str, request: Callable[[], _Result]) -> _Result:
        """What a request that reads the draft of MIME says; _FormLost if it cannot be read: of JSON, it need not be."""
        try:
            return self._large.persist(mailbox, request)
        except (GraphRefused, GraphTrouble, NoAnswer) as error:
            if isinstance(error, GraphTrouble) and error.answer.throttled_for:
                raise
            raise _FormLost(f"its draft cannot be looked at: {error}", False) from None

    def _compare(self, claim: Claim, mailbox: str, whole: WholeMail, known: _Filling, value: Dict[str, Any]) -> None:
        """Raise _FormLost unless the filled draft is what was meant."""
        if outline(value) != known.outline:
            raise _FormLost("its header or text has changed", True)
        lost = _lost_files(value.get("attachments"), known.had, whole.attachments)
        if lost:
            raise _FormLost(lost, True)
        before = known.form
        if before is None:
            return
        after = self._form(
            mailbox,
            self._draft_of(claim).id,
            whole,
            lambda form: form.leaves > before.leaves and not before.missing_in(form),
        )
        missing = before.missing_in(after) + (["files"] if after.leaves <= before.leaves else [])
        if missing:
            raise _FormLost("lost: " + log.clean(", ".join(missing), _LONGEST_LOST), True)
        if before.is_telling:
            self._routes.learn_form(mailbox, True)


def _note_attached(filling: _Filling, count: int) -> None:
    filling.attached = count


def _is_of_the_form(error: GraphRefused) -> bool:
    return error.answer.status in _OF_THE_FORM and error.answer.code.lower() not in _OF_ANY_FORM


def _lost_files(listed: object, had: int, files: List[Attachment]) -> str:
    """Which of the added files the draft does not have, by the list of its files; "" if it has all.

    Exchange may count more octets for a file than its content has, and may change its name.
    """
    found = [file for file in listed if isinstance(file, dict)] if isinstance(listed, list) else []
    if len(found) != had + len(files):
        return f"{len(found)} files in place of {had + len(files)}"
    sizes = sorted((file["size"] for file in found if isinstance(file.get("size"), int)), reverse=True)
    wanted = sorted((file.size for file in files), reverse=True)
    if len(sizes) < len(wanted) or any(have < want for have, want in zip(sizes, wanted)):
        return "a file is cut short"
    return ""
