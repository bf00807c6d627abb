"""What is remembered of messages that Graph does not give out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from m365proxy.errors import SignInNeeded, Temporary
from m365proxy.graph.answer import GraphRefused, GraphTrouble, NoAnswer, Throttled
from m365proxy.maildrop.failures import Failures

BOX = "scanner@contoso.com"
ALL = {"bad", "good"}


def refused(status, code="ErrorInternalServerError", graph=True):
    kind = GraphRefused if 400 <= status < 500 else GraphTrouble
    return kind("no", SimpleNamespace(status=status, code=code, request_id=f"r-{status}", from_graph=graph))


class Harness:
    def __init__(self):
        self.now = 1000.0
        self.failures = Failures(lambda: self.now)

    def fails(self, error, *after, uidl="bad"):
        """The message fails in a session of its own after each of these times; the cause told last."""
        cause = None
        for seconds in after:
            self.now += seconds
            while self.failures.leave_out({uidl}):
                pass
            cause = self.failures.note(BOX, uidl, error)
        return cause

    def comes(self, mailbox=BOX):
        self.now += 1
        self.failures.forget(mailbox, "good")


@pytest.fixture
def harness():
    return Harness()


@pytest.mark.parametrize(
    "error",
    [refused(500), refused(504, ""), refused(403), refused(400), refused(405), refused(200, "")],
    ids=lambda error: str(error.answer.status),
)
def test_three_refusals_over_five_minutes_while_another_message_comes(harness, error):
    assert harness.fails(error, 0) is None
    harness.comes()
    assert harness.fails(error, 100) is None
    assert harness.fails(error, 100) is None  # too soon
    cause = harness.fails(error, 100)
    assert cause == (error.answer.status, error.answer.code, f"r-{error.answer.status}")
    assert harness.failures.given_up(ALL) == {"bad": cause}
    assert harness.failures.leave_out(ALL) == set()


def test_not_while_nothing_else_of_the_mailbox_comes(harness):
    harness.comes()
    assert harness.fails(refused(500), 1, 200, 200, 200) is None
    harness.comes("alerts@contoso.com")
    assert harness.fails(refused(500), 200) is None
    harness.comes()
    assert harness.fails(refused(500), 200) is not None


def test_it_counts_once_a_session(harness):
    harness.fails(refused(500), 0)
    harness.comes()
    for _ in range(9):
        harness.now += 100
        assert harness.failures.note(BOX, "bad", refused(500)) is None
    assert harness.fails(refused(500), 1) is None
    assert harness.fails(refused(500), 1) is not None


def test_the_cause_stays_the_first(harness):
    harness.fails(refused(500), 0)
    harness.comes()
    first = harness.fails(refused(500), 200, 200)
    assert harness.fails(refused(403), 200) is first
    assert harness.fails(NoAnswer("broke off", True), 200) is first


@pytest.mark.parametrize("error", [NoAnswer("broke off", True), refused(503, "ErrorServerBusy")])
def test_what_does_not_speak_of_the_message_is_left_out_but_never_replaced(harness, error):
    harness.fails(error, 0)
    harness.comes()
    assert harness.fails(error, *[100] * 20) is None
    assert harness.failures.leave_out(ALL) == {"bad"}


@pytest.mark.parametrize(
    "error",
    [
        NoAnswer("no way there", False),
        Throttled(BOX, 9.0),
        refused(429),
        refused(401),
        SignInNeeded("log in"),
        Temporary("the disk"),
        refused(500, graph=False),
    ],
    ids=repr,
)
def test_what_is_no_failure_of_the_message(harness, error):
    harness.fails(error, 0, 200, 200)
    assert not harness.failures.known("bad")
    assert harness.failures.leave_out(ALL) == set()


def test_it_is_left_out_of_ever_more_listings_up_to_ten(harness):
    counts = []
    for _ in range(13):
        harness.failures.note(BOX, "bad", NoAnswer("broke off", True))
        counts.append(0)
        while harness.failures.leave_out(ALL):
            counts[-1] += 1
    assert counts == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]


def test_another_folders_listing_does_not_count(harness):
    harness.fails(refused(500), 0, 0)
    assert harness.failures.leave_out({"good"}) == set()
    assert harness.failures.leave_out(ALL) == {"bad"}


def test_what_is_gone_twice_while_another_comes_is_left_out_for_a_week(harness):
    harness.fails(refused(404), 0)
    harness.comes()
    harness.fails(refused(404), 0)
    for _ in range(20):
        assert harness.failures.leave_out(ALL) == {"bad"}
    assert harness.failures.given_up(ALL) == {}
    harness.now += 8 * 86400
    assert harness.failures.leave_out(ALL) == {"bad"}  # as after any failure
    assert harness.failures.leave_out(ALL) == set()


def test_where_everything_is_gone_nothing_is_left_out_for_long(harness):
    """A mailbox that is being moved answers so for all of its messages."""
    harness.fails(refused(404), 0, 0)
    assert harness.failures.leave_out(ALL) == {"bad"}
    assert harness.failures.leave_out(ALL) == set()


def test_what_comes_is_forgotten(harness):
    harness.fails(refused(500), 0)
    harness.failures.forget(BOX, "bad")
    assert not harness.failures.known("bad")
    assert harness.failures.leave_out(ALL) == set()


def test_a_thousand_are_remembered(harness):
    for number in range(1001):
        harness.fails(refused(500), 0, uidl=str(number))
    assert not harness.failures.known("0") and harness.failures.known("1") and harness.failures.known("1000")
