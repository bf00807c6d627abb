"""The places of a mailbox: four, counted as a strict tenant counts them."""

import pytest

from m365proxy.graph.slots import BROKEN_OFF, GAP, SLOTS, UNANSWERED, Slots, share


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slots(clock):
    return Slots(clock)


def test_as_many_as_there_are(slots):
    assert [slots.enter(0) for _ in range(SLOTS + 1)] == [True] * SLOTS + [False]
    assert slots.spare == 0


def test_a_place_is_free_again_only_after_the_gap(slots, clock):
    for _ in range(SLOTS):
        slots.enter(0)
    slots.leave()
    assert slots.spare == 1 and not slots.enter(0)
    clock.now += GAP
    assert slots.enter(0) and not slots.enter(0)


def test_the_gap_costs_nothing_where_a_place_was_empty(slots):
    for _ in range(SLOTS - 1):
        assert slots.enter(0)
        slots.leave()
    assert slots.enter(0)


def test_a_wait_ends_with_the_gap():
    slots = Slots()
    for _ in range(SLOTS):
        slots.enter(0)
    slots.leave()
    assert slots.enter(20)


def test_a_place_whose_request_is_perhaps_still_at_work_is_not_spare(slots, clock):
    for gap in (UNANSWERED, BROKEN_OFF, GAP):
        slots.enter(0)
        slots.leave(gap)
    assert slots.spare == SLOTS - 1
    assert slots.enter(0) and not slots.enter(0)
    clock.now += GAP
    assert slots.enter(0) and not slots.enter(0)
    clock.now += BROKEN_OFF
    assert slots.enter(0) and not slots.enter(0)
    clock.now += UNANSWERED
    assert slots.enter(0) and not slots.enter(0)


def test_the_share_of_each_of_several_programs():
    assert [share(nodes) for nodes in (1, 2, 3, 4, 5, 16)] == [4, 2, 1, 1, 1, 1]


def test_a_share_is_all_there_is(clock):
    slots = Slots(clock, 2)
    assert [slots.enter(0) for _ in range(3)] == [True, True, False]
    slots.leave()
    assert slots.spare == 1 and not slots.enter(0)
    clock.now += GAP
    assert slots.enter(0)
