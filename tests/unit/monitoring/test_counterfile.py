"""counters.json, and what the event log adds to it after a kill."""

import json
import logging
import shutil

import pytest

from m365proxy.monitoring.counterfile import CounterFile
from m365proxy.monitoring.counters import Counter, Counters
from m365proxy.system import events
from m365proxy.system.events import EventLog
from m365proxy.system.restraint import Restraint

ALERTS = "alerts@contoso.com"


class Run:
    """One run of the program: counts, writes events, and saves."""

    def __init__(self, directory, event_log=True):
        self.counters = Counters()
        self.events = EventLog(str(directory / "events"), 8000) if event_log else None
        self.followers = events.Followers([self.counters.note], self.events)
        self.file = CounterFile(str(directory), self.counters)
        self.file.load([ALERTS])

    def step(self, event, **fields):
        step = events.step(event, mailbox=ALERTS, **fields)
        self.followers.handle(logging.makeLogRecord({"levelno": logging.INFO, **step}))
        return self

    def save(self, stopped=False):
        with self.followers.held() as end:
            self.file.save(self.counters.content(), end, stopped)
        return self

    def total(self, counter, label=""):
        return self.counters.totals().get((counter, label), 0)


@pytest.fixture
def run(tmp_path):
    made = []

    def begin(**more):
        made.append(Run(tmp_path, **more))
        return made[-1]

    yield begin
    for one in made:
        if one.events:
            one.events.close()


@pytest.fixture
def said(caplog):
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_orderly_restart_changes_nothing(run):
    first = run().save().step("delivered", id="1")
    first.counters.note_session("smtp")
    first.save(stopped=True)
    assert run().counters.content() == first.counters.content()


def test_after_a_kill_the_event_log_is_counted_once(run):
    run().save().step("accepted", id="1", size=5).save().step("accepted", id="2", size=5).step("deferred", reason="No.")
    for _ in range(2):  # killed again before it was saved
        later = run()
        assert (later.total(Counter.ACCEPTED), later.total(Counter.ACCEPTED_OCTETS)) == (2, 10)
        assert later.counters.mailbox(ALERTS).last_error == "No."
    later.save()
    assert run().total(Counter.ACCEPTED) == 2


def test_after_a_kill_the_time_is_that_of_the_event(run, tmp_path):
    run().save()
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "00000001.jsonl").write_text(
        '{"time": "2026-11-29T09:42:12.711Z", "event": "delivered", "mailbox": "alerts@contoso.com"}\n'
        '{"time": "yesterday", "event": "delivered", "mailbox": "alerts@contoso.com"}\n'
        '{"time": "2026-11-29T09:42:12.711Z", "event": "deliv'
    )
    assert run().counters.mailbox(ALERTS).last_delivery == 1795945332.0


def test_events_go_on_in_the_next_files(run, tmp_path):
    one = run().save()
    for number in range(30):
        one.step("accepted", id=str(number), size=1)
        if number == 10:
            one.save()
    assert len(list((tmp_path / "events").iterdir())) > 2
    assert run().total(Counter.ACCEPTED) == 30


def test_what_has_no_events_begins_at_zero_after_a_kill(run):
    one = run().save().step("delivered", id="1")
    one.counters.note_answer(202)
    one.save()
    later = run()
    assert later.total(Counter.DELIVERED) == 1 and later.total(Counter.GRAPH_REQUESTS, "202") == 0


@pytest.mark.parametrize("event", ["login failed", "TLS failed", "accepted"])
def test_after_a_kill_no_counter_goes_on_from_less_than_it_has_shown(run, event):
    """Monitoring would take the whole of it for new.  The event log has not all that a client does."""
    one = run().save()
    one.events.addFilter(Restraint(logging.getLogger("log")).allows_event)
    for number in range(40):
        one.step(event, client="192.0.2.7", service="smtp", **({"id": str(number)} if event == "accepted" else {}))
    counter, label = Counter(event), "" if event == "accepted" else "smtp"
    assert one.total(counter, label) == 40
    assert run().total(counter, label) in (0, 40)


@pytest.mark.parametrize("how", ["without", "removed", "moved on"])
def test_a_kill_whose_events_are_gone_makes_all_begin_at_zero(run, tmp_path, how):
    one = run(event_log=how != "without").save().step("delivered", id="1").save()
    one.step("delivered", id="2")
    if one.events:
        one.events.close()  # Windows moves no open file
    if how == "removed":
        shutil.rmtree(tmp_path / "events")
    elif how == "moved on":
        (tmp_path / "events" / "00000001.jsonl").rename(tmp_path / "events" / "00000002.jsonl")
    later = run()
    assert later.total(Counter.DELIVERED) == 0
    assert later.counters.mailbox(ALERTS).last_delivery > 0


def test_after_an_orderly_stop_no_events_are_needed(run):
    run(event_log=False).save().step("delivered", id="1").save(stopped=True)
    assert run().total(Counter.DELIVERED) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '{"totals": [], "latest": []}', "\ufeff", "[" * 9999])
def test_a_damaged_file_begins_at_zero_and_is_said_once(run, tmp_path, said, content):
    (tmp_path / "counters.json").write_text(content, "utf-8")
    assert run().counters.totals() == {}
    assert said() == [f"{tmp_path / 'counters.json'} is damaged, and counting begins at zero."]
    run().save()
    run()
    assert len(said()) == 2


@pytest.mark.parametrize("end", [7, [1], ["x", 0], [1, None], {"number": 1}, [float("inf"), 0]])
def test_a_damaged_position_is_none(run, tmp_path, end):
    run().save().step("delivered", id="1").save()
    stored = json.loads((tmp_path / "counters.json").read_text())
    (tmp_path / "counters.json").write_text(json.dumps({**stored, "events": end}))
    assert run().total(Counter.DELIVERED) == 0


def test_a_file_that_cannot_be_read_begins_at_zero_and_is_said(run, tmp_path, said):
    (tmp_path / "counters.json").mkdir()
    assert run().counters.totals() == {}
    assert len(said()) == 1 and "cannot be read, and counting begins at zero" in said()[0]


def test_nothing_is_written_where_nothing_has_changed(run, tmp_path):
    one = run().save()
    (tmp_path / "counters.json").unlink()
    one.save()
    assert not (tmp_path / "counters.json").exists()
    one.step("accepted", id="1").save()
    size = (tmp_path / "events" / "00000001.jsonl").stat().st_size
    assert json.loads((tmp_path / "counters.json").read_text())["events"] == [1, size]


def test_a_message_that_is_found_to_be_sent_after_a_kill_is_counted_once(run):
    """Killed between Graph's 202 and the removal of the message, twice."""
    run().save().step("delivered", id="1")
    run().save().step("delivered", id="1")
    assert run().total(Counter.DELIVERED) == 1
