"""What is fetched ahead: in whose order, how far, and within which bounds.

The fetches are threads that wait until the test lets them go on.
"""

from __future__ import annotations

import contextlib
import os
import threading

import pytest

from m365proxy.errors import Permanent, SignInNeeded, Temporary
from m365proxy.graph.answer import NoAnswer, Throttled
from m365proxy.maildrop import readahead
from m365proxy.maildrop.copies import Cancelled
from m365proxy.maildrop.readahead import ReadAhead
from m365proxy.system import files

SMALL = b"A: b\r\n\r\nbody\r\n"


class Item:
    def __init__(self, number, size):
        self.number = number
        self.size = size
        self.raw = SMALL
        self.error = None
        self.broken = None
        self.found = None

    def set_size(self, copy):
        self.found = copy.size


class Rig:
    """`begun` lists the messages whose fetch began; `let` lets one (or all) of them end."""

    def __init__(self, path, count=20, limit=1 << 20, size=1000, **more):
        self.path = path
        self.items = [Item(number, size) for number in range(count)]
        self.begun = []
        self.lines = {}
        self.gates = [threading.Event() for _ in range(count)]
        self.room = 4
        self.ahead = ReadAhead(self.items, self._fetch, str(path), limit, lambda: self.room, settle=10.0, **more)

    def _fetch(self, item, copy):
        self.begun.append(item.number)
        self.lines[item.number] = copy.lines
        try:
            copy.open()
            assert self.gates[item.number].wait(20)
            if item.error:
                copy.fail(item.error)
                return
            for at in range(0, len(item.raw), 10_000):
                copy.write(item.raw[at : at + 10_000])
            if item.broken:
                copy.fail(item.broken)
                return
            copy.complete()
        except Cancelled:
            pass
        finally:
            copy.close()

    def let(self, *numbers):
        for number in numbers or range(len(self.gates)):
            self.gates[number].set()

    def want(self, index, lines=None):
        copy = self.ahead.want(index, lines)
        self.let(index)
        assert copy.wait_ready(10.0)
        return b"".join(copy.chunks(lambda: None))

    def quiet(self, wait_until):
        """Every fetch that was let go has ended."""
        wait_until(lambda: all(not self.gates[item.number].is_set() for item in self._open()))

    def _open(self):
        with self.ahead._changed:
            running = self.ahead._running.items()
            return [self.items[index] for copy, index in running if self.ahead._copies.get(index) is copy]

    def on_disk(self):
        """Octets; a file that goes at this moment counts for nothing."""
        total = 0
        for path in self.path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


@pytest.fixture
def rig(tmp_path):
    made = []

    def make(**more):
        made.append(Rig(tmp_path, **more))
        return made[-1]

    yield make
    for rig in made:
        rig.let()
        rig.ahead.close()


ORDERS = {
    "oldest first": ([0], [1, 2, 3]),
    "newest first": ([19], [18, 17, 16]),
    "from the middle: nothing yet": ([7], []),
    "from the middle and up": ([7, 8], [9, 10, 11]),
    "from the middle and down": ([7, 6], [5, 4, 3]),
    "the same again": ([7, 7], []),
}


@pytest.mark.parametrize("name", ORDERS)
def test_three_are_fetched_ahead_in_the_clients_order(rig, wait_until, name):
    wanted, ahead = ORDERS[name]
    rig = rig()
    for index in wanted:
        assert rig.want(index) == SMALL
    wait_until(lambda: sorted(rig.begun) == sorted(set(wanted) | set(ahead)))


def test_what_came_ahead_is_served_without_a_request(rig, wait_until):
    rig = rig()
    rig.let()
    for index in range(20):
        assert rig.want(index) == SMALL
    rig.quiet(wait_until)
    assert sorted(rig.begun) == list(range(20))
    assert [item.found for item in rig.items] == [len(SMALL)] * 20


def test_a_client_that_turns_round_gets_the_other_side(rig, wait_until):
    rig = rig()
    rig.want(0)
    wait_until(lambda: sorted(rig.begun) == [0, 1, 2, 3])
    rig.want(15)
    rig.let(1, 2, 3)  # nobody wants them any more
    rig.want(14)
    wait_until(lambda: {13, 12, 11} <= set(rig.begun))


def test_a_pass_over_the_tops_fetches_tops_ahead(rig, wait_until):
    rig = rig()
    rig.want(0, 0)
    wait_until(lambda: sorted(rig.begun) == [0, 1, 2, 3])
    assert rig.lines == dict.fromkeys(range(4), 0)


