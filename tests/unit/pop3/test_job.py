"""A call in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from m365proxy.errors import Temporary
from m365proxy.pop3.job import Job


def test_it_is_waited_for_and_gives_its_result():
    gate = threading.Event()
    job = Job(lambda: (gate.wait(10), threading.current_thread()), "the work")
    assert not job.wait_over(0.0)
    gate.set()
    assert job.wait_over(10.0)
    opened, thread = job.result()
    assert opened and thread.name == "the work"
    assert thread.daemon  # or the program could not be stopped before its end


def test_what_the_call_raised_is_raised_to_its_caller():
    def call():
        raise Temporary("Graph is away.")

    job = Job(call, "the work")
    assert job.result() is None
    with pytest.raises(Temporary, match="Graph is away"):
        job.wait_over(10.0)


def test_a_fault_keeps_nobody_waiting_and_is_reported(monkeypatch, wait_until):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def call():
        raise ZeroDivisionError

    job = Job(call, "the work")
    assert job.result() is None
    with pytest.raises(ZeroDivisionError):
        job.wait_over(10.0)
    wait_until(lambda: [one.exc_type for one in reported] == [ZeroDivisionError])


@pytest.mark.parametrize("error", [None, Temporary("Graph is away.")])
def test_without_a_thread_left_the_caller_does_it(error, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    def call():
        if error:
            raise error
        return threading.current_thread()

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    job = Job(call, "the work")
    assert job.result() is (None if error else threading.current_thread())
    if error:
        with pytest.raises(Temporary):
            job.wait_over(0.0)
