"""A long queue costs one listing at start, and nothing more per message than a short one."""

import collections
import pathlib
import sys
import threading
import time

import pytest
from backlog import fill
from courier_harness import FakeDelivery, Harness, wait_until

from m365proxy.errors import SignInNeeded
from m365proxy.spool.state import Place, State

MANY, FEW = 5_000, 50
BOXES = ("a@contoso.com", "b@contoso.com")


class Watch:
    """Counts what is asked of the file system below a directory, by the interpreter's audit events."""

    def __init__(self):
        self.counts = None
        self.below = ""
        sys.addaudithook(self._hear)  # for good: there is no way to take one away

    def _hear(self, event, arguments):
        if self.counts is None or event not in ("open", "os.listdir", "os.scandir", "os.rename", "os.remove"):
            return
        path = arguments[0]
        if isinstance(path, (str, pathlib.Path)) and str(path).startswith(self.below):
            self.counts[event] += 1

    def __call__(self, below):
        self.below = str(below)
        self.counts = collections.Counter()
        return self.counts


_watch = Watch()


@pytest.fixture
def watch():
    yield _watch
    _watch.counts = None


@pytest.fixture
def harness(tmp_path):
    made = []

    def make(delivery, name="harness", **more):
        (tmp_path / name).mkdir()
        made.append(Harness(tmp_path / name, delivery, **more))
        return made[-1]

    yield make
    for one in made:
        assert one.courier.stop(10)


def no_sign_in():
    raise SignInNeeded("Nobody is signed in. Run `m365proxy login`.")


def test_the_start_opens_no_file(harness, watch, tmp_path):
    delivery = FakeDelivery(lambda body: SignInNeeded("Nobody is signed in."))
    h = harness(delivery, probe=no_sign_in)
    for box in BOXES:
        fill(h.spool.directory, MANY // 2, box)
    for entry in list(h.spool.entries(Place.NEW))[:20]:
        h.spool.save_state(entry.id, State(attempts=1))
    # What is counted is the start alone: nothing is due before the flush at its end.
    h.courier.flush = lambda: None
    counts = watch(tmp_path)
    h.spool.make()
    h.courier.start()
    # One: the directory new/, which is synced often.
    assert counts["open"] <= 1 and counts["os.rename"] == 0 and counts["os.remove"] == 0
    assert counts["os.listdir"] + counts["os.scandir"] <= 6
    lanes = h.courier.status()["mailboxes"]
    assert {name: lane["waiting"] for name, lane in lanes.items()} == dict.fromkeys(BOXES, MANY // 2)


def test_without_a_sign_in_few_are_looked_at(harness, watch, tmp_path):
    delivery = FakeDelivery(lambda body: SignInNeeded("Nobody is signed in."))
    h = harness(delivery, probe=no_sign_in)
    fill(h.spool.directory, MANY, BOXES[0])
    counts = watch(tmp_path)
    h.courier.start()
    wait_until(lambda: h.courier.status()["paused"] and not any(t.name == "courier" for t in threading.enumerate()))
    assert len(delivery.log) <= 4
    assert counts["open"] <= 4 * 8
    assert h.courier.status()["mailboxes"][BOXES[0]]["waiting"] == MANY


def per_message(h, watch, tmp_path, waiting):
    """File system calls for each of FEW messages that are sent while `waiting` others wait."""
    fill(h.spool.directory, waiting, BOXES[1])
    h.graph.holds[BOXES[1]] = time.monotonic() + 1000.0  # they wait; those of the other mailbox go
    h.courier.start()
    counts = watch(tmp_path)
    for _ in range(FEW):
        h.put(b"x", BOXES[0])
    wait_until(lambda: len(h.delivery.log) == FEW)
    wait_until(lambda: not any(t.name == "courier" for t in threading.enumerate()))
    watch.counts = None
    return {event: count / FEW for event, count in counts.items()}


def test_a_message_costs_the_same_however_many_wait(harness, watch, tmp_path):
    cheap = per_message(harness(FakeDelivery(), "few"), watch, tmp_path, FEW)
    dear = per_message(harness(FakeDelivery(), "many"), watch, tmp_path, MANY)
    assert cheap == dear
    assert "os.listdir" not in dear and "os.scandir" not in dear


def test_all_of_them_leave_oldest_first(harness):
    h = harness(FakeDelivery())
    fill(h.spool.directory, 300, BOXES[0])
    h.courier.start()
    wait_until(lambda: len(h.delivery.log) == 300)
    h.settle()
