"""The courier: what it starts, and when."""

import functools
import threading
import time

import pytest
from courier_harness import (
    LATER,
    OFFLINE,
    SENT,
    WHO_KNOWS,
    FakeDelivery,
    harnesses,
    wait_until,
    workers,
)
from waiting import PATIENCE

from m365proxy.delivery import reachability
from m365proxy.delivery.lanes import Lane
from m365proxy.errors import SignInNeeded, Temporary
from m365proxy.graph.answer import NoAnswer
from m365proxy.graph.slots import SLOTS
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import State


@pytest.fixture
def quick_probes(monkeypatch):
    """A mailbox rests shortly, and Graph is asked at once."""
    monkeypatch.setattr(reachability, "FIRST", 0.02)


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


def test_new_mail_leaves_at_once_and_nothing_stays(harness):
    h = harness(FakeDelivery())
    h.courier.start()
    h.put(b"one")
    h.settle()
    assert h.delivery.log == [("a@contoso.com", b"one")]
    wait_until(lambda: not any(t.name.startswith("courier") for t in threading.enumerate()))


def test_what_waited_before_the_start_is_sent_oldest_first(harness, tmp_path):
    h = harness(FakeDelivery())
    spool = h.spool
    ids = []
    for number in range(3):
        incoming = spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
        incoming.write(b"%d" % number)
        ids.append(incoming.commit())
    order = [body for _, body in sorted(zip(ids, (b"0", b"1", b"2")))]
    one_at_a_time = threading.Lock()
    h.delivery.gate = lambda box: True
    h.delivery.say = lambda body: (one_at_a_time.acquire(), one_at_a_time.release(), SENT)[2]
    h.courier.start()
    h.settle()
    assert sorted(body for _, body in h.delivery.log) == sorted(order)


def test_at_most_four_at_a_time_for_a_mailbox_and_none_waits_for_another(harness):
    release = threading.Event()
    h = harness(FakeDelivery())
    h.delivery.gate = lambda box: box == "b@contoso.com" or release.wait(10)
    h.courier.start()
    for number in range(12):
        h.put(b"slow %d" % number)
    wait_until(lambda: h.delivery.now.get("a@contoso.com") == 4)
    for number in range(5):
        h.put(b"quick %d" % number, "b@contoso.com")
    wait_until(lambda: len([1 for box, _ in h.delivery.log if box == "b@contoso.com"]) == 5)
    assert h.delivery.most["a@contoso.com"] == 4
    release.set()
    h.settle()
    assert h.delivery.most["a@contoso.com"] == 4


def test_a_message_that_was_being_sent_when_the_program_died_is_looked_for(harness):
    h = harness(FakeDelivery(lambda body: pytest.fail("sent twice")))
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    incoming.write(b"x")
    id = incoming.commit()
    h.spool.claim(id).mark_posting()
    h.delivery.found = [SENT]
    h.courier.recover()
    h.courier.start()
    h.settle()
    assert h.delivery.looked == [id]


def test_what_is_adopted_is_taken_in_the_state_it_is_in_and_once(harness):
    """Also what the start has found, because it was put there a moment before."""
    failed = []
    h = harness(FakeDelivery())
    h.courier._failed = lambda: failed.append(1)

    def put():
        incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
        incoming.write(b"x")
        return incoming.commit()

    before, after, waiting, given_up, held = ids = [put() for _ in range(5)]
    h.spool.claim(before).mark_posting()
    h.courier.recover()
    h.delivery.found = [SENT, SENT]
    h.spool.claim(after).mark_posting()
    h.spool.claim(given_up).fail()
    h.spool.claim(held).hold()
    for id in (*ids, "20260101T000000-gone-00000000"):
        h.courier.take_over(id)
    h.courier.start()
    h.settle([("cur", "held"), ("failed", "")])
    assert sorted(h.delivery.looked) == sorted([before, after])
    assert len(h.delivery.log) == 1 and len(failed) == 1


def test_looking_waits_while_graph_is_away(quick_probes, harness):
    away = [Temporary("no route")]
    h = harness(FakeDelivery(lambda body: WHO_KNOWS))
    real = h.delivery.look

    def look(claim, envelope):
        if away:
            raise away.pop()
        return real(claim, envelope)

    h.delivery.look = look
    h.delivery.found = [SENT]
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.looked) == 1


def test_the_pace_of_the_config_is_kept(harness):
    now = 1000.0
    h = harness(FakeDelivery(), pace_per_minute=60, monotonic=lambda: now)
    for _ in range(4):
        h.put()

    def has_sent(count):
        return len(h.delivery.log) == count and not workers()

    for count in (1, 2, 3, 4):
        wait_until(functools.partial(has_sent, count))
        now += 1.0
        h.courier.flush()
    h.settle()


