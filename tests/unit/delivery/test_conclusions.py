"""What becomes of a message after an attempt, as the courier does it."""

import time

import pytest
from courier_harness import LATER, LOOK_AGAIN, NEVER, SENT, WHO_KNOWS, FakeDelivery, harnesses, wait_until, workers
from waiting import PATIENCE

from m365proxy.delivery import conclusions, reachability
from m365proxy.delivery.courier import Courier
from m365proxy.delivery.outcome import Then
from m365proxy.errors import TokenRefused
from m365proxy.graph.answer import NoAnswer, Throttled
from m365proxy.spool.spool import Claim
from m365proxy.spool.state import Place, State


@pytest.fixture(autouse=True)
def _all_lines(caplog):
    caplog.set_level("INFO")


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


def test_a_transient_refusal_is_tried_again(harness):
    answers = [LATER, LATER, SENT]
    h = harness(FakeDelivery(lambda body: answers.pop(0)), interval=0.005)
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.log) == 3


def test_a_deferred_message_is_a_warning_once_it_does_not_pass_by_itself(harness, caplog):
    """`journalctl -p warning` shows what an administrator must look at."""
    answers = [LATER, LATER, LATER, SENT]
    h = harness(FakeDelivery(lambda body: answers.pop(0)), interval=0.05)
    h.courier.start()
    h.put()
    h.settle()
    levels = [record.levelname for record in caplog.records if "deferred" in record.getMessage()]
    assert levels == ["INFO", "INFO", "WARNING"]


def test_what_an_administrator_must_change_is_a_warning_at_once(harness, caplog):
    h = harness(FakeDelivery(lambda body: LATER._replace(then=Then.ADMINISTRATOR)))
    h.courier.start()
    h.put()
    h.settle([("new", "")])
    assert [record.levelname for record in caplog.records if "deferred" in record.getMessage()] == ["WARNING"]


def test_a_deferred_message_keeps_its_history_and_its_due_time(harness):
    now = time.time()
    h = harness(FakeDelivery(lambda body: LATER), clock=lambda: now, monotonic=lambda: 1000.0)
    h.courier.start()
    id = h.put()
    wait_until(lambda: h.spool.state(id) is not None)
    h.settle([("new", "")])
    state = h.spool.state(id)
    assert state.attempts == 1 and state.error == "later"
    assert 4 < state.due - now < 6
    # a new start waits for the due time, too
    early = FakeDelivery()
    again = Courier(h.spool, h.graph, early, ["a@contoso.com"], probe=lambda: None, clock=lambda: now)
    again.recover()
    again.start()
    h.settle([("new", "")])
    assert again.status()["mailboxes"]["a@contoso.com"]["waiting"] == 1 and early.log == []
    assert again.stop(PATIENCE)


def test_an_unknown_outcome_is_looked_for_and_never_sent_again_meanwhile(harness):
    h = harness(FakeDelivery(lambda body: WHO_KNOWS))
    h.delivery.found = [LOOK_AGAIN, LOOK_AGAIN, SENT]
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.log) == 1 and len(h.delivery.looked) == 3


def test_what_was_not_sent_after_all_is_sent_again(harness):
    answers = [WHO_KNOWS, SENT]
    h = harness(FakeDelivery(lambda body: answers.pop(0)), interval=0.005)
    h.delivery.found = [LOOK_AGAIN, LATER]
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.log) == 2 and len(h.delivery.looked) == 2


def test_an_undecidable_outcome_is_held_and_never_tried_again(harness):
    h = harness(FakeDelivery(lambda body: WHO_KNOWS))
    h.courier.start()
    id = h.put()
    h.settle([("cur", "held")])
    again = Courier(
        h.spool, h.graph, FakeDelivery(lambda body: pytest.fail("sent twice")), ["a@contoso.com"], probe=lambda: None
    )
    again.recover()
    again.start()
    again.flush_all()
    assert again.stop(PATIENCE)
    assert h.places() == [("cur", "held")]
    assert h.spool.state(id).error == "nobody knows"


