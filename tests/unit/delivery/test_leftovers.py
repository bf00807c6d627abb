"""Only our own, only old, only what no queue entry needs."""

import time

import pytest
from test_attempt import ALERTS, RELAY, SCANS, House

from m365proxy.delivery.drafts import MARKER, Drafts
from m365proxy.delivery.leftovers import Leftovers
from m365proxy.sandbox import Sandbox
from m365proxy.spool.spool import mailbox_tag

DAY = 86400


@pytest.fixture
def house(tmp_path):
    with Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY) as sandbox:
        made = House(tmp_path, sandbox).open()
        yield made
        made.close()


def later(house, days):
    house.tenant.clock = lambda: time.time() + days * DAY
    house.graph.check_reachable()


def draft(house, queue_id, installation="installation"):
    house.tenant.create_draft(
        house.tenant.mailbox(ALERTS),
        raw=b"From: alerts@contoso.com\r\nTo: scans@contoso.com\r\n\r\nx\r\n",
        extended={MARKER: f"{installation} {queue_id}"} if installation else None,
    )


def subjects(house, folder):
    return len(house.tenant.items(ALERTS, folder))


@pytest.mark.parametrize(
    "installation,days,left", [("installation", 2, 0), ("installation", 0.5, 1), ("another", 2, 1), ("", 2, 1)]
)
def test_orphan_drafts(house, installation, days, left):
    draft(house, "20260101T000000-aaaa-bbbbbbbb", installation)
    later(house, days)
    Leftovers(house.graph, house.drafts, house.spool, {}).sweep([ALERTS])
    assert subjects(house, "drafts") == left


def test_a_draft_the_queue_still_needs_stays(house):
    house.courier.stop(5)
    id = house.put()
    draft(house, id)
    later(house, 2)
    Leftovers(house.graph, house.drafts, house.spool, {}).sweep([ALERTS])
    assert subjects(house, "drafts") == 1


@pytest.mark.parametrize(
    "keep,days,left",
    [({}, 9, 2), ({mailbox_tag(ALERTS): 3}, 9, 1), ({mailbox_tag(ALERTS): 3}, 2, 2), ({mailbox_tag(SCANS): 3}, 9, 2)],
)
def test_sent_copies(house, wait_until, keep, days, left):
    house.put()
    wait_until(lambda: subjects(house, "sentitems") == 1 and house.places() == [])
    house.tenant.add_message(ALERTS, b"Subject: by hand\r\n\r\nx\r\n", folder="sentitems")
    later(house, days)
    Leftovers(house.graph, house.drafts, house.spool, keep).sweep([ALERTS])
    assert subjects(house, "sentitems") == left


def test_a_mailbox_that_cannot_be_opened_is_passed_over(house):
    house.tenant.full_access.discard(SCANS)
    draft(house, "20260101T000000-aaaa-bbbbbbbb")
    later(house, 2)
    Leftovers(house.graph, house.drafts, house.spool, {}).sweep([SCANS, ALERTS])
    assert subjects(house, "drafts") == 0


def test_markers_are_found_over_pages(house):
    for number in range(5):
        draft(house, f"20260101T00000{number}-aaaa-bbbbbbbb")
    house.tenant.page_cap = 2
    assert len(list(Drafts(house.graph, "installation").marked(ALERTS, "drafts"))) == 5