def test_without_a_sign_in_everything_waits_and_goes_on_by_itself(quick_probes, harness):
    signed_in = threading.Event()

    def probe():
        if not signed_in.is_set():
            raise SignInNeeded("run `m365proxy login`")

    h = harness(FakeDelivery(lambda body: SENT if signed_in.is_set() else SignInNeeded("run login")), probe=probe)
    h.courier.start()
    for number in range(5):
        h.put(b"%d" % number)
    wait_until(lambda: h.courier.status()["paused"])
    h.settle([("new", "")] * 5)
    states = [h.spool.state(entry.id) for entry in h.spool.entries()]
    assert not any(state and state.attempts for state in states), "waiting for a sign-in is no attempt"
    signed_in.set()
    h.settle()


def test_a_graph_that_is_away_is_probed_and_the_queue_resumes(quick_probes, harness):
    away = threading.Event()
    away.set()
    probes = []

    def probe():
        probes.append(1)
        if away.is_set():
            raise Temporary("no route")

    h = harness(FakeDelivery(lambda body: OFFLINE if away.is_set() else SENT), probe=probe, interval=0.02)
    h.courier.start()
    h.put()
    wait_until(lambda: h.courier.status()["paused"])
    for number in range(20):
        h.put(b"%d" % number)
    tried = len(h.delivery.log)
    assert tried <= 4, "the queue is not run against a wall"
    away.clear()
    h.settle()


def broken_for(box, verdict):
    """Deliveries of one mailbox end with `verdict` the first time."""
    delivery = FakeDelivery()
    real, first = delivery.deliver, [verdict]

    def deliver(claim, envelope, file):
        if envelope.mailbox == box and first:
            delivery.say = lambda body: first.pop()
        else:
            delivery.say = lambda body: SENT
        return real(claim, envelope, file)

    delivery.deliver = deliver
    return delivery


@pytest.mark.parametrize("trouble", [OFFLINE, NoAnswer("cut", False)], ids=["sending", "asking"])
def test_a_connection_that_breaks_stops_no_other_mailbox(quick_probes, harness, caplog, trouble):
    asked, answer = threading.Event(), threading.Event()

    def probe():
        asked.set()
        assert answer.wait(30)

    delivery = broken_for("a@contoso.com", trouble)
    h = harness(delivery, probe=probe, interval=0.02)
    h.courier.start()
    h.put(b"cut", "a@contoso.com")
    assert asked.wait(30), "whether it is this mailbox alone"
    for _ in range(5):
        h.put(b"free", "b@contoso.com")
    wait_until(lambda: [box for box, _ in delivery.log].count("b@contoso.com") == 5)
    assert not h.courier.status()["paused"] and h.courier.status()["mailboxes"]["a@contoso.com"]["last_error"]
    answer.set()
    h.settle()
    assert "sending is paused" not in caplog.text
    assert delivery.log.count(("a@contoso.com", b"cut")) == 2


def test_a_mailbox_whose_connections_break_rests(harness):
    now = 1000.0
    h = harness(FakeDelivery(lambda body: OFFLINE), monotonic=lambda: now)
    for _ in range(40):
        h.put()
    wait_until(lambda: h.delivery.log and not workers())
    tried = len(h.delivery.log)
    assert tried <= SLOTS, "at most what may run at once"
    h.courier.flush()
    assert not workers()
    now += reachability.FIRST
    h.courier.flush()
    wait_until(lambda: len(h.delivery.log) > tried and not workers())
    assert len(h.delivery.log) <= tried + SLOTS


def test_what_was_being_sent_is_looked_for_when_its_mailbox_is_back(harness):
    h = harness(FakeDelivery(), mailboxes=("a@contoso.com",))
    incoming = h.spool.put(Envelope("b@contoso.com", "", ("x@example.org",)))
    id = incoming.commit()
    h.spool.claim(id).mark_posting()
    h.delivery.found = [SENT]
    h.courier.recover()
    h.courier.start()
    assert h.places() == [("cur", "posting")]
    h.courier.set_mailboxes(["a@contoso.com", "b@contoso.com"])
    h.settle()
    assert h.delivery.looked == [id] and h.delivery.log == []


@pytest.mark.parametrize("seconds, tries", [(0.0, 1), (100.0, 2)], ids=["short", "long"])
def test_a_pause_changes_the_schedule_only_if_it_was_long(quick_probes, harness, seconds, tries):
    now, answer = 1000.0, threading.Event()
    troubles = [SignInNeeded("run login")]
    h = harness(
        FakeDelivery(lambda body: troubles.pop() if body == b"first" and troubles else LATER),
        probe=lambda: answer.wait(PATIENCE),
        monotonic=lambda: now,
    )

    def tried(body):
        return [found for _, found in h.delivery.log].count(body)

    h.courier.start()
    h.put(b"waits", "b@contoso.com")
    wait_until(lambda: tried(b"waits") == 1)
    h.settle([("new", "")])
    h.put(b"first")
    wait_until(lambda: h.courier.status()["paused"])
    now += seconds
    answer.set()
    wait_until(lambda: tried(b"first") == 2 and tried(b"waits") >= tries)
    h.settle([("new", "")] * 2)
    assert tried(b"waits") == tries


