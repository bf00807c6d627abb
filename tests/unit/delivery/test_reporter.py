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


class Harness:
    def __init__(self, path, mailboxes=(A, B), notify=None, **more):
        self.now, self.clock_now = 0.0, NOW
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
            clock=lambda: self.clock_now,
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
def harness(tmp_path):
    return Harness(tmp_path)


def test_the_sender_gets_one_report(harness, tmp_path):
    id = harness.fail()
    assert harness.reporter.work() == 0.0
    [(by, to, content)] = harness.reports()
    assert (by, to) == (A, (A,)) and id.encode() in content and b"why" in content
    assert harness.reported() == {id}
    harness.now += 10_000
    harness.reporter.work()
    again = Harness(tmp_path)
    again.reporter.work()
    assert len(harness.accepted) == 1 and again.accepted == []


def test_at_most_one_report_a_mailbox_in_fifteen_minutes_and_then_all_since(harness):
    harness.fail()
    harness.reporter.work()
    later = [harness.fail() for _ in range(3)]
    other = harness.fail(B)
    harness.now = 100.0
    assert harness.reporter.work() == 800.0
    assert [by for by, _, _ in harness.reports()] == [A, B] and harness.reported() >= {other}
    harness.now = 899.0
    assert harness.reporter.work() == 1.0 and len(harness.accepted) == 2
    harness.now = 900.0
    assert harness.reporter.work() == 0.0
    assert all(id.encode() in harness.reports()[2][2] for id in later)


def test_a_warning_of_ours_is_not_reported_and_not_kept(harness):
    id = harness.fail(kind="warning")
    [entry] = harness.spool.entries(Place.FAILED)
    envelope, file = harness.spool.open(entry)
    file.close()
    for seconds, left in ((1.0, 1), (900.0, 0)):
        harness.clock_now = envelope.accepted + seconds
        harness.now += 900.0
        assert bool(harness.reporter.work()) == bool(left)  # somebody may still wait for it
        assert len(list(harness.spool.entries())) == left
    assert harness.accepted == [] and harness.spool.find(id) is None


def test_what_an_earlier_run_did_not_report_is_reported(harness, tmp_path):
    id = harness.fail()
    again = Harness(tmp_path)
    again.reporter.work()
    assert id.encode() in again.reports()[0][2]


def test_very_many_failures_take_several_reports_and_none_is_left_out(harness, monkeypatch):
    monkeypatch.setattr(reporter_module, "_LISTED", 30)
    ids = {harness.fail(content=b"Subject: x\r\n\r\n") for _ in range(70)}
    while harness.reporter.work():
        harness.now += 900.0
    assert harness.reported() == ids and len(harness.accepted) == 3
    texts = [content for _, _, content in harness.reports()]
    assert all(sum(id.encode() in text for text in texts) == 1 for id in ids)


def test_recipients_with_notify_never_are_not_reported(harness):
    id = harness.fail(silent=("x@example.org",))
    harness.reporter.work()
    assert harness.accepted == [] and harness.reported() == {id}


@pytest.mark.parametrize(
    "ret,status,comes_back",
    [("FULL", "5.1.3", True), ("HDRS", "5.1.3", False), ("", "5.1.3", False), ("FULL", "5.6.0", False)],
)
def test_ret_is_obeyed(harness, ret, status, comes_back):
    harness.fail(ret=ret, status=status, content=b"Subject: x\r\n\r\nthe body\r\n")
    harness.reporter.work()
    assert (b"the body" in harness.reports()[0][2]) == comes_back


@pytest.mark.parametrize(
    "content",
    [b"Subject: x\r\n\r\n\xff", b"Subject: x\n\nlf", b"x" * 300_000, b"Subject: x\r\n\r\n" + b"y" * 2000],
)
def test_ret_full_never_brings_back_what_could_change_on_the_way(harness, content):
    harness.fail(ret="FULL", content=content)
    harness.reporter.work()
    assert b"message/rfc822" not in harness.reports()[0][2]


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
    harness = Harness(tmp_path, mailboxes, notify)
    harness.fail(A, status)
    harness.reporter.work()
    assert [report[:2] for report in harness.reports()] == [(by, to)]


def test_failures_without_a_recipient_are_logged_once_and_reported_once_there_is_one(tmp_path, caplog, wait_until):
    harness = Harness(tmp_path, (B,), gather=0.01)
    id = harness.fail(A)
    for _ in range(3):
        harness.reporter.work()
        harness.now += 1000
    assert harness.accepted == [] and harness.reported() == set()
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1 and "notify" in caplog.text
    harness.reporter.configure((B,), ADMIN)  # by itself, without another failure
    wait_until(lambda: harness.reported() == {id})
    harness.reporter.stop()
    assert harness.reports()[0][1] == (ADMIN,) and harness.reported() == {id}


