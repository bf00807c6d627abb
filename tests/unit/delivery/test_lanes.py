"""Which message is tried when, with a clock that stands still unless a test sets it."""

import pytest

from m365proxy.delivery import reachability
from m365proxy.delivery.lanes import AT_ONCE, Lanes, Turn, Work
from m365proxy.graph.slots import SLOTS
from m365proxy.spool.spool import mailbox_tag
from m365proxy.spool.state import Entry, Place

A, B = "a@contoso.com", "b@contoso.com"
MAIL = {"request_id": "r", "draft": A}


class Clock:
    def __init__(self):
        self.now = 1000.0
        self.step = 0.0  # how much time each look at the clock takes

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttled():
    """Seconds for which Graph wants a mailbox left alone, by mailbox."""
    return {}


@pytest.fixture
def make(clock, throttled):
    return lambda *mailboxes, **more: Lanes(
        mailboxes or (A, B), lambda mailbox: throttled.get(mailbox, 0.0), monotonic=clock, **more
    )


def id_of(number, mailbox=A):
    return f"{number:03}-{mailbox_tag(mailbox)}"


def fill(lanes, count, mailbox=A):
    for number in range(count):
        lanes.add(id_of(number, mailbox), Turn(AT_ONCE))


def taken(lanes):
    """The ids of all that may be tried now."""
    return [job.id for job in iter(lanes.take, None)]


def test_the_oldest_comes_first_and_at_most_four_are_in_hand(make):
    lanes = make()
    for number in (3, 1, 0, 2, 4):
        lanes.add(id_of(number), Turn(AT_ONCE))
    jobs = [lanes.take() for _ in range(SLOTS)]
    assert [job.id for job in jobs] == [id_of(number) for number in range(SLOTS)]
    assert lanes.take() is None and not lanes.outlook().is_due
    lanes.finish(jobs[0], None)
    assert taken(lanes) == [id_of(4)]


def test_mailboxes_take_turns(make):
    lanes = make()
    fill(lanes, 3, A)
    fill(lanes, 3, B)
    mailboxes = [job.lane.mailbox for job in iter(lanes.take, None)]
    assert mailboxes == [A, B] * 3


def test_a_new_message_does_not_overtake_one_whose_time_has_come(make, clock):
    lanes = make()
    lanes.add(id_of(9), Turn(clock.now - 1.0))
    lanes.add_now(id_of(0))
    assert taken(lanes) == [id_of(9), id_of(0)]


def test_a_message_that_is_not_due_waits_for_its_time(make, clock):
    lanes = make()
    assert lanes.outlook().wait is None
    lanes.add(id_of(1), Turn(clock.now + 30.0))
    lanes.add(id_of(2, B), Turn(clock.now + 20.0))
    assert lanes.outlook().wait == 20.0 and lanes.take() is None
    clock.now += 20.0
    assert taken(lanes) == [id_of(2, B)] and lanes.outlook().wait == 10.0


@pytest.mark.parametrize("due", [0.5, 1.5, 2.5, 3.5])
def test_what_becomes_due_during_a_look_is_due_or_waited_for(make, clock, due):
    """Without both there would be no worker and no timer for it."""
    lanes = make()
    lanes.add(id_of(1), Turn(clock.now + due))
    clock.step = 1.0
    outlook = lanes.outlook()
    assert outlook.is_due or outlook.wait is not None


def test_what_can_start_now_is_waited_for_by_nobody(make):
    lanes = make()
    fill(lanes, 1)
    assert lanes.outlook().is_due and lanes.outlook().wait is None


def test_the_next_turn_says_what_is_done_then(make):
    lanes, claim = make(), object()
    fill(lanes, 1)
    job = lanes.take()
    assert (job.work, job.claim) == (Work.SEND, None)
    lanes.finish(job, job.lane.turn_in(0.0, Work.LOOK, claim))
    job = lanes.take()
    assert (job.work, job.claim) == (Work.LOOK, claim)
    lanes.finish(job, job.lane.turn_in(0.0))
    assert lanes.take().work is Work.SEND
    assert lanes.status()[A]["waiting"] == 0


def test_a_throttled_mailbox_waits_alone(make, throttled):
    lanes = make()
    fill(lanes, 1, A)
    fill(lanes, 1, B)
    throttled[A] = 30.0
    assert taken(lanes) == [id_of(0, B)] and lanes.outlook().wait == 30.0
    throttled.clear()
    assert taken(lanes) == [id_of(0, A)]