def test_the_pace_is_not_spent_on_messages_that_are_not_due(harness):
    h = harness(FakeDelivery(), pace_per_minute=2)
    for _ in range(20):
        incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
        h.spool.save_state(incoming.commit(), State(due=time.time() + 200.0, last_attempt=time.time()))
    h.courier.start()
    h.put(b"now")
    wait_until(lambda: h.delivery.log == [("a@contoso.com", b"now")])


def test_a_probe_comes_also_when_a_retry_was_due_before_it(quick_probes, harness):
    first = {b"later": LATER, b"offline": OFFLINE}
    h = harness(FakeDelivery(lambda body: first.pop(body, SENT)), interval=0.02)
    h.courier.start()
    h.put(b"later")
    wait_until(lambda: h.delivery.log)
    h.put(b"offline")
    h.settle()
    assert sorted(body for _, body in h.delivery.log) == [b"later", b"later", b"offline", b"offline"]


def test_a_flush_tries_also_what_waits_for_its_time(harness):
    first = [LATER._replace(wait=100.0)] * 2
    h = harness(FakeDelivery(lambda body: first.pop() if first else SENT))
    h.courier.start()
    h.put(b"one")
    h.put(b"two")
    wait_until(lambda: len(h.delivery.log) == 2)
    h.settle([("new", "")] * 2)
    h.courier.flush_all()
    h.settle()
    assert len(h.delivery.log) == 4


def test_a_clock_that_jumped_strands_nothing(harness):
    h = harness(FakeDelivery())
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    id = incoming.commit()
    # written before the clock was set back
    h.spool.save_state(id, State(due=time.time() + 10 * 365 * 86400))
    h.courier.start()
    h.settle()


def test_a_mailbox_that_came_with_a_new_config_gets_its_mail_sent(harness):
    h = harness(FakeDelivery(), mailboxes=("a@contoso.com",))
    h.courier.start()
    h.put(b"stranger", "b@contoso.com")
    h.put(b"known", "a@contoso.com")
    wait_until(lambda: len(h.delivery.log) == 1)
    h.settle([("new", "")])
    h.courier.set_mailboxes(["a@contoso.com", "b@contoso.com"])
    h.settle()


def test_stop_waits_for_what_is_being_sent(harness):
    release = threading.Event()
    h = harness(FakeDelivery())
    h.delivery.gate = lambda box: release.wait(10)
    h.courier.start()
    h.put()
    wait_until(lambda: h.delivery.now.get("a@contoso.com") == 1)
    assert not h.courier.stop(0.05)
    release.set()
    assert h.courier.stop(10)
    assert h.places() == []


def test_a_deferred_message_is_not_overtaken_by_mail_that_came_after_its_time(harness, monkeypatch):
    """At capacity there is always newer mail: the old one must not starve, or it is never sent, expired or reported."""
    accepted, taken, due = {}, [], []
    add, take = Lane.add, Lane.take

    def noted_add(lane, id, turn):
        add(lane, id, turn)
        if id == old and taken:
            due.append(max(turn.due, time.monotonic()))

    def noted_take(lane, pace, flushes):
        job = take(lane, pace, flushes)
        taken.append(job.id)
        return job

    monkeypatch.setattr(Lane, "add", noted_add)
    monkeypatch.setattr(Lane, "take", noted_take)

    def say(body):
        if body == b"old" and taken.count(old) == 1:
            return LATER
        if taken.count(old) < 2:
            feed()
        return SENT

    def feed():
        began = time.monotonic()
        accepted[h.put()] = began

    h = harness(FakeDelivery(say), interval=0.05)
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    incoming.write(b"old")
    old = incoming.commit()
    h.courier.start()
    for _ in range(4 * SLOTS):
        feed()
    wait_until(lambda: taken.count(old) == 2)
    h.settle()
    before = taken[1 : len(taken) - 1 - taken[::-1].index(old)]
    assert taken[0] == old and [id for id in before if accepted[id] > due[0]] == []


def test_one_message_of_a_mailbox_does_not_wait_for_all_of_another(harness):
    h = harness(FakeDelivery(), workers=1)
    for mailbox in ["a@contoso.com"] * 20 + ["b@contoso.com"]:
        incoming = h.spool.put(Envelope(mailbox, mailbox, ("x@example.org",)))
        incoming.write(b"x")
        incoming.commit()
    h.courier.start()
    h.settle()
    assert [box for box, _ in h.delivery.log].index("b@contoso.com") <= 1


def test_a_flush_reaches_also_the_messages_in_hand(harness):
    """Its attempt began before: whatever the administrator has mended, this attempt did not know of it."""
    verdicts, inside, go_on = [LATER._replace(wait=1000.0), SENT], threading.Event(), threading.Event()
    h = harness(FakeDelivery(lambda body: verdicts.pop(0)))
    h.delivery.gate = lambda box: (inside.set(), go_on.wait(20))[1]
    h.courier.start()
    h.put()
    assert inside.wait(20)
    h.courier.flush_all()
    go_on.set()
    h.settle()
    assert verdicts == []