def test_a_top_before_each_retrieval_is_no_pass(rig, wait_until):
    rig = rig()
    rig.let()
    for index in range(10):
        rig.want(index, 0)
        rig.want(index)
    rig.quiet(wait_until)
    assert rig.lines[12] is rig.lines[14] is None


def test_a_top_of_all_lines_is_a_retrieval(rig):
    rig = rig()
    rig.want(0, 99999999)
    assert rig.lines[0] is None


@pytest.mark.parametrize("room", [0, 1])
def test_it_takes_only_slots_nobody_else_wants(rig, wait_until, room):
    rig = rig()
    rig.room = 0
    rig.want(0)
    rig.quiet(wait_until)
    assert rig.begun == [0]
    rig.room = room
    rig.want(1)
    if room:
        wait_until(lambda: len(rig.begun) > 2)
    else:
        rig.quiet(wait_until)
        assert rig.begun == [0, 1]


def test_large_messages_leave_a_slot_free(rig, wait_until):
    rig = rig(size=readahead._LARGE + 1, limit=1 << 30)
    rig.want(0)
    wait_until(lambda: sorted(rig.begun) == [0, 1, 2])
    rig.room = 1
    rig.want(1)
    rig.quiet(wait_until)
    assert sorted(rig.begun) == [0, 1, 2]


def test_what_is_held_ahead_is_bounded(rig, wait_until):
    limit = 300_000
    raw = b"A: b\r\n\r\n" + b"x" * 90_000
    rig = rig(limit=limit, size=len(raw))  # exact: one that outgrows its size is a matter of its own, below
    for item in rig.items:
        item.raw = raw
    rig.let()
    for index in range(20):
        rig.want(index)
        rig.quiet(wait_until)
        wait_until(lambda: rig.on_disk() <= limit)
    assert sorted(rig.begun) == list(range(20))


def test_one_that_outgrows_the_bound_is_given_up(rig, wait_until):
    rig = rig(limit=200_000)
    rig.items[1].raw = b"x" * 500_000  # said to have 1,000
    rig.let()
    rig.want(0)
    rig.quiet(wait_until)
    wait_until(lambda: rig.on_disk() <= 200_000)
    assert len(rig.want(1)) == 500_000  # and comes when it is asked for
    assert rig.begun.count(1) == 2


def test_none_are_fetched_ahead_with_a_limit_of_nothing(rig, wait_until):
    rig = rig(limit=0)
    rig.let()
    for index in range(5):
        rig.want(index)
        rig.quiet(wait_until)
    assert rig.begun == [0, 1, 2, 3, 4]
    wait_until(lambda: rig.on_disk() == len(SMALL))


def test_none_are_fetched_ahead_on_a_disk_that_is_nearly_full(rig, wait_until, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: readahead._DISK_RESERVE)
    rig = rig()
    rig.let()
    rig.want(0)
    rig.quiet(wait_until)
    assert rig.begun == [0]


def test_one_that_fails_ahead_is_asked_for_again_only_by_the_client(rig, wait_until):
    rig = rig(count=3)
    rig.items[1].error = Temporary("away")
    rig.let()
    rig.want(0)
    wait_until(lambda: sorted(rig.begun) == [0, 1, 2])
    rig.quiet(wait_until)
    rig.items[1].error = None
    assert rig.want(1) == SMALL
    assert sorted(rig.begun) == [0, 1, 1, 2]


def test_closing_removes_everything_and_stops_what_comes(rig, wait_until):
    rig = rig()
    rig.want(0)
    wait_until(lambda: sorted(rig.begun) == [0, 1, 2, 3])
    rig.ahead.close()
    rig.let()
    wait_until(lambda: os.listdir(rig.path) == [])
    wait_until(lambda: not rig.ahead._running)
    assert sorted(rig.begun) == [0, 1, 2, 3]


def test_measuring_fetches_all_and_keeps_what_fits(rig, wait_until):
    rig = rig(limit=400_000, size=90_000)
    for item in rig.items:
        item.raw = b"x" * 90_000
    rig.ahead.measure(range(20))
    assert not rig.ahead.wait_measured(0.0)
    rig.let()
    wait_until(lambda: rig.ahead.wait_measured(0.1))
    assert [item.found for item in rig.items] == [90_000] * 20
    assert sorted(rig.begun) == list(range(20))
    wait_until(lambda: rig.on_disk() <= 400_000)


