"""Whether anything can be sent: when it is asked, and what a pause does."""

import threading

import pytest
from waiting import PATIENCE

from m365proxy.delivery import reachability
from m365proxy.delivery.reachability import Reachability
from m365proxy.errors import SignInNeeded, Temporary


class Probe:
    """Raises the given troubles in turn, then none.  `count` is how often it was asked."""

    def __init__(self, *troubles):
        self.troubles = list(troubles)
        self.count = 0

    def __call__(self):
        self.count += 1
        if self.troubles:
            raise self.troubles.pop(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reachability, "FIRST", 0.001)


@pytest.fixture
def backs():
    """What `back` was called with."""
    return []


@pytest.fixture
def make(backs, wait_until):
    made = []

    def reach(probe, **more):
        made.append(Reachability(probe, backs.append, **more))
        return made[-1]

    yield reach
    for one in made:
        one.stop()
    wait_until(lambda: not timers())  # the next test looks for its own


def test_a_connection_that_failed_alone_pauses_nothing(make, backs, caplog, wait_until):
    probe = Probe()
    make(probe).check()
    wait_until(lambda: probe.count == 1 and not timers())
    assert backs == [] and "paused" not in caplog.text


def test_while_the_probe_fails_everything_is_paused(make, backs, caplog, wait_until):
    caplog.set_level("INFO")
    probe = Probe(Temporary("no route"), Temporary("no answer"))
    reach = make(probe)
    reach.check()
    wait_until(lambda: backs == [False])
    assert probe.count == 3 and not reach.paused
    assert [record.getMessage() for record in caplog.records] == ["sending is paused: no route", "sending goes on"]


def test_a_pause_for_a_known_reason_ends_by_a_probe(make, backs, wait_until):
    answer = threading.Event()
    reach = make(lambda: answer.wait(PATIENCE))
    reach.pause("no sign-in")
    assert reach.paused == "no sign-in" and backs == []
    answer.set()
    wait_until(lambda: backs == [False])
    assert reach.paused == ""


@pytest.mark.parametrize("seconds,long", [(59.0, False), (60.0, True)])
def test_a_pause_of_a_minute_is_a_long_one(make, backs, wait_until, seconds, long):
    now = [1000.0]

    def probe():
        now[0] += seconds

    make(probe, monotonic=lambda: now[0]).pause("no sign-in")
    wait_until(lambda: backs == [long])


def test_there_is_one_probe_at_a_time(make, wait_until):
    asked, answer, count = threading.Event(), threading.Event(), []

    def probe():
        count.append(1)
        asked.set()
        assert answer.wait(30)

    reach = make(probe)
    reach.check()
    assert asked.wait(30)
    for _ in range(5):
        reach.check()
        reach.tick()
    answer.set()
    wait_until(lambda: not timers())
    assert len(count) == 1


def test_a_fault_in_the_probe_does_not_end_the_asking(make, backs, caplog, wait_until):
    probe = Probe(RuntimeError("a bug"), SignInNeeded("run login"))
    make(probe).check()
    wait_until(lambda: backs == [False])
    assert probe.count == 3 and "unexpected error" in caplog.text


def test_without_a_thread_for_the_probe_a_tick_asks(make, backs, monkeypatch, wait_until):
    def start(thread):
        raise RuntimeError("can't start new thread")

    probe = Probe()
    reach = make(probe)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        reach.pause("no sign-in")
    assert not timers() and probe.count == 0 and reach.paused
    reach.tick()
    wait_until(lambda: backs == [False])
    reach.tick()  # nothing is paused: nothing to ask
    assert probe.count == 1


def test_after_a_stop_nothing_is_asked(make, backs):
    probe = Probe()
    reach = make(probe)
    reach.stop()
    reach.check()
    reach.pause("no sign-in")
    reach.tick()
    assert not timers() and probe.count == 0 and backs == []


def timers():
    return [thread for thread in threading.enumerate() if thread.name == "courier-timer"]
