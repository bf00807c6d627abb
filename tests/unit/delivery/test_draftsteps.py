"""A draft from phase to phase: interrupted, throttled, deleted, filled."""

import email
import email.policy
import os
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart

import pytest
from attempt_harness import (
    ALERTS,
    ALWAYS,
    HIDDEN,
    MAIL,
    RELAY,
    SCANS,
    an_item,
    harnesses,
    large_mail,
    settle,
    with_message_id,
)
from courier_harness import workers
from mailreader import pdf_of

from m365proxy.delivery import uploads as largedrafts
from m365proxy.mime import prepare
from m365proxy.sandbox import uploads
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import DraftPhase, DraftState, Place, State
from m365proxy.system import files


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


@pytest.mark.parametrize(
    "kind", ["answer_after", "cut_after", "answer", "cut", "cut_answer", "portal", "stranger", "stranger_after"]
)
@pytest.mark.parametrize("path,method", [("/messages$", "POST"), ("/messages/", "PATCH")])
def test_a_fault_before_sending_sends_once_and_leaves_no_draft(harness, wait_until, kind, path, method):
    harness.sandbox.faults.add(kind, path=path, method=method, status=503, code="ErrorServerBusy")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.items(ALERTS, "drafts") == []


@pytest.mark.parametrize("seconds, looked", [(600, 0), (3600, 1)])
def test_after_a_long_pause_the_draft_is_looked_at_again(harness, wait_until, seconds, looked):
    """Somebody may have found it in Drafts meanwhile."""
    harness.sandbox.faults.add("answer", path="/send$", status=429, retry_after=seconds)
    harness.open().put()
    wait_until(lambda: paused(harness))
    end_pause(harness)
    settle(harness, wait_until)
    assert len(harness.sandbox.seen("/messages/[^/]+$", "GET")) == looked and len(harness.tenant.delivered) == 1


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
def test_a_draft_whose_marking_was_interrupted_is_marked_before_it_is_sent(harness, wait_until, kind):
    harness.tenant.message_id, harness.tenant.draft_id_survives = "replace_at_send", False
    harness.sandbox.faults.add(kind, path="/messages/", method="PATCH")
    harness.sandbox.faults.add("cut_after", path="/send$")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1, "only the marker tells that it was sent"


@pytest.mark.parametrize("kind", [None, "answer", "answer_after", "cut", "cut_after", "cut_answer"])
@pytest.mark.parametrize("seen", [(SCANS, "out@example.com"), ()])
def test_nobody_sees_bcc_though_exchange_may_leave_it_in_mime(harness, wait_until, kind, seen):
    harness.tenant.strips_bcc = False
    if kind:
        harness.sandbox.faults.add(kind, path="/messages/", method="PATCH", status=503, code="ErrorServerBusy")
    mail = b"From: alerts@contoso.com\r\nTo: scans@contoso.com, out@example.com\r\n\r\nx\r\n"
    harness.open().put(mail, (*seen, HIDDEN, RELAY))
    settle(harness, wait_until)
    assert harness.places() == [] and harness.tenant.items(ALERTS, "drafts") == []
    (done,) = harness.tenant.delivered
    assert sorted(done.recipients) == sorted({*seen, HIDDEN, RELAY})
    copies = [item.raw for item in harness.tenant.items(SCANS) + harness.tenant.items(RELAY)]
    copies += [raw for _, raw in harness.tenant.outside]
    assert len(copies) == len(seen) + 2
    assert all(b"Bcc" not in raw and HIDDEN.encode() not in raw for raw in copies)
    (sent,) = harness.tenant.items(ALERTS, "sentitems")
    assert email.message_from_bytes(sent.raw)["Bcc"] is not None


def test_a_draft_without_its_bcc_that_somebody_edited_is_left_to_them(harness, wait_until):
    harness.sandbox.faults.add("answer", path="/messages/", method="PATCH", status=503, code="ErrorServerBusy")
    harness.open()
    enter, touched = harness.graph._enter, []

    def edit_first(mailbox):
        for draft in harness.tenant.items(ALERTS, "drafts"):
            if harness.sandbox.requests[-1].method == "PATCH" and not touched:
                touched.append(draft)
                harness.tenant.update(draft, {"subject": "edited"}, {})
        enter(mailbox)

    harness.graph._enter = edit_first
    harness.put(recipients=(SCANS, HIDDEN))
    settle(harness, wait_until)
    assert touched and harness.places() == [("cur", "held")] and harness.tenant.delivered == []


