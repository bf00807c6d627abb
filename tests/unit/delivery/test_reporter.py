"""Who gets delivery reports and when: each failure is reported, and once only."""

import os
import threading

import pytest
from test_dsn import NOW, ORIGINAL, parsed

from m365proxy.delivery import reporter as reporter_module
from m365proxy.delivery.reporter import Reporter
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import Phase, Place
from m365proxy.system import files

A, B, C, ADMIN = "alerts@contoso.com", "scans@contoso.com", "paper@contoso.com", "admin@contoso.com"


class House:
    def __init__(self, path, mailboxes=(A, B), notify=None, **more):
        self.now = 0.0
        self.accepted = []
        self.spool = Spool(str(path / "queue"))
        self.spool.make()
        self.reporter = Reporter(
            self.spool,
            self.accepted.append,
            mailboxes,
            notify=notify,
            host="gw",
            monotonic=lambda: self.now,
            clock=lambda: NOW,
            **more,
        )

    def fail(self, mailbox=A, status="5.1.3", content=ORIGINAL, **more):
        incoming = self.spool.put(Envelope(mailbox, mailbox, ("x@example.org",), **more))
        incoming.write(content)
        return self.give_up(incoming.commit(), status)

    def give_up(self, id, status="5.1.3"):
        claim = self.spool.claim(id)
        claim.state.status, claim.state.error = status, f"why {id}"
        claim.fail()
        return id

    def reports(self):
        """(by, to, content) of every report in the queue, oldest first."""
        found = []
        for id in self.accepted:
            envelope, file = self.spool.open(self.spool.find(id))
            with file:
                assert (envelope.kind, envelope.sender) == ("report", "")
                found.append((envelope.mailbox, envelope.recipients, file.read()))
        return found

    def reported(self):
        return {entry.id for entry in self.spool.entries(Place.FAILED) if entry.phase is Phase.REPORTED}


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_the_sender_gets_one_report(house, tmp_path):
    id = house.fail()
    assert house.reporter.work() == 0.0
    [(by, to, content)] = house.reports()
    assert (by, to) == (A, (A,)) and id.encode() in content and b"why" in content
    assert house.reported() == {id}
    house.now += 10_000
    house.reporter.work()
    again = House(tmp_path)
    again.reporter.work()
    assert len(house.accepted) == 1 and again.accepted == []


def test_at_most_one_report_a_mailbox_in_fifteen_minutes_and_then_all_since(house):
    house.fail()
    house.reporter.work()
    later = [house.fail() for _ in range(3)]
    other = house.fail(B)
    house.now = 100.0
    assert house.reporter.work() == 800.0
    assert [by for by, _, _ in house.reports()] == [A, B] and house.reported() >= {other}
    house.now = 899.0
    assert house.reporter.work() == 1.0 and len(house.accepted) == 2
    house.now = 900.0
    assert house.reporter.work() == 0.0
    assert all(id.encode() in house.reports()[2][2] for id in later)


def test_what_an_earlier_run_did_not_report_is_reported(house, tmp_path):
    id = house.fail()
    again = House(tmp_path)
    again.reporter.work()
    assert id.encode() in again.reports()[0][2]


def test_very_many_failures_take_several_reports_and_none_is_left_out(house, monkeypatch):
    monkeypatch.setattr(reporter_module, "_LISTED", 30)
    ids = {house.fail(content=b"Subject: x\r\n\r\n") for _ in range(70)}
    while house.reporter.work():
        house.now += 900.0
    assert house.reported() == ids and len(house.accepted) == 3
    texts = [content for _, _, content in house.reports()]
    assert all(sum(id.encode() in text for text in texts) == 1 for id in ids)


def test_recipients_with_notify_never_are_not_reported(house):
    id = house.fail(silent=("x@example.org",))
    house.reporter.work()
    assert house.accepted == [] and house.reported() == {id}


@pytest.mark.parametrize(
    "ret,status,comes_back",
    [("FULL", "5.1.3", True), ("HDRS", "5.1.3", False), ("", "5.1.3", False), ("FULL", "5.6.0", False)],
)
def test_ret_is_obeyed(house, ret, status, comes_back):
    house.fail(ret=ret, status=status, content=b"Subject: x\r\n\r\nthe body\r\n")
    house.reporter.work()
    assert (b"the body" in house.reports()[0][2]) == comes_back


@pytest.mark.parametrize(
    "content",
    [b"Subject: x\r\n\r\n\xff", b"Subject: x\n\nlf", b"x" * 300_000, b"Subject: x\r\n\r\n" + b"y" * 2000],
)
def test_ret_full_never_brings_back_what_could_change_on_the_way(house, content):
    house.fail(ret="FULL", content=content)
    house.reporter.work()
    assert b"message/rfc822" not in house.reports()[0][2]


@pytest.mark.parametrize(
    "mailboxes,notify,status,by,to",
    [
        ((A, B), None, "5.1.3", A, (A,)),
        ((A, B), ADMIN, "5.1.3", A, (A,)),
        ((B,), ADMIN, "5.1.3", B, (ADMIN,)),  # the mailbox is not in the config any more
        ((A, B), None, "4.4.1", B, (A,)),  # expired: the mailbox does not work
        ((A, B), ADMIN, "4.7.0", B, (A, ADMIN)),
        ((A,), None, "4.4.1", A, (A,)),
    ],
)
def test_who_gets_the_report_and_through_which_mailbox(tmp_path, mailboxes, notify, status, by, to):
    house = House(tmp_path, mailboxes, notify)
    house.fail(A, status)
    house.reporter.work()
    assert [report[:2] for report in house.reports()] == [(by, to)]


