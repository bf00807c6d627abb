"""What is counted, and what is remembered of mailboxes."""

import pytest
from cases import each

from m365proxy.monitoring import counters as counting
from m365proxy.monitoring.counters import Counter, Counters

ALERTS = "alerts@contoso.com"
NOW = 1_800_000_000.0
HOUR = 3600


@pytest.fixture
def counters():
    counters = Counters()
    counters.note(NOW, {"event": "accepted", "id": "1", "size": 700})
    counters.note(NOW, {"event": "delivered", "id": "1", "mailbox": ALERTS, "seconds": 1.5})
    counters.note(NOW + 1, {"event": "deferred", "id": "2", "mailbox": ALERTS, "reason": "No route.", "code": "x"})
    counters.note(NOW + 2, {"event": "failed", "id": "2", "mailbox": ALERTS, "reason": "Too large."})
    return counters


def test_a_mailbox_that_graph_wants_left_alone_is_in_trouble(counters):
    before = counters.totals()
    counters.note(NOW + 9, {"event": "throttled", "mailbox": ALERTS, "seconds": 60.0, "reason": "Wait."})
    memory = counters.mailbox(ALERTS)
    assert (memory.last_error, memory.last_error_time, memory.last_code) == ("Wait.", NOW + 9, "")
    assert counters.totals() == before


def test_steps_are_counted(counters):
    counters.note(NOW, {"event": "held", "mailbox": ALERTS})
    counters.note(NOW, {"event": "doubtful", "mailbox": ALERTS})
    counters.note(NOW, {"event": "login failed", "service": "pop3"})
    counters.note(NOW, {"event": "TLS failed", "service": "smtp", "client": "192.0.2.1"})
    counters.note(NOW, {"event": "of another program"})
    assert counters.totals() == {
        (Counter.ACCEPTED, ""): 1,
        (Counter.ACCEPTED_OCTETS, ""): 700,
        (Counter.DELIVERED, ""): 1,
        (Counter.DELIVERED_WITHIN, "2"): 1,
        (Counter.DELIVERY_SECONDS, ""): 1.5,
        (Counter.DEFERRED, ""): 1,
        (Counter.FAILED, ""): 1,
        (Counter.HELD, ""): 1,
        (Counter.LOGIN_FAILED, "pop3"): 1,
        (Counter.TLS_FAILED, "smtp"): 1,
    }


def test_what_has_no_step_is_counted_where_it_happens():
    counters = Counters()
    counters.note_session("smtp")
    counters.note_refused_connection("pop3")
    counters.note_refusal("550 5.7.60")
    counters.note_retrieved(12)
    counters.note_answer(202)
    counters.note_answer(0)
    counters.note_throttling(2.5)
    assert counters.totals() == {
        (Counter.SESSIONS, "smtp"): 1,
        (Counter.CONNECTIONS_REFUSED, "pop3"): 1,
        (Counter.REFUSED, "550 5.7.60"): 1,
        (Counter.RETRIEVED, ""): 12,
        (Counter.GRAPH_REQUESTS, "202"): 1,
        (Counter.GRAPH_REQUESTS, "none"): 1,
        (Counter.THROTTLED_SECONDS, ""): 2.5,
    }
    restrained = {Counter.LOGIN_FAILED, Counter.TLS_FAILED}  # they have steps, but not always
    assert {counter for counter, _ in counters.totals()} == counting.UNREPORTED - restrained


@each("seconds, bound", [(0, "1"), (1, "1"), (1.001, "2"), (3600, "3600"), (86400.1, "+Inf"), (None, None)])
def test_a_delivery_counts_below_its_bound(seconds, bound):
    counters = Counters()
    counters.note(NOW, {"event": "delivered", "id": "1", "mailbox": ALERTS, "seconds": seconds})
    assert [label for counter, label in counters.totals() if counter is Counter.DELIVERED_WITHIN] == (
        [bound] if bound else []
    )


def test_a_mailbox_is_remembered(counters):
    memory = counters.mailbox(ALERTS)
    assert (memory.last_delivery, memory.last_error, memory.last_error_time) == (NOW, "Too large.", NOW + 2)
    assert memory.last_code == ""
    assert memory.last_day(NOW) == (1, 1)
    assert memory.last_day(NOW + 86400) == memory.last_day(NOW - 3600) == (0, 0)


def test_a_mailbox_that_nothing_is_known_of_takes_no_memory(counters):
    counters.note(NOW, {"event": "delivered", "id": "9"})
    assert counters.mailbox("nobody@contoso.com").last_delivery == 0.0
    assert list(counters.content()["mailboxes"]) == [ALERTS]


def test_hours_in_the_future_do_not_count_and_drive_no_others_out():
    memory = counting.MailboxMemory()
    for hour in range(100):
        memory.count(NOW + (1000 + hour) * HOUR, 1, 0)  # the clock was wrong
    for hour in range(30):
        memory.count(NOW + hour * HOUR, 2, 1)
    assert memory.last_day(NOW + 29 * HOUR) == (48, 24)
    assert len(memory.hours) <= 50


def test_a_clock_that_was_in_the_past_drives_no_others_out():
    memory = counting.MailboxMemory()
    memory.count(NOW, 1, 0)
    memory.count(NOW - 10_000 * HOUR, 1, 0)  # a board without a clock, until it has asked for the time
    assert memory.last_day(NOW) == (1, 0)


BOX = {"last_delivery": 0, "last_error": "", "last_error_time": 0, "last_code": "", "hours": []}


def test_content_is_restored(counters):
    later = Counters()
    later.restore(counters.content())
    assert later.totals() == counters.totals()
    assert later.content() == counters.content()
    assert later.mailbox(ALERTS).last_day(NOW) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"totals": 7},
        {"totals": [["delivered", "", "x"]]},
        {"totals": [["of another version", "", 1]]},
        {"totals": [["delivered", "", -1]]},
        {"totals": [["delivered", "", float("nan")]]},
        {"latest": 7},
        {"mailboxes": []},
        {"mailboxes": {ALERTS: {}}},
        {"mailboxes": {ALERTS: {**BOX, "hours": [[float("inf"), 1, 1]]}}},
        {"mailboxes": {ALERTS: {**BOX, "last_delivery": float("inf")}}},
        {"mailboxes": {ALERTS: {**BOX, "last_error_time": float("nan")}}},
    ],
)
def test_damaged_content_changes_nothing(counters, change):
    before = counters.content()
    with pytest.raises(counting.DAMAGED):
        counters.restore({**before, **change})
    assert counters.content() == before


def test_what_an_earlier_run_delivered_is_not_counted_again(counters):
    """It was killed between Graph's 202 and the removal of the message: then it looks, and finds that it is sent."""
    counters.begin([ALERTS])
    counters.note(NOW + 9, {"event": "delivered", "id": "1", "mailbox": ALERTS, "seconds": 9})
    counters.note(NOW + 9, {"event": "delivered", "id": "3", "mailbox": ALERTS, "seconds": 9})
    assert counters.totals()[Counter.DELIVERED, ""] == 2
    assert counters.mailbox(ALERTS).last_day(NOW + 9) == (2, 1)


def test_only_mailboxes_of_the_config_stay(counters):
    counters.begin(["scans@contoso.com"])
    assert counters.content()["mailboxes"] == {}


def test_deliveries_that_are_remembered_are_bounded(counters):
    for number in range(1000):
        counters.note(NOW, {"event": "delivered", "id": str(number), "mailbox": ALERTS})
    assert len(counters.content()["latest"]) == 64