def test_a_draft_that_was_refused_and_deleted_is_forgotten_whatever_has_its_message_id(harness, wait_until):
    harness.sandbox.faults.add("answer", path="/send$", status=429, retry_after="600")
    id = harness.open().put(ALWAYS)
    wait_until(lambda: harness.graph.throttled_for(ALERTS) and harness.places() == [("new", "")])
    harness.close()
    harness.tenant.delete_moves = False
    an_item(harness.tenant, "sentitems", at=1.0)
    claim = harness.spool.claim(id)
    harness.graph._mailboxes.clear()  # the wait that Graph asked for is over
    harness.delivery.drop_draft(claim)
    assert claim.state.draft is None and harness.tenant.items(ALERTS, "drafts") == []


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
def test_anothers_draft_that_is_not_marked_yet_is_left_to_it(harness, wait_until, kind):
    """Another gateway's mail has the same Message-ID, and its draft is being made just when ours is interrupted."""
    harness.sandbox.faults.add(kind, path="/messages$", method="POST")
    harness.open()
    an_item(harness.tenant, "drafts", draft=True, subject="Another")
    harness.put(ALWAYS)
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    (left,) = harness.tenant.items(ALERTS, "drafts")
    assert b"Another" in harness.tenant.mime(left)


def test_all_that_interrupted_attempts_left_is_removed(harness, wait_until):
    harness.sandbox.faults.add("cut_after", path="/messages$", method="POST", times=2)
    harness.sandbox.faults.add("cut", path="/messages/", method="PATCH", times=1)
    harness.open().put(ALWAYS)
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.created_drafts == 3 and harness.tenant.items(ALERTS, "drafts") == []


def test_an_orphan_of_an_interrupted_create_is_removed(harness, wait_until):
    harness.sandbox.faults.add("cut_after", path="/messages$", method="POST")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.created_drafts == 2 and harness.tenant.items(ALERTS, "drafts") == []


@pytest.mark.parametrize("content", [None, b"", b'{"attem'])
def test_an_orphan_of_a_power_cut_is_removed_whatever_became_of_the_state(harness, wait_until, content):
    """The draft was made, and the state of the first try did not get on the disk."""
    harness.open()
    harness.courier.add = lambda id: None
    claim = harness.spool.claim(harness.put(ALWAYS))
    envelope, file = claim.open()
    with file:
        message = harness.delivery._composer.prepare(claim, envelope, file)
        harness.delivery._steps.ask(claim, ALERTS)
        harness.drafts.create(ALERTS, message.prepared)
    state = harness.path / "queue" / "state" / (claim.id + ".json")
    state.unlink() if content is None else state.write_bytes(content)
    harness.close()
    assert len(harness.tenant.items(ALERTS, "drafts")) == 1
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.created_drafts == 2 and harness.tenant.items(ALERTS, "drafts") == []


def test_a_message_that_waits_long_keeps_no_draft(harness, wait_until, monkeypatch):
    monkeypatch.setattr("m365proxy.delivery.conclusions._DRAFT_KEPT", 0.0)
    harness.sandbox.faults.add("answer", path="/send$", status=403, code="ErrorQuotaExceeded")
    harness.open().put()
    wait_until(lambda: harness.places() == [("new", "")] and harness.tenant.created_drafts == 1)
    assert harness.tenant.items(ALERTS, "drafts") == []
    id = next(harness.spool.entries(Place.NEW)).id
    assert harness.spool.state(id).draft is None


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_draft_is_deleted_once_however_often_the_answer_gets_lost(harness, wait_until, monkeypatch, lost):
    """A second DELETE would purge it, and Exchange refuses a third for ever."""
    monkeypatch.setattr("m365proxy.delivery.conclusions._DRAFT_KEPT", 0.0)
    harness.sandbox.faults.add("answer", path="/send$", status=409, code="ErrorIrresolvableConflict")
    harness.sandbox.faults.add("cut_after", method="DELETE")
    harness.sandbox.faults.add("cut", path="/messages/", method="GET", after=1, times=lost)
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert len(harness.sandbox.seen(method="DELETE")) == 1 and len(harness.tenant.items(ALERTS, "deleteditems")) == 1


def test_a_permanent_refusal_leaves_no_draft(harness, wait_until):
    harness.tenant.max_send_size = 10
    id = harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [("failed", "")] and harness.tenant.items(ALERTS, "drafts") == []
    assert "Set-Mailbox alerts@contoso.com -MaxSendSize" in harness.spool.state(id).error


