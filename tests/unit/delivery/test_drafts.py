"""What becomes of a draft, by its id, its marker, its Message-ID and what it says."""

import base64

import pytest
from attempt_harness import ALERTS, HIDDEN, MAIL, an_item, crash_after_draft, harnesses

from m365proxy.delivery.drafts import MARKER, Found, draft_state
from m365proxy.graph.items import IMMUTABLE, message_path
from m365proxy.mime.addresses import Mailbox
from m365proxy.sandbox.mailstore import IMMUTABLE_OCTETS, new_id
from m365proxy.spool.state import DraftPhase, DraftState


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


# What is in Sent Items while our draft is gone -> whether ours was sent.
COPIES = [
    ("ours by its marker", dict(marker="installation ID", message_id="<new@x>"), Found.COPY),
    ("a copy of the draft, put there by a person", dict(marker="installation ID", draft=True), Found.GONE),
    ("with our Message-ID", {}, Found.COPY),
    ("with our Message-ID, sent before we posted", dict(at=-60.0), Found.GONE),
    ("a draft with our Message-ID", dict(draft=True), Found.GONE),
    ("of another queue id of ours", dict(marker="installation other"), Found.GONE),
    ("of another installation", dict(marker="other ID"), Found.GONE),
    ("another Message-ID", dict(message_id="<new@x>"), Found.GONE),
]


@pytest.mark.parametrize("posted", [True, False], ids=["posted", "not posted"])
@pytest.mark.parametrize("copy,found", [row[1:] for row in COPIES], ids=[row[0] for row in COPIES])
def test_what_proves_that_a_message_was_sent(harness, copy, found, posted):
    drafts = harness.open().drafts
    an_item(harness.tenant, "sentitems", **copy)
    gone = DraftState(DraftPhase.READY, ALERTS, new_id(IMMUTABLE_OCTETS), "<always@printer.local>")
    since = harness.tenant.clock() if posted else None
    if not posted and copy.get("marker") != "installation ID":
        found = Found.GONE
    assert drafts.look(gone, drafts.mark("ID"), "<always@printer.local>", since) is found


@pytest.mark.parametrize("marker", ["installation ID", ""], ids=["marked", "bare"])
def test_a_draft_that_became_the_copy_while_it_was_looked_for(harness, marker):
    drafts = harness.open().drafts
    an_item(harness.tenant, "sentitems", marker=marker)
    (item,) = harness.tenant.items(ALERTS, "sentitems")
    harness.sandbox.faults.add("answer", path="/messages/", method="GET", status=404, code="ErrorItemNotFound")
    draft = DraftState(DraftPhase.READY, ALERTS, item.immutable, "<always@printer.local>")
    assert drafts.look(draft, drafts.mark("ID"), draft.message_id, harness.tenant.clock()) is Found.SENT


@pytest.mark.parametrize("change", ["as it was", "Bcc added", "files added", "subject edited"])
@pytest.mark.parametrize(
    "phase,ignored",
    [
        (DraftPhase.MADE, {"Bcc added"}),
        (DraftPhase.FILLING, {"files added"}),
        (DraftPhase.BARE, set()),
        (DraftPhase.READY, set()),
        (DraftPhase.DELETING, {"Bcc added", "files added"}),
    ],
)
def test_what_of_a_draft_is_compared_in_each_phase(harness, phase, ignored, change):
    drafts = harness.open().drafts
    item = harness.tenant.create_draft(harness.tenant.mailbox(ALERTS), raw=MAIL)
    known = draft_state(phase, ALERTS, drafts.get(ALERTS, item.immutable))
    if change == "Bcc added":
        drafts.put_marker(ALERTS, item.immutable, drafts.mark("ID"), [Mailbox("", HIDDEN)])
    elif change == "files added":
        content = base64.b64encode(b"x").decode()
        file = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "x", "contentBytes": content}
        path = message_path(item.immutable) + "/attachments"
        harness.graph.read("POST", ALERTS, path, headers=IMMUTABLE, json=file)
    elif change == "subject edited":
        harness.tenant.update(item, {"subject": "edited"}, {})
    untouched = change == "as it was" or change in ignored
    assert drafts.look(known, drafts.mark("ID"), "<1@contoso.com>", None) is (
        Found.DRAFT if untouched else Found.EDITED
    )


@pytest.mark.parametrize(
    "folder, draft, found",
    [("sentitems", False, True), ("sentitems", True, False), ("outbox", False, False), ("archive", False, False)],
)
def test_an_id_leads_to_a_copy_in_sent_items_only(harness, folder, draft, found):
    an_item(harness.tenant, folder, draft=draft)
    (item,) = harness.tenant.items(ALERTS, folder)
    drafts = harness.open().drafts
    assert drafts.leads_to_copy(ALERTS, item.immutable) is found
    assert not drafts.leads_to_copy(ALERTS, new_id(IMMUTABLE_OCTETS))


def test_anothers_draft_is_no_orphan_of_ours(harness):
    harness.open()
    for marker in ("other ID", "installation other", "installation ID", ""):
        an_item(harness.tenant, "drafts", marker=marker, draft=True)
    ours, doubtful = harness.drafts.orphans(
        ALERTS, harness.drafts.mark("ID"), "<always@printer.local>", harness.tenant.clock() - 5
    )
    assert len(ours) == len(doubtful) == 1


def test_the_marker_tells_our_drafts(harness, wait_until):
    item = crash_after_draft(harness, wait_until)
    harness.open()
    found = list(harness.drafts.marked(ALERTS, "drafts"))
    assert [entry["queue_id"] for entry in found] in ([next(harness.spool.entries()).id], [])
    assert MARKER in str(item.extended)


def test_a_draft_that_is_deleted_for_good_already_is_gone(harness):
    harness.open()
    item = harness.tenant.create_draft(harness.tenant.mailbox(ALERTS), raw=MAIL)
    for _ in range(3):  # to Deleted Items, to Recoverable Items, refused there
        harness.drafts.delete(ALERTS, item.immutable)
    assert harness.tenant.items(ALERTS, "drafts") == []