def test_a_report_that_fails_is_sent_once_more_by_another_mailbox_as_plain_text_and_never_reported_on(harness, caplog):
    first = harness.fail()
    harness.reporter.work()
    harness.now += 1000
    harness.give_up(harness.accepted[0])
    harness.reporter.work()
    by, to, content = harness.reports()[1]
    assert (by, to) == (B, (A,))
    found = parsed(content)
    assert found.get_content_type() == "text/plain" and first in found.get_content()
    harness.now += 1000
    harness.give_up(harness.accepted[1])
    harness.reporter.work()
    assert len(harness.accepted) == 2 and harness.reported() == {first, *harness.accepted}
    assert f"report {harness.accepted[1]} could not be delivered" in caplog.text


def test_a_damaged_message_is_reported_to_the_mailbox_its_id_names(harness):
    id = harness.fail()
    with open(harness.spool.path(harness.spool.find(id)), "wb") as file:
        file.write(b"garbage")
    harness.reporter.work()
    assert [report[:2] for report in harness.reports()] == [(A, (A,))] and harness.reported() == {id}


def test_one_file_the_disk_cannot_read_stops_no_report(harness, monkeypatch):
    ids = [harness.fail() for _ in range(3)]
    real = harness.spool.open

    def broken(entry):
        if entry.id == ids[1]:
            raise OSError(5, "Input/output error")
        return real(entry)

    with monkeypatch.context() as patch:
        patch.setattr(harness.spool, "open", broken)
        harness.reporter.work()
    assert harness.reported() == set(ids) and all(id.encode() in harness.reports()[0][2] for id in ids)


def test_a_disk_that_refuses_the_report_loses_nothing(harness, monkeypatch):
    id = harness.fail()

    def full(path, mode=0o600):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "create", full)
        assert harness.reporter.work() == 900.0
    assert harness.reported() == set() and harness.accepted == []
    harness.now += 900
    harness.reporter.work()
    assert harness.reported() == {id} and len(harness.accepted) == 1


def test_a_message_taken_by_an_administrator_meanwhile_stays_taken(harness, monkeypatch):
    id = harness.fail()
    real = harness.spool.put

    def put(*arguments):
        harness.spool.requeue(harness.spool.find(id))
        return real(*arguments)

    monkeypatch.setattr(harness.spool, "put", put)
    harness.reporter.work()
    assert harness.spool.find(id).place == "new" and len(harness.accepted) == 1


def test_what_fails_again_after_a_retry_is_reported_again(harness):
    id = harness.fail()
    harness.reporter.work()
    harness.spool.requeue(harness.spool.find(id))
    harness.give_up(id)
    harness.now += 900
    harness.reporter.work()
    assert len(harness.accepted) == 2


def test_it_works_by_itself_in_the_background(tmp_path, wait_until):
    harness = Harness(tmp_path)
    harness.reporter = Reporter(harness.spool, harness.accepted.append, (A,), interval=0.05, gather=0.01)
    old = harness.fail()
    harness.reporter.start()
    wait_until(lambda: harness.reported() == {old})
    for _ in range(5):
        harness.fail()
        harness.reporter.report_soon()
    wait_until(lambda: len(harness.reported()) == 6)
    harness.reporter.stop()
    wait_until(lambda: not any(thread.name == "report-timer" for thread in threading.enumerate()))
    count = len(harness.accepted)
    harness.fail()
    harness.reporter.report_soon()
    harness.reporter.start()
    assert not any(thread.name == "report-timer" and thread.is_alive() for thread in threading.enumerate())
    assert len(harness.accepted) == count <= 6


def test_a_report_is_durable_before_its_message_counts_as_reported(harness, monkeypatch):
    harness.fail()
    steps = []
    real = harness.spool.mark_reported
    monkeypatch.setattr(
        harness.spool, "mark_reported", lambda entries: (steps.append(list(harness.accepted)), real(entries))
    )
    harness.reporter.work()
    assert steps == [harness.accepted] and len(harness.accepted) == 1
    assert os.listdir(os.path.join(harness.spool.directory, "tmp")) == []


def test_the_mailbox_that_sent_last_sends_the_report_of_one_that_cannot(tmp_path):
    harness = Harness(tmp_path, (A, B, C), last_delivery={B: 1.0, C: 2.0}.get)
    harness.fail(A, status="4.4.7")
    harness.reporter.work()
    report = next(entry for entry in harness.spool.entries(Place.NEW))
    envelope, file = harness.spool.open(report)
    file.close()
    assert envelope.mailbox == C
