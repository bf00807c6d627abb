"""Reports: one a second, however many ask."""

import threading

import pytest
from web_harness import StandInMonitor

from m365proxy.errors import Temporary
from m365proxy.web import source as module
from m365proxy.web.source import Kept, Source


def test_who_asks_within_a_second_gets_the_same_report():
    now = [100.0]
    monitor = StandInMonitor()
    source = Source(monitor, monotonic=lambda: now[0])
    reports = [source.report() for _ in range(10)]
    now[0] = 100.9
    assert source.report() is reports[0]
    assert monitor.taken == 1
    now[0] = 101.0
    source.report()
    assert monitor.taken == 2


def test_after_an_error_it_is_tried_again():
    monitor = StandInMonitor()
    monitor.error = OSError(5, "Input/output error")
    source = Source(monitor)
    with pytest.raises(OSError):
        source.report()
    monitor.error = None
    assert source.report()["verdict"] == "All is well"


def test_a_disk_that_does_not_answer_holds_up_one_only(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    hangs, may_end = threading.Event(), threading.Event()

    class Hanging(StandInMonitor):
        def report(self):
            hangs.set()
            may_end.wait(20)
            return super().report()

    source = Source(Hanging())
    thread = threading.Thread(target=source.report)
    thread.start()
    hangs.wait(20)
    try:
        with pytest.raises(Temporary, match="slow"):
            source.report()
    finally:
        may_end.set()
        thread.join()


@pytest.mark.parametrize("seconds, fresh", [(0.0, 0.9), (0.5, 9.0)])
def test_what_takes_long_to_make_is_kept_for_longer(seconds, fresh):
    now, made = [100.0], []

    def make():
        now[0] += seconds
        made.append(b"page")
        return b"page %d" % len(made)

    kept = Kept(lambda: now[0])
    assert kept.get(make) == b"page 1"
    now[0] += fresh
    assert kept.get(make) == b"page 1"
    now[0] += 1.5
    assert kept.get(make) == b"page 2"


def test_what_could_not_be_made_is_made_again():
    def fail():
        raise OSError(5, "Input/output error")

    kept = Kept(lambda: 0.0)
    with pytest.raises(OSError):
        kept.get(fail)
    assert kept.get(lambda: b"page") == b"page"


def test_what_is_being_made_for_long_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    kept = Kept(lambda: 0.0)

    def make():
        with pytest.raises(Temporary, match="slow"):
            kept.get(make)  # by the same thread: the lock is taken all the same
        return b"page"

    assert kept.get(make) == b"page"