def test_a_sent_file_the_disk_keeps_is_not_sent_again(harness, monkeypatch):
    h = harness(FakeDelivery())
    monkeypatch.setattr(conclusions, "_REMOVE_AGAIN", 0.001)
    refusals = [OSError(30, "Read-only file system")] * 3
    real = Claim.remove_sent

    def remove_sent(claim, then):
        if refusals:
            raise refusals.pop()
        real(claim, then)

    monkeypatch.setattr(Claim, "remove_sent", remove_sent)
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.log) == 1 and not refusals


def test_a_message_too_old_is_given_up_after_ten_tries_in_step_with_graphs_clock(harness):
    h = harness(FakeDelivery(lambda body: LATER), interval=0.001, lifetime=-1.0)
    real = h.delivery.deliver

    def deliver(claim, envelope, file):
        claim.state.request_id = "r" if claim.state.attempts >= 11 else ""
        return real(claim, envelope, file)

    h.delivery.deliver = deliver
    h.courier.start()
    id = h.put()
    h.settle([("failed", "")])
    assert h.spool.state(id).attempts == 12, "the tenth was not in step with Graph"


def test_a_clock_out_of_step_gives_nothing_up(harness):
    h = harness(FakeDelivery(lambda body: LATER), interval=0.001, lifetime=-1.0)
    h.graph.skew = 301.0
    h.courier.start()
    id = h.put()
    wait_until(lambda: (h.spool.state(id) or State()).attempts > 14)
    assert h.places() != [("failed", "")]


def test_a_permanent_refusal_goes_to_failed(harness):
    h = harness(FakeDelivery(lambda body: NEVER))
    h.courier.start()
    id = h.put()
    h.settle([("failed", "")])
    assert h.spool.state(id).error == "never"
    assert h.courier.status()["mailboxes"]["a@contoso.com"]["last_error"] == "never"


def test_one_mailbox_whose_token_is_refused_changes_nothing_for_others(harness):
    refused = TokenRefused("Graph refuses a token")
    h = harness(FakeDelivery(lambda body: refused if body == b"refused" else LATER), monotonic=lambda: 1000.0)
    h.courier.start()
    h.put(b"waits", "b@contoso.com")
    wait_until(lambda: len(h.delivery.log) == 1)
    h.put(b"refused")
    wait_until(lambda: len(h.delivery.log) == 2)
    h.settle([("new", "")] * 2)
    status = h.courier.status()
    assert not status["paused"] and "refuses a token" in status["mailboxes"]["a@contoso.com"]["last_error"]
    assert h.delivery.log == [("b@contoso.com", b"waits"), ("a@contoso.com", b"refused")]


def test_graph_is_asked_less_and_less_often_what_became_of_a_message_and_not_for_ever(harness, monkeypatch):
    silence = NoAnswer("silent", False)
    monkeypatch.setattr(reachability, "FIRST", 0.001)
    monkeypatch.setattr(reachability, "LONGEST", 0.001)
    h = harness(FakeDelivery(lambda body: WHO_KNOWS), interval=0.002, lifetime=0.1)
    h.delivery.look = lambda claim, envelope: _raise(silence)
    real = h.delivery.deliver
    h.delivery.deliver = lambda claim, envelope, file: (real(claim, envelope, file), _posted(claim))[0]
    h.courier.start()
    id = h.put()
    h.settle([("cur", "held")])
    state = h.spool.state(id)
    assert state.asked >= 10 and "could not be asked" in state.error


@pytest.mark.parametrize("sent", [False, True])
def test_a_message_that_meets_a_fault_of_this_program_each_time_is_not_tried_for_ever(harness, sent):
    h = harness(FakeDelivery(lambda body: WHO_KNOWS if sent else ValueError()), interval=0.001, lifetime=0.0)
    h.delivery.look = lambda claim, envelope: _raise(ValueError())
    real = h.delivery.deliver
    h.delivery.deliver = lambda claim, envelope, file: (_posted(claim), real(claim, envelope, file))[1]
    h.courier.start()
    id = h.put()
    h.settle([("cur", "held") if sent else ("failed", "")])
    assert "unexpected" in h.spool.state(id).error


