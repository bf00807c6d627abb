"""Only our own, only old, only what no queue entry needs."""

import time

import pytest
from attempt_harness import ALERTS, RELAY, SCANS, Harness, an_item

from m365proxy.delivery.drafts import MARKER, Drafts
from m365proxy.delivery.leftovers import Leftovers
from m365proxy.sandbox import Sandbox
from m365proxy.spool.spool import mailbox_tag

DAY = 86400


@pytest.fixture
def harness(tmp_path):
    with Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY) as sandbox:
        made = Harness(tmp_path, sandbox).open()
        yield made
        made.close()


def later(harness, days):
    harness.tenant.clock = lambda: time.time() + days * DAY
    harness.graph.check_reachable()


def draft(harness, queue_id, installation="installation"):
    harness.tenant.create_draft(
        harness.tenant.mailbox(ALERTS),
        raw=b"From: alerts@contoso.com\r\nTo: scans@contoso.com\r\n\r\nx\r\n",
        extended={MARKER: f"{installation} {queue_id}"} if installation else None,
    )


def subjects(harness, folder):
    return len(harness.tenant.items(ALERTS, folder))


@pytest.mark.parametrize(
    "installation,days,left", [("installation", 2, 0), ("installation", 0.5, 1), ("another", 2, 1), ("", 2, 1)]
)
def test_orphan_drafts(harness, installation, days, left):
    draft(harness, "20260101T000000-aaaa-bbbbbbbb", installation)
    later(harness, days)
    Leftovers(harness.graph, harness.drafts, harness.spool, {}).sweep([ALERTS])
    assert subjects(harness, "drafts") == left


def test_orphans_of_an_installation_that_was_adopted_are_ours(harness):
    for installation in ("gone", "another"):
        draft(harness, "20260101T000000-aaaa-bbbbbbbb", installation)
    later(harness, 2)
    drafts = Drafts(harness.graph, "installation", ["gone"])
    Leftovers(harness.graph, drafts, harness.spool, {}).sweep([ALERTS])
    assert subjects(harness, "drafts") == 1


def test_a_draft_the_queue_still_needs_stays(harness):
    harness.courier.stop(5)
    id = harness.put()
    draft(harness, id)
    later(harness, 2)
    Leftovers(harness.graph, harness.drafts, harness.spool, {}).sweep([ALERTS])
    assert subjects(harness, "drafts") == 1


@pytest.mark.parametrize(
    "keep,days,left",
    [
        ({}, 9, 2),
        ({mailbox_tag(ALERTS): 3}, 9, 1),
        ({mailbox_tag(ALERTS): 3}, 2, 2),
        ({mailbox_tag(SCANS): 3}, 9, 2),
        ({mailbox_tag(ALERTS): 0}, 0.01, 1),
        ({mailbox_tag(ALERTS): 0}, 0, 2),  # it may just be leaving the queue
        ({mailbox_tag(SCANS): 0}, 9, 2),
    ],
)
def test_sent_copies(harness, wait_until, keep, days, left):
    harness.put()
    wait_until(lambda: subjects(harness, "sentitems") == 1 and harness.places() == [])
    harness.tenant.add_message(ALERTS, b"Subject: by hand\r\n\r\nx\r\n", folder="sentitems")
    later(harness, days)
    Leftovers(harness.graph, harness.drafts, harness.spool, keep).sweep([ALERTS])
    assert subjects(harness, "sentitems") == left


def test_copies_are_deleted_for_good(harness, wait_until):
    harness.put()
    wait_until(lambda: subjects(harness, "sentitems") == 1 and harness.places() == [])
    later(harness, 9)
    Leftovers(harness.graph, harness.drafts, harness.spool, {mailbox_tag(ALERTS): 3}).sweep([ALERTS])
    assert subjects(harness, "sentitems") == subjects(harness, "deleteditems") == 0


def test_a_copy_is_as_old_as_it_is_in_the_mailbox(harness, wait_until):
    """Exchange may take the Date of a device whose clock is wrong for the time of sending."""
    harness.put()
    wait_until(lambda: subjects(harness, "sentitems") == 1 and harness.places() == [])
    harness.tenant.items(ALERTS, "sentitems")[0].sent -= 900 * DAY
    Leftovers(harness.graph, harness.drafts, harness.spool, {mailbox_tag(ALERTS): 3}).sweep([ALERTS])
    assert subjects(harness, "sentitems") == 1


@pytest.mark.parametrize("days", [0, 3])
def test_the_copy_of_a_message_in_the_queue_is_its_proof_and_stays(harness, days):
    harness.courier.stop(5)
    id = harness.put()
    an_item(harness.tenant, "sentitems", marker=f"installation {id}")
    later(harness, 9)
    Leftovers(harness.graph, harness.drafts, harness.spool, {mailbox_tag(ALERTS): days}).sweep([ALERTS])
    assert subjects(harness, "sentitems") == 1


@pytest.mark.parametrize("days", [0, 3])
def test_a_draft_that_somebody_moved_to_sent_items_stays(harness, days):
    gone = "20260101T000000-aaaa-" + mailbox_tag(ALERTS)
    an_item(harness.tenant, "sentitems", marker=f"installation {gone}", draft=True)
    later(harness, 9)
    Leftovers(harness.graph, harness.drafts, harness.spool, {mailbox_tag(ALERTS): days}).sweep([ALERTS])
    assert subjects(harness, "sentitems") == 1


def test_a_mailbox_that_cannot_be_opened_is_passed_over(harness):
    harness.tenant.full_access.discard(SCANS)
    draft(harness, "20260101T000000-aaaa-bbbbbbbb")
    later(harness, 2)
    Leftovers(harness.graph, harness.drafts, harness.spool, {}).sweep([SCANS, ALERTS])
    assert subjects(harness, "drafts") == 0


def test_markers_are_found_over_pages(harness):
    for number in range(5):
        draft(harness, f"20260101T00000{number}-aaaa-bbbbbbbb")
    harness.tenant.page_cap = 2
    assert len(list(Drafts(harness.graph, "installation").marked(ALERTS, "drafts"))) == 5
