"""What the queue knows of a message beyond its content: where it is, how far it got, and its draft in Exchange.

`Entry` is read from a file name alone.  `State` is state/ID.json.  docs/internals.md has a table for the phases of
each.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, NamedTuple, Optional

from ..system import jsontext
from ..system.choices import Word


class Place(Word):
    """The directory of a message."""

    NEW = "new"
    CUR = "cur"
    FAILED = "failed"


class Phase(Word):
    """The last part of a message's file name."""

    WAITING = ""  # in new/ for its turn, in failed/ for its report
    CLAIMED = "claimed"  # in cur/: a courier prepares it; surely not sent
    POSTING = "posting"  # in cur/: a send may have begun
    HELD = "held"  # in cur/: nobody knows whether it was sent, and nothing more is tried
    REPORTED = "told"  # in failed/: the report on it is written, or it needs none


_PHASES_IN_CUR = (Phase.CLAIMED, Phase.POSTING, Phase.HELD)


class Entry(NamedTuple):
    """One message of the queue as its file name shows it."""

    id: str
    place: Place
    phase: Phase = Phase.WAITING
    node: str = ""
    attempt: int = 0

    @classmethod
    def from_file_name(cls, place: Place, name: str) -> Optional[Entry]:
        """None for a name that the queue does not give."""
        id, *rest = name.split(".")
        if not rest:
            return cls(id, place) if place is not Place.CUR else None
        try:
            phase = Phase(rest[-1])
        except ValueError:
            return None
        if place is Place.FAILED:
            return cls(id, place, phase) if phase is Phase.REPORTED and len(rest) == 1 else None
        if place is Place.NEW or phase not in _PHASES_IN_CUR or len(rest) != 3 or not rest[1].isdecimal():
            return None
        return cls(id, place, phase, rest[0], int(rest[1]))

    @property
    def file_name(self) -> str:
        if self.place is Place.CUR:
            return f"{self.id}.{self.node}.{self.attempt}.{self.phase.value}"
        return f"{self.id}.{self.phase.value}" if self.phase is not Phase.WAITING else self.id

    @property
    def is_waiting(self) -> bool:
        """Whether it is neither sent nor given up nor held."""
        return self.place is Place.NEW or (self.place is Place.CUR and self.phase is not Phase.HELD)


class DraftPhase(Word):
    """How far a message's draft is.  Only a ready or bare draft is ever sent."""

    ASKED = "asked"  # Graph is asked to make it; its id is not known
    MADE = "made"  # it exists; whether marker and Bcc are on it is not known
    FILLING = "filling"  # it exists; not all files of a large message are in it, or it was not compared with it
    BARE = "bare"  # it is whole, and has no marker and no Bcc
    READY = "ready"  # it is whole
    DELETING = "deleting"  # Graph was asked to delete it


@dataclasses.dataclass
class DraftState:
    """A draft as it was made: enough to find it, and to see whether somebody changed it."""

    phase: DraftPhase
    mailbox: str  # whose URL it was made through
    id: str = ""  # "" only while it is asked for
    message_id: str = ""
    change_key: str = ""
    print: str = ""  # a hash over what a person would edit
    posted: bool = False  # the last attempt may have sent it

    @classmethod
    def from_json(cls, value: object) -> Optional[DraftState]:
        """ValueError if it is damaged."""
        if value is None or value == {}:
            return None
        if not isinstance(value, dict):
            raise ValueError("not a draft")
        known = value if "phase" in value else _from_3_0_0(value)
        texts = {name: known.get(name, "") for name in ("mailbox", "id", "message_id", "change_key", "print")}
        draft = cls(DraftPhase(known["phase"]), posted=known.get("posted") is True, **texts)
        if not all(isinstance(text, str) for text in texts.values()) or not draft.mailbox:
            raise ValueError("not a draft")
        if bool(draft.id) == (draft.phase is DraftPhase.ASKED):
            raise ValueError("a draft has an id once it is made, and none before")
        return draft

    def to_json(self) -> Dict[str, Any]:
        return {**vars(self), "phase": self.phase.value}


def _from_3_0_0(value: Dict[str, Any]) -> Dict[str, Any]:
    """Version 3.0.0 wrote strings only: flags in place of the phase, and "yes" for true."""
    if not value.get("id"):
        phase = DraftPhase.ASKED
    elif value.get("deleting"):
        phase = DraftPhase.DELETING
    elif value.get("unmarked"):
        phase = DraftPhase.MADE
    elif value.get("incomplete"):
        phase = DraftPhase.FILLING
    else:
        phase = DraftPhase.READY
    return {**value, "phase": phase.value, "posted": bool(value.get("posted"))}


@dataclasses.dataclass
class State:
    """What is known of a message beyond its file: state/ID.json."""

    attempts: int = 0
    due: float = 0.0  # wall clock; 0 is "now"
    first_attempt: float = 0.0  # wall clock when it was in step with Graph's
    last_attempt: float = 0.0
    error: str = ""  # the sentence for the administrator
    status: str = ""  # the enhanced code of the last failure (RFC 3463)
    code: str = ""  # Graph's error.code
    request_id: str = ""
    owner: str = ""  # the installation it was adopted from, whose marker its drafts have; "" for this one
    message_id: str = ""  # the Message-ID it is sent with
    left_out: str = ""  # what it is sent without, if it is sent as JSON
    whole_drafts: int = 0  # how many drafts of MIME were made of it, if it is large
    draft: Optional[DraftState] = None
    drafted: float = 0.0  # Graph's clock when the draft was asked for
    interrupted: bool = False  # a power cut took the state of the first try, which may have asked for a draft
    # An earlier draft that may exist beside it because the answer got lost: its mailbox, and when it was asked for.
    stray: str = ""
    strayed: float = 0.0
    sending: bool = False  # a send may have begun, though after a power cut the file's name may not say so
    posted: float = 0.0  # Graph's clock when the last send began
    looks: int = 0  # how often an ambiguous outcome was looked at
    still_draft: float = 0.0  # Graph's clock when a look first found it still to be a draft
    unanswered: int = 0  # how often the answer to a one-step sendMail got lost
    asked: int = 0  # how often in a row Graph did not answer what had become of it

    @classmethod
    def from_json(cls, content: bytes) -> State:
        """Read a state file; ValueError if it is damaged.  A value of the wrong type counts as missing."""
        known = jsontext.parse(content)
        if not isinstance(known, dict):
            raise ValueError("not a state")
        state = cls(draft=DraftState.from_json(known.pop("draft", None)))
        for field in dataclasses.fields(cls):
            value = known.get(field.name)
            if isinstance(field.default, float) and type(value) is int:
                value = _as_float(value)  # other programs write 5.0 as 5
            if value is not None and type(value) is type(field.default):
                setattr(state, field.name, value)
        return state

    def to_json(self) -> bytes:
        # Not dataclasses.asdict, which takes longer than all the rest of writing the file: it copies each value deeply.
        return json.dumps({**vars(self), "draft": self.draft and self.draft.to_json()}).encode()


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        raise ValueError("a number is too large") from None