def test_a_paused_mailbox_waits_for_the_longest_pause(make, clock):
    lanes = make()
    fill(lanes, 1)
    lane = lanes.of_mailbox(A)
    assert lane.pause(100.0) and not lane.pause(10.0) and not lane.pause(50.0)
    clock.now += 99.0
    lanes.make_all_due()
    lanes.end_rests()
    assert lanes.take() is None
    clock.now += 1.0
    assert taken(lanes) == [id_of(0)]


def test_a_mailbox_rests_for_longer_each_time_and_calls_that_fail_together_count_once(make, clock):
    lanes = make()
    fill(lanes, 1)
    lane = lanes.of_mailbox(A)
    rests = []
    for _ in range(6):
        lane.rest()
        lane.rest()
        rests.append(lanes.outlook().wait)
        clock.now += rests[-1]
    assert rests == [1.0, 2.0, 4.0, 8.0, reachability.LONGEST, reachability.LONGEST]
    lane.rest()
    lane.note_delivery(1.0, "x", MAIL)
    assert lanes.outlook().is_due
    lane.rest()
    assert lanes.outlook().wait == reachability.FIRST


def test_the_pace_of_a_mailbox_counts_messages_that_are_sent(make, clock):
    lanes = make(pace_per_minute=20)
    fill(lanes, 3, A)
    fill(lanes, 1, B)
    assert taken(lanes) == [id_of(0, A), id_of(0, B)], "each mailbox has a pace of its own"
    assert lanes.outlook().wait == 3.0
    lanes.of_mailbox(A).skip_pace()
    assert taken(lanes) == [id_of(1, A)]
    clock.now += 3.0
    assert taken(lanes) == [id_of(2, A)]


def test_all_are_made_due_also_those_in_hand(make, clock):
    lanes = make()
    fill(lanes, 1)
    job = lanes.take()
    lanes.add(id_of(5), Turn(clock.now + 100.0))
    lanes.make_all_due()
    lanes.finish(job, Turn(clock.now + 100.0))
    assert taken(lanes) == [id_of(0), id_of(5)]


def test_what_is_listed_waits_once(make):
    lanes = make(A)
    lanes.add_now(id_of(1))
    listed = [Entry(id_of(number), Place.NEW) for number in (2, 1, 0)] + [Entry(id_of(0, B), Place.NEW)]
    assert lanes.load(listed) == 1, "no lane"
    assert taken(lanes) == [id_of(0), id_of(2), id_of(1)]


def test_a_new_mailbox_gets_its_messages_and_one_that_is_gone_keeps_them(make):
    lanes = make(A)
    fill(lanes, 1, A)
    lanes.add_now(id_of(7, B))  # nobody's yet
    assert lanes.set_mailboxes([B]) == {mailbox_tag(B)}
    assert lanes.load([Entry(id_of(0, B), Place.NEW), Entry(id_of(1, A), Place.NEW)], {mailbox_tag(B)}) == 0
    assert taken(lanes) == [id_of(0, B)] and set(lanes.status()) == {B}
    assert lanes.set_mailboxes([A, B]) == set()
    assert taken(lanes) == [id_of(0, A)]


def test_status(make):
    lanes = make(A)
    fill(lanes, 3)
    job = lanes.take()
    job.lane.note_delivery(5.0, job.id, MAIL)
    job.lane.note_error("refused", 6.0)
    assert lanes.status() == {
        A: {
            "waiting": 2,
            "sending": 1,
            "last_delivery": 5.0,
            "last_error": "refused",
            "last_error_time": 6.0,
            "sent": {job.id: MAIL},
        }
    }


def test_status_names_the_latest_messages_that_were_sent(make):
    lanes = make(A)
    fill(lanes, 1)
    lane = lanes.take().lane
    for number in range(20):
        lane.note_delivery(5.0, str(number), MAIL)
    assert list(lanes.status()[A]["sent"]) == [str(number) for number in range(12, 20)]


def test_a_share_of_the_slots_is_all_that_is_in_hand(make):
    lanes = make(A, slots=1)
    fill(lanes, 2)
    assert taken(lanes) == [id_of(0)]


def test_a_share_of_the_pace_may_be_less_than_one(make, clock):
    lanes = make(A, pace_per_minute=0.5)
    fill(lanes, 2)
    assert taken(lanes) == [id_of(0)]
    assert lanes.outlook().wait == 120
