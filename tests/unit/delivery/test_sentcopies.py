"""Copies that are not wanted go soon, and nothing else does."""

import threading
import time

import pytest
from attempt_harness import ALERTS, RELAY, SCANS, an_item, harnesses, settle

from m365proxy.delivery import sentcopies
from m365proxy.delivery.leftovers import Leftovers
from m365proxy.delivery.sentcopies import SentCopies
from m365proxy.spool.spool import Claim, mailbox_tag

LISTING, PURGE = "mailFolders/sentitems/messages", "/permanentDelete"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def harness(tmp_path):
    for made in harnesses(tmp_path):
        made.clock = Clock()
        made.open()
        made.copies = SentCopies(made.drafts, [ALERTS, SCANS], made.clock)
        made.sent = made.copies.note
        yield made
        made.copies.stop()


def send(harness, wait_until, number=1, mailbox=ALERTS):
    """Send so many messages, and wait until they have left the queue and are noted."""
    before = harness.copies._count
    mail = b"From: %s\r\nTo: scans@contoso.com\r\n\r\nx\r\n" % mailbox.encode()
    ids = [harness.put(mail, mailbox=mailbox) for _ in range(number)]
    wait_until(lambda: harness.copies._count == before + number)
    return ids


def left(harness, mailbox=ALERTS, folder="sentitems"):
    return len(harness.tenant.items(mailbox, folder))


def waiting(harness):
    return sorted(id for copies in harness.copies._waiting.values() for id in copies)


def test_copies_go_by_one_listing_for_good(harness, wait_until):
    send(harness, wait_until, 5)
    harness.sandbox.forget()
    harness.copies.sweep()
    assert left(harness) == left(harness, folder="deleteditems") == 0 and waiting(harness) == []
    assert [len(harness.sandbox.seen(path)) for path in ("", LISTING, PURGE)] == [6, 1, 5]


def test_where_nothing_was_sent_nothing_is_asked(harness, wait_until):
    send(harness, wait_until)
    harness.copies.sweep()
    harness.sandbox.forget()
    harness.copies.sweep()
    assert harness.sandbox.seen("") == []


def test_only_our_copies_of_what_was_just_sent_go(harness, wait_until):
    (id,) = send(harness, wait_until)
    tag = mailbox_tag(ALERTS)
    an_item(harness.tenant, "sentitems", subject="by hand")
    an_item(harness.tenant, "sentitems", marker=f"another {id}")
    an_item(harness.tenant, "sentitems", marker=f"installation 20260101T000000-aaaa-{tag}")
    an_item(harness.tenant, "sentitems", marker=f"installation {id}", draft=True)
    an_item(harness.tenant, "drafts", marker=f"installation {id}", draft=True)
    an_item(harness.tenant, "sentitems", marker=f"installation {id}", at=-3600.0)
    harness.copies.sweep()
    assert (left(harness), left(harness, folder="drafts")) == (5, 1)


def test_one_that_was_sent_twice_leaves_no_copy(harness, wait_until):
    (id,) = send(harness, wait_until)
    an_item(harness.tenant, "sentitems", marker=f"installation {id}")
    harness.copies.sweep()
    assert left(harness) == 0


def test_other_mailboxes_keep_theirs(harness, wait_until):
    harness.put(b"From: relay@contoso.com\r\n\r\nx\r\n", mailbox=RELAY)
    settle(harness, wait_until)
    send(harness, wait_until)
    harness.copies.set_mailboxes([SCANS])
    harness.copies.sweep()
    assert (left(harness), left(harness, RELAY)) == (1, 1)


def test_the_copy_is_in_the_mailbox_it_was_sent_through(harness, wait_until):
    """Send As without Full Access: mail goes through the account's own mailbox."""
    harness.tenant.full_access.discard(SCANS)
    send(harness, wait_until, mailbox=SCANS)
    assert (left(harness, SCANS), left(harness, RELAY)) == (0, 1)
    harness.copies.sweep()
    assert left(harness, RELAY) == 0


def test_a_copy_without_marker_stays(harness, wait_until):
    """One-step sendMail."""
    harness.tenant.drafts_denied |= {ALERTS, RELAY}
    harness.put()
    settle(harness, wait_until)
    assert waiting(harness) == [] and left(harness) == 1


def test_a_cloud_without_permanent_deletion_moves_it_to_deleted_items(harness, wait_until):
    harness.tenant.permanent_delete = False
    send(harness, wait_until)
    harness.copies.sweep()
    assert (left(harness), left(harness, folder="deleteditems")) == (0, 1)