def _posted(claim):
    claim.state.posted = time.time()


def test_a_throttled_message_keeps_its_place_and_counts_no_try(harness, caplog):
    caplog.set_level("INFO")
    throttles = [Throttled("a@contoso.com", 0.05, request_id="r")]
    h = harness(FakeDelivery(lambda body: throttles.pop() if throttles else SENT), workers=1)
    ids = [h.put(body) for body in (b"first", b"second", b"third")]
    h.settle()
    delivered = [record.args[0] for record in caplog.records if "delivered for" in record.msg]
    assert delivered == ids and len(h.delivery.log) == 4 and "deferred" not in caplog.text
    assert caplog.text.count("keep their place") == 1


def test_a_long_pause_is_kept_whatever_the_administrator_does_and_delays_no_stop(harness, caplog):
    throttles = [Throttled("a@contoso.com", 7200.0, request_id="r")]
    h = harness(FakeDelivery(lambda body: throttles.pop() if throttles else SENT))
    h.courier.start()
    h.put(b"first")
    wait_until(lambda: "keep their place" in caplog.text and not workers())
    h.courier.flush_all()
    h.courier.set_mailboxes(["a@contoso.com"])
    h.put(b"second")
    h.monotonic_ahead = 7100.0
    h.courier.flush()
    assert not workers() and [body for _, body in h.delivery.log] == [b"first"]
    assert caplog.text.count("keep their place") == 1
    assert h.courier.stop(5.0)


def test_a_long_pause_ends(harness, caplog):
    throttles = [Throttled("a@contoso.com", 7200.0, request_id="r")]
    h = harness(FakeDelivery(lambda body: throttles.pop() if throttles else SENT))
    h.put(b"first")
    wait_until(lambda: "keep their place" in caplog.text and not workers())
    h.monotonic_ahead = 7261.0
    h.courier.flush()
    h.settle()


def test_a_message_that_is_only_ever_throttled_is_given_up_when_it_is_too_old(harness):
    h = harness(FakeDelivery(lambda body: Throttled("a@contoso.com", 0.001, request_id="r")), interval=0.001)
    h.courier.start()
    id = h.put()
    wait_until(lambda: len(h.delivery.log) > 12)
    assert list(h.spool.entries(Place.FAILED)) == []
    h.ahead = 120 * 3600.0
    h.settle([("failed", "")])
    assert h.spool.state(id).attempts == 10


def test_a_failure_is_reported_even_if_the_disk_fails_right_after_it(harness, monkeypatch):
    reported = []
    h = harness(FakeDelivery(lambda body: NEVER), failed=lambda: reported.append(h.places()))
    whole = Claim.fail

    def fail(self):
        whole(self)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Claim, "fail", fail)
    h.courier.start()
    h.put()
    wait_until(lambda: reported)
    assert reported == [[("failed", "")]]


def _raise(error):
    raise error


@pytest.mark.parametrize("found", ["at once", "by looking"])
def test_what_a_message_is_sent_without_is_logged_when_it_is_known_to_be_sent(harness, caplog, found):
    caplog.set_level("INFO")
    h = harness(FakeDelivery(lambda body: SENT if found == "at once" else WHO_KNOWS))
    h.delivery.found = [LOOK_AGAIN, SENT]
    real = h.delivery.deliver

    def deliver(claim, envelope, file):
        claim.state.left_out = "X-Foo"
        assert "without" not in caplog.text
        return real(claim, envelope, file)

    h.delivery.deliver = deliver
    h.courier.start()
    id = h.put()
    h.settle()
    assert [line for line in caplog.messages if "without" in line] == [f"{id} was sent without: X-Foo"]
