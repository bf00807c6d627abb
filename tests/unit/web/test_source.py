"""Reports: one a second, however many ask."""

import threading

import pytest
from web_harness import StandInMonitor

from m365proxy.errors import Temporary
from m365proxy.web import source as module
from m365proxy.web.source import Source


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
