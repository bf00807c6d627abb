"""The queue at a glance."""

import os
import threading
import time

import pytest
from cases import each

from m365proxy.spool import overview
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.overview import EMPTY, Overview
from m365proxy.spool.spool import Spool, mailbox_tag

ALERTS = "alerts@contoso.com"


@pytest.fixture
def spool(tmp_path):
    spool = Spool(str(tmp_path / "queue"))
    spool.make()
    return spool


def put(spool):
    incoming = spool.put(Envelope(ALERTS, ALERTS, ("b@contoso.com",), "192.0.2.7", "ups"))
    incoming.write(b"x")
    return incoming.commit()


@pytest.mark.parametrize("id, seconds", [("20260102T030405Z-x", 1767323045.0), ("junk", 0.0)])
def test_when_a_message_was_accepted(id, seconds):
    assert overview.accepted_time(id) == seconds


@each("moment, seconds", [(0.0, 0), (60.0, 40), (100.5, 0), (200.0, 0)])
def test_a_clock_that_was_set_back_makes_no_age_below_zero(moment, seconds):
    assert overview.seconds_since(moment, 100.0) == seconds


def test_before_the_first_start_there_is_none(tmp_path):
    assert Overview(Spool(str(tmp_path / "queue"))).look() == EMPTY


def test_each_message_counts_in_its_state(spool):
    ids = [put(spool) for _ in range(4)]
    spool.claim(ids[1])
    spool.claim(ids[2]).fail()
    held = spool.claim(ids[3])
    held.mark_posting()
    held.hold()
    view = Overview(spool).look()
    assert [view[name] for name in ("waiting", "sending", "held", "failed")] == [1, 1, 1, 1]
    assert view["oldest"] == overview.accepted_time(min(ids[0], ids[1]))
    assert view["waiting_by_tag"] == {mailbox_tag(ALERTS): 2}


def test_messages_that_wait_for_the_same_reason_are_one_group(spool):
    for reason in ("No route.", "No route.", "The mailbox is full."):
        claim = spool.claim(put(spool))
        claim.state.error = reason
        claim.defer()
    groups = Overview(spool).look()["groups"]
    assert [(group["count"], group["state"], group["reason"]) for group in groups] == [
        (2, "waiting", "No route."),
        (1, "waiting", "The mailbox is full."),
    ]
    assert {group["tag"] for group in groups} == {mailbox_tag(ALERTS)}


def test_a_message_that_may_have_been_sent_has_its_reason(spool):
    for reason in ("No answer.", ""):
        claim = spool.claim(put(spool))
        claim.state.error, claim.state.status, claim.state.code = reason, "4.4.1", "x"
        claim.save_state()
        claim.mark_posting()
    [group] = Overview(spool).look()["groups"]
    assert (group["state"], group["reason"], group["status"], group["code"]) == ("sending", "No answer.", "4.4.1", "x")


def test_a_clock_that_was_wrong_makes_no_message_old(spool):
    put(spool)
    old = put(spool)
    os.rename(spool.path(spool.find(old)), spool.path(spool.find(old)).replace(old[:8], "19700101"))
    view = Overview(spool).look()
    assert view["waiting"] == 2 and view["oldest"] > 1e9 and view["groups"][0]["oldest"] == view["oldest"]


def test_what_was_given_up_is_read_last(spool, monkeypatch):
    monkeypatch.setattr(overview, "_READ", 1)
    spool.claim(put(spool)).fail()
    put(spool)
    assert [group["state"] for group in Overview(spool).look()["groups"]] == ["waiting"]


def test_only_the_oldest_of_a_long_queue_are_read(spool, monkeypatch):
    monkeypatch.setattr(overview, "_READ", 2)
    ids = sorted(put(spool) for _ in range(3))
    read = []
    monkeypatch.setattr(spool, "state", lambda id: read.append(id))
    view = Overview(spool).look()
    assert (view["waiting"], view["unread"], read) == (3, 1, ids[:2])


def test_it_is_listed_again_only_if_something_changed(spool, monkeypatch):
    listings = []
    monkeypatch.setattr(overview, "_view", lambda spool: listings.append(1) or EMPTY)
    seen = Overview(spool, lambda: 0.0, lambda: time.time_ns() + 3_000_000_000)
    seen.look()
    seen.look()
    assert len(listings) == 1
    put(spool)
    os.utime(os.path.dirname(spool.path(next(spool.entries()))), ns=(1, 1))
    seen.look()
    assert len(listings) == 2


def test_two_changes_in_one_moment_are_both_seen(spool):
    seen = Overview(spool, lambda: 0.0)
    id = put(spool)
    before = os.stat(os.path.join(spool.directory, "new"))
    assert seen.look()["waiting"] == 1
    spool.drop(spool.find(id))
    os.utime(os.path.join(spool.directory, "new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert seen.look()["waiting"] == 0


def test_a_listing_that_takes_long_is_not_repeated_soon(spool, monkeypatch):
    now, listings = [0.0], []

    def slow(spool):
        now[0] += 1.0
        listings.append(1)
        return EMPTY

    monkeypatch.setattr(overview, "_view", slow)
    seen = Overview(spool, lambda: now[0])
    seen.look()
    put(spool)
    seen.look()
    assert len(listings) == 1
    now[0] += 50.0
    seen.look()
    assert len(listings) == 2


def test_who_comes_while_it_is_listed_lists_nothing_again(spool, monkeypatch):
    begun, go_on, listings, seen = threading.Event(), threading.Event(), [], []

    def slow(spool):
        listings.append(1)
        begun.set()
        assert go_on.wait(60)
        return EMPTY

    monkeypatch.setattr(overview, "_view", slow)
    shared = Overview(spool, clock_ns=lambda: time.time_ns() + 3_000_000_000)
    first, second = (threading.Thread(target=lambda: seen.append(shared.look())) for _ in range(2))
    first.start()
    assert begun.wait(60)
    second.start()
    second.join(0.2)  # long enough to list it, if it could
    go_on.set()
    first.join(60)
    second.join(60)
    assert (len(listings), seen) == (1, [EMPTY, EMPTY])


def test_what_was_seen_last_stays_known(spool, monkeypatch):
    shared = Overview(spool, lambda: 0.0)
    assert shared.latest == EMPTY
    put(spool)
    seen = shared.look()

    def failing(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(overview, "_changed", failing)
    with pytest.raises(OSError):
        shared.look()
    assert shared.latest == seen and seen["waiting"] == 1


def test_why_mail_is_refused(tmp_path, spool):
    assert Overview(spool).refusal() == ""
    full = Spool(str(tmp_path / "queue"), min_free=2**62)
    assert Overview(full).refusal().startswith("Less than queue.min_free_mb is free")