BEGIN, PUT = "createUploadSession$", "^/upload/"
FILES = [bytes([number]) * 1300 for number in range(3)]


@pytest.fixture
def large(harness, monkeypatch):
    """Put a large mail of three files, each by an upload session in two parts, that meets a 429 somewhere."""
    for owner, name in [(largedrafts, "CHUNK"), (largedrafts, "_SMALLEST_UPLOAD"), (uploads, "SMALLEST")]:
        monkeypatch.setattr(owner, name, 1000)
    monkeypatch.setattr(prepare, "LARGE_MIME_CEILING", 2900)

    def put(path, method, after, retry_after=3600):
        harness.sandbox.faults.add("answer", path=path, method=method, after=after, status=429, retry_after=retry_after)
        made = MIMEMultipart("mixed")
        made["From"], made["To"] = ALERTS, SCANS
        for content in FILES:
            made.attach(MIMEApplication(content, "pdf"))
        harness.open()
        return harness.put(made.as_bytes(policy=email.policy.SMTP))

    return put


def end_pause(harness):
    """As if the time that Graph asked for were over."""
    harness.graph._mailbox(ALERTS).throttled_until = 0.0
    harness.ahead += 2 * 3600.0
    harness.courier.flush()


def paused(harness):
    return harness.places() == [("new", "")] and harness.graph.throttled_for(ALERTS) and not workers()


def files_of(raw):
    parts = email.message_from_bytes(raw).walk()
    return [part.get_payload(decode=True) for part in parts if part.get_content_type() == "application/pdf"]


@pytest.mark.parametrize("seconds", [1, 3600])
@pytest.mark.parametrize(
    "path, method, after, again",
    [
        (BEGIN, "POST", 0, 0),
        (BEGIN, "POST", 1, 0),
        (PUT, "PUT", 2, 0),
        (PUT, "PUT", 3, 1),
        (PUT, "PUT", 5, 1),
        ("/messages/[^/]+$", "GET", 0, 0),
        ("/send$", "POST", 0, 0),
    ],
)
def test_large_mail_goes_on_where_a_429_met_it(harness, wait_until, large, path, method, after, again, seconds):
    """`again`: parts that go once more, as an attachment that was not whole is none."""
    id = large(path, method, after, seconds)
    if seconds > 60:
        wait_until(lambda: paused(harness))
        assert harness.spool.state(id).attempts == 0
        end_pause(harness)
    settle(harness, wait_until)
    assert harness.places() == [] and harness.tenant.items(ALERTS, "drafts") == []
    assert [files_of(record.raw) for record in harness.tenant.delivered] == [FILES]
    assert harness.tenant.created_drafts == 1
    put = [request.status for request in harness.sandbox.seen(PUT, "PUT")]
    assert put.count(201) == 3 and put.count(200) == 3 + (again if seconds > 60 else 0)


def test_what_goes_on_may_be_told_to_wait_again(harness, wait_until, large):
    large(BEGIN, "POST", 1)
    harness.sandbox.faults.add("answer", path=r"/attachments\?", method="GET", status=429, retry_after=3600)
    harness.sandbox.faults.add("answer", path=PUT, method="PUT", after=5, status=429, retry_after=3600)
    for _ in range(3):
        wait_until(lambda: paused(harness))
        end_pause(harness)
    settle(harness, wait_until)
    assert [files_of(record.raw) for record in harness.tenant.delivered] == [FILES] and harness.places() == []
    assert harness.tenant.created_drafts == 1
    assert [r.status for r in harness.sandbox.seen(PUT, "PUT")].count(201) == 3


