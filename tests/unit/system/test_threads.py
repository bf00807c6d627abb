import threading

import pytest

from m365proxy.system import threads
from m365proxy.system.threads import Repeating, Timer, try_start

LONG = 600.0


class Calls:
    """An action that counts, and can be waited for."""

    def __init__(self):
        self.names = []
        self._came = threading.Semaphore(0)

    def __call__(self):
        self.names.append(threading.current_thread().name)
        self._came.release()

    def wait(self, count=1):
        for _ in range(count):
            assert self._came.acquire(timeout=30)


@pytest.fixture
def calls():
    return Calls()


@pytest.fixture
def timer(calls):
    timer = Timer(calls, "refresh")
    yield timer
    timer.cancel()


def no_thread(thread):
    raise RuntimeError("can't start new thread")


def test_a_timer_calls_once_in_a_thread_of_its_name(timer, calls):
    assert timer.start(0.0)
    calls.wait()
    assert calls.names == ["refresh"] and not timer.is_running


def test_a_timer_can_be_started_again_by_its_action(calls):
    def action():
        calls()
        if len(calls.names) < 3:
            timer.start(0.0)

    timer = Timer(action, "refresh")
    timer.start(0.0)
    calls.wait(3)
    assert not timer.is_running


def test_a_cancelled_timer_does_not_call(timer, calls):
    timer.start(LONG)
    assert timer.is_running
    timer.cancel()
    assert not timer.is_running
    timer.cancel()  # nothing to do


def test_an_action_whose_timer_was_started_again_meanwhile_is_called_once(timer, calls):
    """Its time may be over while another thread starts it again."""
    with timer._lock:
        timer._start(0.0)
        first = timer._timer
        timer._start(0.0)
    calls.wait()
    first.join(30)
    assert len(calls.names) == 1


def test_starting_replaces_the_time(timer, calls):
    timer.start(LONG)
    timer.start(0.0)
    calls.wait()
    assert len(calls.names) == 1


@pytest.mark.parametrize("first,then,due", [(LONG, 2 * LONG, LONG), (2 * LONG, LONG, LONG)])
def test_starting_within_a_time_leaves_a_sooner_one(timer, monkeypatch, first, then, due):
    monkeypatch.setattr(threads.time, "monotonic", lambda: 0.0)
    assert timer.start(first) and timer.start_within(then)
    assert timer._due == due


def test_starting_within_a_time_starts(timer, calls):
    assert timer.start_within(0.0)
    calls.wait()


def test_a_timer_without_a_thread_is_not_running(timer, monkeypatch, caplog):
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert not timer.start(0.0) and not timer.start_within(0.0) and not timer.is_running
    assert "no thread can be started for now" in caplog.text


def test_a_thread_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert not try_start(threading.Thread(target=int))


def test_a_repeated_action_for_which_there_is_no_thread_is_set_again(monkeypatch):
    monkeypatch.setattr(threads, "_NO_THREAD_SECONDS", 0.001)
    real, refusals, done = threading.Thread.start, [1, 1], threading.Semaphore(0)

    def start(thread):
        if refusals and threading.current_thread().name == "refresh":
            refusals.pop()
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    timer = Repeating(0.001, done.release, "refresh", first=0.0)
    timer.start()
    for _ in range(3):
        assert done.acquire(timeout=30)
    timer.stop()
    assert not refusals


def test_a_repeated_action_goes_on_after_a_fault(caplog):
    went_on = threading.Event()
    calls = []

    def action():
        calls.append(1)
        if len(calls) > 1:
            went_on.set()
        raise ValueError("a fault")

    timer = Repeating(0.001, action, "refresh", first=0.0)
    timer.start()
    assert went_on.wait(30)
    timer.stop()
    assert "refresh ended by an error in this program" in caplog.text
