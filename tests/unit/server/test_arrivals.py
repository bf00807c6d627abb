"""How long a client waits for its greeting whose connections bring nothing.  The clock moves by hand."""

import pytest

from m365proxy.server.arrivals import Arrivals


class Harness:
    def __init__(self):
        self.now = 1000.0
        self.arrivals = Arrivals(lambda: self.now)

    def come(self, times, client="192.0.2.7", every=0.0):
        for _ in range(times):
            self.now += every
            self.arrivals.note_idle(client)


@pytest.fixture
def harness():
    return Harness()


@pytest.mark.parametrize("times, pause", [(0, 0.0), (60, 0.0), (61, 0.05), (70, 0.5), (100, 2.0), (10_000, 2.0)])
def test_sixty_are_free_and_then_the_pause_grows(harness, times, pause):
    harness.come(times)
    assert harness.arrivals.pause("192.0.2.7") == pytest.approx(pause)
    assert harness.arrivals.pause("192.0.2.8") == 0.0


def test_one_is_forgiven_each_second(harness):
    harness.come(70)
    harness.now += 10
    assert harness.arrivals.pause("192.0.2.7") == 0.0
    harness.come(1)
    assert harness.arrivals.pause("192.0.2.7") > 0.0


def test_a_monitor_that_looks_every_second_is_never_slowed(harness):
    harness.come(10_000, every=1.0)
    assert harness.arrivals.pause("192.0.2.7") == 0.0


def test_ten_thousand_clients_are_remembered(harness):
    harness.come(100)
    harness.come(10_000 - 1, "")
    for number in range(9_999):
        harness.come(1, str(number))
    assert harness.arrivals.pause("192.0.2.7") == 0.0
    assert harness.arrivals.pause("") > 0.0
