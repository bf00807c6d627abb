"""A call in a thread of its own."""

from __future__ import annotations

import threading

import pytest

from m365proxy.errors import Temporary
from m365proxy.pop3.job import Job


def test_it_is_waited_for_and_its_result_is_told():
    gate = threading.Event()
    job = Job(lambda: (gate.wait(10), threading.current_thread()), "the work")
    assert not job.ready(0.0)
    gate.set()
    assert job.ready(10.0)
    opened, thread = job.wait()
    assert opened and thread.name == "the work"
    assert thread.daemon  # or the program could not be stopped before its end


def test_what_the_call_raised_is_raised_to_whoever_asks():
    def call():
        raise Temporary("Graph is away.")

    job = Job(call, "the work")
    assert job.wait() is None
    with pytest.raises(Temporary, match="Graph is away"):
        job.ready(10.0)


def test_a_fault_does_not_keep_anybody_waiting_and_is_told(monkeypatch, wait_until):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def call():
        raise ZeroDivisionError

    job = Job(call, "the work")
    assert job.wait() is None
    with pytest.raises(ZeroDivisionError):
        job.ready(10.0)
    wait_until(lambda: [one.exc_type for one in told] == [ZeroDivisionError])


@pytest.mark.parametrize("error", [None, Temporary("Graph is away.")])
def test_where_there_is_no_thread_left_the_caller_does_it(error, monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    def call():
        if error:
            raise error
        return threading.current_thread()

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    job = Job(call, "the work")
    assert job.wait() is (None if error else threading.current_thread())
    if error:
        with pytest.raises(Temporary):
            job.ready(0.0)