def test_failures_without_a_recipient_are_logged_once_and_reported_once_there_is_one(tmp_path, caplog, wait_until):
    house = House(tmp_path, (B,), gather=0.01)
    id = house.fail(A)
    for _ in range(3):
        house.reporter.work()
        house.now += 1000
    assert house.accepted == [] and house.reported() == set()
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1 and "notify" in caplog.text
    house.reporter.configure((B,), ADMIN)  # by itself, without another failure
    wait_until(lambda: house.reported() == {id})
    house.reporter.stop()
    assert house.reports()[0][1] == (ADMIN,) and house.reported() == {id}


def test_a_report_that_fails_is_sent_once_more_by_another_mailbox_as_plain_text_and_never_reported_on(house, caplog):
    first = house.fail()
    house.reporter.work()
    house.now += 1000
    house.give_up(house.accepted[0])
    house.reporter.work()
    by, to, content = house.reports()[1]
    assert (by, to) == (B, (A,))
    found = parsed(content)
    assert found.get_content_type() == "text/plain" and first in found.get_content()
    house.now += 1000
    house.give_up(house.accepted[1])
    house.reporter.work()
    assert len(house.accepted) == 2 and house.reported() == {first, *house.accepted}
    assert f"report {house.accepted[1]} could not be delivered" in caplog.text


def test_a_damaged_message_is_reported_to_the_mailbox_its_id_names(house):
    id = house.fail()
    with open(house.spool.path(house.spool.find(id)), "wb") as file:
        file.write(b"garbage")
    house.reporter.work()
    assert [report[:2] for report in house.reports()] == [(A, (A,))] and house.reported() == {id}


def test_one_file_the_disk_cannot_read_stops_no_report(house, monkeypatch):
    ids = [house.fail() for _ in range(3)]
    real = house.spool.open

    def broken(entry):
        if entry.id == ids[1]:
            raise OSError(5, "Input/output error")
        return real(entry)

    with monkeypatch.context() as patch:
        patch.setattr(house.spool, "open", broken)
        house.reporter.work()
    assert house.reported() == set(ids) and all(id.encode() in house.reports()[0][2] for id in ids)


def test_a_disk_that_refuses_the_report_loses_nothing(house, monkeypatch):
    id = house.fail()

    def full(path, mode=0o600):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "create", full)
        assert house.reporter.work() == 900.0
    assert house.reported() == set() and house.accepted == []
    house.now += 900
    house.reporter.work()
    assert house.reported() == {id} and len(house.accepted) == 1


def test_a_message_taken_by_an_administrator_meanwhile_stays_taken(house, monkeypatch):
    id = house.fail()
    real = house.spool.put

    def put(*arguments):
        house.spool.requeue(house.spool.find(id))
        return real(*arguments)

    monkeypatch.setattr(house.spool, "put", put)
    house.reporter.work()
    assert house.spool.find(id).place == "new" and len(house.accepted) == 1


def test_what_fails_again_after_a_retry_is_reported_again(house):
    id = house.fail()
    house.reporter.work()
    house.spool.requeue(house.spool.find(id))
    house.give_up(id)
    house.now += 900
    house.reporter.work()
    assert len(house.accepted) == 2


def test_it_works_by_itself_in_the_background(tmp_path, wait_until):
    house = House(tmp_path)
    house.reporter = Reporter(house.spool, house.accepted.append, (A,), interval=0.05, gather=0.01)
    old = house.fail()
    house.reporter.start()
    wait_until(lambda: house.reported() == {old})
    for _ in range(5):
        house.fail()
        house.reporter.report_soon()
    wait_until(lambda: len(house.reported()) == 6)
    house.reporter.stop()
    wait_until(lambda: not any(thread.name == "report-timer" for thread in threading.enumerate()))
    count = len(house.accepted)
    house.fail()
    house.reporter.report_soon()
    house.reporter.start()
    assert not any(thread.name == "report-timer" and thread.is_alive() for thread in threading.enumerate())
    assert len(house.accepted) == count <= 6


def test_a_report_is_durable_before_its_message_counts_as_reported(house, monkeypatch):
    house.fail()
    steps = []
    real = house.spool.mark_reported
    monkeypatch.setattr(
        house.spool, "mark_reported", lambda entries: (steps.append(list(house.accepted)), real(entries))
    )
    house.reporter.work()
    assert steps == [house.accepted] and len(house.accepted) == 1
    assert os.listdir(os.path.join(house.spool.directory, "tmp")) == []


def test_the_mailbox_that_sent_last_sends_the_report_of_one_that_cannot(tmp_path):
    house = House(tmp_path, (A, B, C), last_delivery={B: 1.0, C: 2.0}.get)
    house.fail(A, status="4.4.7")
    house.reporter.work()
    report = next(entry for entry in house.spool.entries(Place.NEW))
    envelope, file = house.spool.open(report)
    file.close()
    assert envelope.mailbox == C