def test_a_late_copy_is_looked_for_again_and_then_left_to_the_daily_sweep(harness, wait_until):
    harness.tenant.sent_copy_delay = 3600.0
    (id,) = send(harness, wait_until)
    harness.copies.sweep()
    assert waiting(harness) == [id], "it came early, for another message's sake"
    for seconds in (60.0, 300.0):
        harness.clock.now += seconds
        harness.copies.sweep()
        assert waiting(harness) == [id]
    harness.clock.now += 1800.0
    harness.copies.sweep()
    assert waiting(harness) == [] and harness.copies._count == 0


@pytest.mark.parametrize("kind", ["cut", "cut_after", "answer", "portal"])
@pytest.mark.parametrize("path", [LISTING, PURGE])
def test_trouble_is_met_by_another_look(harness, wait_until, kind, path):
    ids = send(harness, wait_until, 2)
    harness.sandbox.faults.add(kind, path=path, status=503)
    harness.copies.sweep()
    assert set(waiting(harness)) <= set(ids) and waiting(harness)
    harness.copies.sweep()
    assert left(harness) == 0


def test_a_lost_answer_is_settled_by_the_copy_before_it_goes(harness, wait_until):
    harness.sandbox.faults.add("cut_after", path="/send$")
    send(harness, wait_until)
    assert len(harness.tenant.delivered) == 1
    harness.copies.sweep()
    assert left(harness) == 0 and harness.places() == []


def test_a_kill_before_the_message_left_the_queue_leaves_no_copy(harness, wait_until, monkeypatch):
    """Between Graph's 202 and the end of the file: the copy proves that it was sent, and then goes too."""
    tries = []
    monkeypatch.setattr(Claim, "remove_sent", lambda claim, then: tries.append(claim) or blocked())
    harness.put()
    wait_until(lambda: tries)
    assert waiting(harness) == [], "its message is still in the queue"
    harness.close()
    monkeypatch.undo()
    harness.open()
    wait_until(lambda: waiting(harness))
    assert len(harness.tenant.delivered) == 1 and harness.places() == []
    harness.copies.sweep()
    assert left(harness) == 0


def blocked():
    raise OSError(30, "Read-only file system")


def test_a_kill_before_the_copy_went_leaves_it_to_the_daily_sweep(harness, wait_until):
    send(harness, wait_until)
    harness.copies.stop()
    harness.close()
    harness.open()
    harness.tenant.clock = lambda: time.time() + 600
    harness.graph.check_reachable()
    Leftovers(harness.graph, harness.drafts, harness.spool, {mailbox_tag(ALERTS): 0}).sweep([ALERTS])
    assert left(harness) == 0 and len(harness.tenant.delivered) == 1


def test_the_timer_does_it(harness, wait_until, monkeypatch):
    monkeypatch.setattr(sentcopies, "_WAITS", (0.05, 0.1))
    send(harness, wait_until)
    wait_until(lambda: left(harness) == 0)


def test_after_a_stop_nothing_is_deleted(harness, wait_until):
    send(harness, wait_until)
    harness.copies.stop()
    harness.copies.sweep()
    harness.copies._timer.start(0.0)
    wait_until(lambda: not harness.copies._timer.is_running)
    assert left(harness) == 1 and harness.sandbox.seen(PURGE) == []


def test_a_sweep_that_takes_long_is_the_only_one(harness, wait_until):
    """What is sent meanwhile is looked for after it."""
    stuck = harness.sandbox.faults.add("hang", path=PURGE)
    send(harness, wait_until)
    sweeping = threading.Thread(target=harness.copies.sweep)
    sweeping.start()
    wait_until(lambda: stuck.hits)
    (id,) = send(harness, wait_until)
    harness.sandbox.forget()
    harness.copies.sweep()
    assert harness.sandbox.seen("") == [] and waiting(harness) == [id]
    harness.sandbox.faults.release()
    sweeping.join()
    assert id in waiting(harness) and harness.copies._timer.is_running
    harness.copies.sweep()
    assert left(harness) == 0


def test_what_is_remembered_is_bounded(harness, wait_until, monkeypatch):
    monkeypatch.setattr(sentcopies, "_MOST", 1)
    (id,) = send(harness, wait_until)
    harness.put()
    settle(harness, wait_until)
    assert waiting(harness) == [id]


def test_a_clock_of_exchange_that_is_a_little_behind_hides_no_copy(harness, wait_until):
    send(harness, wait_until)
    (item,) = harness.tenant.items(ALERTS, "sentitems")
    item.created = time.time() - 30
    harness.copies.sweep()
    assert left(harness) == 0
