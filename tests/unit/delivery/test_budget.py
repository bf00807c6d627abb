"""How long uploads to a mailbox wait for their turn.  The clock goes on only when somebody sleeps."""

import pytest
from cases import each

from m365proxy.delivery.budget import MOST, WINDOW, UploadBudget

BOX = "scanner@contoso.com"
HALF = MOST // 2


class Stopping(Exception):
    """The program stops."""


class Harness:
    def __init__(self, now=1000.0):
        self.now = now
        self.stopping = False
        self.budget = UploadBudget(monotonic=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds):
        if self.stopping:
            raise Stopping
        self.now += seconds

    def spend(self, octets, mailbox=BOX):
        """The seconds it waited."""
        began = self.now
        self.budget.spend(mailbox, octets)
        return self.now - began


@each(
    "steps",  # seconds after the step before, octets, seconds it waits
    [
        [(0, HALF, 0), (100, HALF, 0)],
        [(0, HALF, 0), (100, HALF, 0), (0, 1, WINDOW - 100)],
        [(0, HALF, 0), (100, HALF, 0), (0, MOST, WINDOW)],
        [(0, MOST, 0), (WINDOW - 1, 1, 1)],
        [(0, MOST, 0), (WINDOW, MOST, 0)],
    ],
    ids=["all fits", "the oldest has to leave", "all have to leave", "not yet", "a new window"],
)
def test_what_does_not_fit_waits_until_older_uploads_have_left_the_window(steps):
    harness = Harness()
    for seconds, octets, waits in steps:
        harness.now += seconds
        assert harness.spend(octets) == waits


def test_more_than_all_there_is_goes_alone():
    harness = Harness()
    assert [harness.spend(octets) for octets in (1, 2 * MOST, 1)] == [0, WINDOW, WINDOW]


def test_each_mailbox_has_its_own_budget_in_whatever_case_it_is_written():
    harness = Harness()
    assert [harness.spend(MOST, mailbox) for mailbox in (BOX, "alerts@contoso.com", BOX.upper())] == [0, 0, WINDOW]


def test_a_wait_that_is_ended_counts_nothing():
    harness = Harness()
    harness.spend(HALF)
    harness.stopping = True
    with pytest.raises(Stopping):
        harness.spend(MOST)
    assert harness.spend(HALF) == 0


def test_a_window_that_ends_within_the_clocks_rounding_lets_nothing_through_uncounted():
    harness = Harness(now=1e-20)  # 1e-20 + WINDOW is WINDOW, though it is later
    harness.spend(MOST)
    harness.now = WINDOW
    assert 0 < harness.spend(MOST) < 1
    assert harness.spend(MOST) == pytest.approx(WINDOW)


def test_a_share_of_the_budget():
    h = Harness()
    h.budget = UploadBudget(most=HALF, monotonic=lambda: h.now, sleep=h._sleep)
    assert [h.spend(HALF), h.spend(1)] == [0, WINDOW]


class Octets(int):
    """Counts how often it is added to something."""

    added = 0

    def __add__(self, other):
        Octets.added += 1
        return int(self) + other

    __radd__ = __add__


def test_an_upload_costs_the_same_however_many_there_were():
    harness = Harness()
    for _ in range(100):
        harness.spend(Octets(1))
    assert Octets.added <= 200