def test_measuring_ends_though_a_fetch_ends_with_a_fault(rig, wait_until, monkeypatch):
    faults = []
    monkeypatch.setattr(threading, "excepthook", lambda args: faults.append(args.exc_type))
    rig = rig(count=3)
    rig.items[1].raw = None  # a TypeError in the thread
    rig.let()
    rig.ahead.measure(range(3))
    assert rig.ahead.wait_measured(10.0)
    assert [item.found for item in rig.items] == [len(SMALL), None, len(SMALL)]
    wait_until(lambda: faults == [TypeError])  # told after the thread has settled up


def test_measuring_leaves_the_queue_its_room_on_the_disk(rig, monkeypatch):
    monkeypatch.setattr(files, "free_bytes", lambda path: 5_999_999)
    rig = rig(count=3, reserve=5_000_000)
    rig.items[1].size = 1_000_000
    rig.let()
    rig.ahead.measure(range(3))
    assert rig.ahead.wait_measured(10.0)
    assert sorted(rig.begun) == [0, 2] and rig.items[1].size == 1_000_000


def test_measuring_goes_on_without_a_free_slot_but_one_at_a_time(rig, wait_until):
    rig = rig(count=3)
    rig.room = 0
    rig.ahead.measure(range(3))
    wait_until(lambda: rig.begun == [0])
    rig.let()
    wait_until(lambda: rig.ahead.wait_measured(0.1))
    assert rig.begun == [0, 1, 2]


@pytest.mark.parametrize(
    "error, bad, begun",
    [
        (Permanent("gone"), 9, 9),
        (Temporary("HTTP 500"), 1, 9),
        (Temporary("HTTP 500"), 2, 9),
        (Temporary("HTTP 500"), 3, 3),
        (NoAnswer("no way there", False), 1, 1),
        (NoAnswer("no answer in time", True), 1, 1),
        (Throttled("a@contoso.com", 5.0), 1, 1),
        (SignInNeeded("sign in"), 1, 1),
    ],
)
def test_measuring_skips_what_cannot_be_had_and_ends_when_graph_is_away(rig, wait_until, error, bad, begun):
    rig = rig(count=9)
    rig.room = 0
    for item in rig.items[:bad]:
        item.error = error
    rig.let()
    rig.ahead.measure(range(9))
    wait_until(lambda: rig.ahead.wait_measured(0.1))
    assert len(rig.begun) == begun


def test_one_that_breaks_off_is_not_taken_for_graph_being_away(rig, wait_until):
    rig = rig(count=3)
    rig.room = 0
    rig.items[0].broken = NoAnswer("broke off", True)
    rig.let()
    rig.ahead.measure(range(3))
    wait_until(lambda: rig.ahead.wait_measured(0.1))
    assert rig.begun == [0, 1, 2]


def test_a_message_costs_no_walk_over_those_that_are_kept(rig, wait_until):
    """With many thousand small messages on disk every RETR would take longer than the one before."""
    rig = rig(count=40)
    rig.room = 0
    rig.let()
    asked = []

    class Counted(type(rig.ahead._copies)):
        def items(self):
            asked.append(len(self))
            return super().items()

    rig.ahead._copies = Counted()
    for index in range(40):
        rig.want(index)
        rig.quiet(wait_until)
    assert len(rig.ahead._copies) == 40 and not [size for size in asked if size > 4]


def test_many_tiny_messages_on_disk_are_bounded_in_number(rig, wait_until):
    rig = rig(count=40, limit=10 * readahead._BLOCK)
    rig.room = 0
    rig.let()
    for index in range(40):
        rig.want(index)
        rig.quiet(wait_until)
    wait_until(lambda: len(os.listdir(rig.path)) <= 10)


@pytest.mark.parametrize(
    "size, free, comes",
    [
        (1_000_000, 5_999_999, False),
        (1_000_000, 6_000_000, True),
        (200_000, 0, True),
    ],
)
def test_a_large_message_leaves_the_queue_its_room_on_the_disk(rig, monkeypatch, size, free, comes):
    monkeypatch.setattr(files, "free_bytes", lambda path: free)
    rig = rig(size=size, reserve=5_000_000)
    if comes:
        assert rig.want(0) == SMALL
    else:
        with pytest.raises(Temporary, match="disk"):
            rig.want(0)
        assert rig.begun == [] and os.listdir(rig.path) == []
        rig.items[0].size = 1000  # and the next one is served
        assert rig.want(0) == SMALL
