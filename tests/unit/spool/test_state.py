"""File names and state files: what is written is read again, and what is damaged stops nothing."""

import json
import os

import pytest
from cases import each

from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import DraftPhase, DraftState, Entry, Phase, Place, State

MAILBOX = "alerts@contoso.com"
KNOWN = {"mailbox": MAILBOX, "id": "AAMk", "message_id": "<1@contoso.com>", "change_key": "CQAA", "print": "9f3c"}


def draft(phase, posted=False):
    return DraftState(phase, **KNOWN, posted=posted)


@each(
    "place,name,entry",
    [
        (Place.NEW, "ID", Entry("ID", Place.NEW)),
        (Place.FAILED, "ID", Entry("ID", Place.FAILED)),
        (Place.FAILED, "ID.told", Entry("ID", Place.FAILED, Phase.REPORTED)),
        (Place.CUR, "ID.1.2.claimed", Entry("ID", Place.CUR, Phase.CLAIMED, "1", 2)),
        (Place.CUR, "ID.1.2.posting", Entry("ID", Place.CUR, Phase.POSTING, "1", 2)),
        (Place.CUR, "ID.1.2.held", Entry("ID", Place.CUR, Phase.HELD, "1", 2)),
    ],
)
def test_a_file_name_is_read_as_it_was_written(place, name, entry):
    assert Entry.from_file_name(place, name) == entry and entry.file_name == name


@each(
    "place,name",
    [
        (Place.NEW, "ID.told"),
        (Place.NEW, "ID."),
        (Place.NEW, "ID.1.2.claimed"),
        (Place.FAILED, "ID."),
        (Place.FAILED, "ID.held"),
        (Place.FAILED, "ID.1.2.told"),
        (Place.CUR, "ID"),
        (Place.CUR, "ID.1.claimed"),
        (Place.CUR, "ID.1.y.claimed"),
        (Place.CUR, "ID.1.\N{SUPERSCRIPT TWO}.claimed"),
        (Place.CUR, "ID.1.2.told"),
        (Place.CUR, "ID.1.2."),
        (Place.CUR, "ID.1.2.other"),
        (Place.CUR, "ID.1.2.3.held"),
    ],
)
def test_a_file_name_that_the_queue_does_not_give_is_no_message(place, name):
    assert Entry.from_file_name(place, name) is None


@each(
    "state",
    [
        State(),
        State(attempts=3, due=5.5, error="because", looks=2, draft=DraftState(DraftPhase.ASKED, MAILBOX), drafted=7.25),
        *(
            State(posted=9.0, draft=draft(phase, posted))
            for phase in DraftPhase
            if phase is not DraftPhase.ASKED
            for posted in (False, True)
        ),
    ],
    ids=str,
)
def test_a_state_is_read_as_it_was_written(state):
    assert State.from_json(state.to_json()) == state


def test_a_phase_is_written_as_its_value():
    assert json.loads(State(draft=draft(DraftPhase.FILLING)).to_json())["draft"]["phase"] == "filling"


# What version 3.0.0 wrote, and what it is read as.
OF_3_0_0 = [
    ({}, None),
    ({"mailbox": MAILBOX}, DraftState(DraftPhase.ASKED, MAILBOX)),
    ({**KNOWN, "unmarked": "yes"}, draft(DraftPhase.MADE)),
    ({**KNOWN, "incomplete": "yes"}, draft(DraftPhase.FILLING)),
    (KNOWN, draft(DraftPhase.READY)),
    ({**KNOWN, "posted": "yes"}, draft(DraftPhase.READY, posted=True)),
    ({**KNOWN, "deleting": "yes"}, draft(DraftPhase.DELETING)),
    ({**KNOWN, "unmarked": "yes", "deleting": "yes"}, draft(DraftPhase.DELETING)),
    ({**KNOWN, "incomplete": "yes", "deleting": "yes"}, draft(DraftPhase.DELETING)),
]


@each("written,known", OF_3_0_0, ids=str)
def test_a_state_of_3_0_0_is_read(written, known):
    content = json.dumps({"attempts": 2, "due": 5.5, "draft": written, "posted": 9.0, "clock_ok": False})
    state = State.from_json(content.encode())
    assert state == State(attempts=2, due=5.5, draft=known, posted=9.0)
    assert State.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    "content,state",
    [
        (b'{"attempts": "x", "unknown": 1, "due": 5, "__module__": "x"}', State(due=5.0)),
        (b'{"attempts": true, "error": null, "looks": 2.5}', State()),
        (b'{"draft": null}', State()),
    ],
)
def test_a_value_of_the_wrong_type_counts_as_missing(content, state):
    assert State.from_json(content) == state


NEW = draft(DraftPhase.READY).to_json()
DAMAGED_DRAFTS = [
    "x",
    1,
    ["x"],
    {"unknown": 1},
    {"id": "AAMk"},
    {**KNOWN, "id": 1},
    {**KNOWN, "mailbox": ""},
    {**KNOWN, "mailbox": None},
    {**KNOWN, "print": ["x"]},
    {**NEW, "phase": "other"},
    {**NEW, "phase": None},
    {**NEW, "phase": []},
    {**NEW, "phase": "asked"},
    {**NEW, "id": ""},
    {**NEW, "mailbox": 5},
    {"phase": "ready"},
]


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"5", b'"x"', b"null", b"\xff\xfe", b"\0" * 512, b"[" * 200_000),
        b'{"due": 1' + b"0" * 400 + b"}",
        *(json.dumps({"attempts": 2, "draft": damaged}).encode() for damaged in DAMAGED_DRAFTS),
    ],
    ids=lambda content: ascii(content[:60]),
)
def test_a_damaged_state_loses_the_history_and_not_the_message(tmp_path, caplog, content):
    spool = Spool(str(tmp_path))
    spool.make()
    incoming = spool.put(Envelope(MAILBOX, MAILBOX, ("x@example.org",)))
    id = incoming.commit()
    with open(os.path.join(spool.directory, "state", id + ".json"), "wb") as file:
        file.write(content)
    claim = spool.claim(id)
    assert claim is not None and claim.state == State()
    assert [record.getMessage() for record in caplog.records] == [
        f"state/{id}.json cannot be read; its history is lost, the message is not"
    ]