CHANGES = {
    "edited": lambda tenant, item: tenant.update(item, {"subject": "edited"}, {}),
    "another file": lambda tenant, item: tenant.attach(item, item.attachments[0]),
    "a file less": lambda tenant, item: item.attachments.clear(),
    "moved": lambda tenant, item: tenant.move(item, "deleteditems"),
    "deleted": lambda tenant, item: tenant.purge(item),
    "restart": None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_unfinished_draft_that_is_not_as_it_was_is_made_anew(harness, wait_until, caplog, large, change):
    large(BEGIN, "POST", 1)
    wait_until(lambda: paused(harness))
    (item,) = harness.tenant.items(ALERTS, "drafts")
    if change == "restart":
        harness.close()
        harness.open()
    else:
        CHANGES[change](harness.tenant, item)
    end_pause(harness)
    settle(harness, wait_until)
    assert [files_of(record.raw) for record in harness.tenant.delivered] == [FILES] and harness.places() == []
    assert harness.tenant.created_drafts == 2 and harness.tenant.items(ALERTS, "drafts") == []
    assert "deferred" not in caplog.text, "nothing is added to it first"


def test_an_unfinished_draft_keeps_no_stop_waiting(harness, wait_until, large):
    large(PUT, "PUT", 3)
    wait_until(lambda: paused(harness))
    assert harness.courier.stop(0) and harness.places() == [("new", "")]


def test_a_large_draft_is_filling_on_disk_until_all_is_in_it(harness, wait_until):
    stuck = harness.sandbox.faults.add("hang", path="createUploadSession")
    harness.open().put(large_mail())
    wait_until(lambda: stuck.hits)
    assert harness.spool.state(next(harness.spool.entries(Place.CUR)).id).draft.phase is DraftPhase.FILLING
    harness.sandbox.faults.release()
    settle(harness, wait_until)


def test_what_large_mail_is_sent_without_is_logged_once(harness, wait_until, caplog):
    caplog.set_level("INFO")
    harness.tenant.mime_drafts_take_files = "forget_mime"
    harness.sandbox.faults.add("answer", path="createUploadSession", status=503)
    harness.sandbox.faults.add("cut_after", path="/send$")
    id = harness.open().put(b"User-Agent: Mutt\r\nX-\xc3\xa4: 1\r\nComments: x\r\n" + large_mail())
    settle(harness, wait_until)
    said = [line for line in caplog.messages if "was sent without" in line]
    assert said == [f"{id} was sent without: User-Agent, Comments"]


def test_a_draft_that_is_not_filled_is_never_sent(harness, wait_until):
    harness.open()
    harness.courier.stop(5)
    incoming = harness.spool.put(Envelope(ALERTS, ALERTS, (SCANS,)))
    incoming.write(large_mail())
    id = incoming.commit()
    item = harness.tenant.create_draft(harness.tenant.mailbox(ALERTS), raw=MAIL)
    harness.spool.save_state(id, State(draft=DraftState(DraftPhase.FILLING, ALERTS, item.immutable)))
    harness.open()
    settle(harness, wait_until)
    assert [pdf_of(record.raw) for record in harness.tenant.delivered] == [pdf_of(large_mail())]
    assert harness.tenant.items(ALERTS, "drafts") == []


def test_lost_answers_to_deleting_a_draft(harness, wait_until, monkeypatch):
    monkeypatch.setattr("m365proxy.delivery.conclusions._DRAFT_KEPT", 0.0)
    harness.sandbox.faults.add("answer", path="/send$", status=429, code="ApplicationThrottled", retry_after="1")
    harness.sandbox.faults.add("cut_after", method="DELETE", path="/messages/", times=4)
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.items(ALERTS, "drafts") == []


def test_a_persons_draft_with_the_same_message_id_is_left_alone(harness, wait_until):
    old = with_message_id(MAIL, b"<mine@device>")
    harness.open()
    harness.tenant.add_message(ALERTS, old, folder="drafts")
    harness.tenant.items(ALERTS, "drafts")[0].created -= 3600.0
    harness.sandbox.faults.add("cut_after", path="/messages$", method="POST")
    harness.put(old)
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1
    assert len(harness.tenant.items(ALERTS, "drafts")) == 1, "the person's own; ours was found and removed"


def test_a_draft_that_is_not_known_everywhere_yet_is_marked_soon(harness, wait_until):
    harness.sandbox.faults.add("answer", path="/messages/", method="PATCH", status=404, code="ErrorItemNotFound")
    harness.open()
    harness.put()
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1 and harness.tenant.created_drafts == 1


def test_a_delivery_takes_three_requests_and_few_syncs(harness, wait_until, monkeypatch):
    harness.open().put()  # the first one learns the way
    settle(harness, wait_until)
    harness.sandbox.forget()
    incoming = harness.spool.put(Envelope(ALERTS, ALERTS, (SCANS,)), harness.courier.add)
    incoming.write(MAIL)
    synced = []
    real = files.sync_file, files.sync_directory
    monkeypatch.setattr(files, "sync_file", lambda file: synced.append("file") or real[0](file))
    monkeypatch.setattr(
        files, "sync_directory", lambda path, *opened: synced.append(os.path.basename(path)) or real[1](path, *opened)
    )
    incoming.commit()
    settle(harness, wait_until)
    assert [request.method for request in harness.sandbox.requests] == ["POST", "PATCH", "POST"]
    # Acceptance; the draft is asked for; posting; gone.
    assert synced == ["file", "new", "cur", "file", "state", "cur"]
