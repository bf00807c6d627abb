"""Delivery reports: what they say, whom they reach, and that nobody is told twice or never."""

import dataclasses
import email
import email.policy
import io
import os
import threading

import pytest

from m365proxy.delivery import report
from m365proxy.delivery.report import Failure, Reporter, build
from m365proxy.mime import header, prepare
from m365proxy.spool.spool import Envelope, Spool, State
from m365proxy.system import files

A, B, ADMIN = "alerts@contoso.com", "scans@contoso.com", "admin@contoso.com"
NOW = 1_800_000_000.0
ENVELOPE = Envelope(A, A, ("x@example.org", "y@example.org"), "192.0.2.7", "ups", accepted=NOW - 3600)
REFUSED = State(
    attempts=2,
    last_attempt=NOW - 60,
    error="Exchange refused the recipients. Check the addresses.",
    status="5.1.3",
    code="ErrorInvalidRecipients",
    request_id="11111111-2222",
)
ORIGINAL = b"From: x\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\nX-Raw: caf\xe9\r\n\r\nsecret body\r\n"


def failure(envelope=ENVELOPE, state=REFUSED, content=ORIGINAL, id="20270115T080000-aabbccddeeff-00000000", **more):
    return Failure(id, envelope, state, header.read(io.BytesIO(content)).fields, **more)


def built(*failures, **more):
    settings = {"mailbox": A, "author": A, "to": [A], "host": "gw.contoso.com", "now": NOW, **more}
    return build(failures, **settings)


def parsed(content):
    found = email.message_from_bytes(content, policy=email.policy.default)
    assert not any(part.defects for part in found.walk())
    assert content.isascii() and all(len(line) < 999 and b"\n" not in line for line in content.split(b"\r\n"))
    return found


def groups(report):
    """The groups of the delivery-status part as dicts."""
    return [dict(part.items()) for part in list(report.iter_parts())[1].get_payload()]


def test_a_report_on_one_message():
    found = parsed(built(failure()))
    assert found.get_content_type() == "multipart/report" and found.get_param("report-type") == "delivery-status"
    assert (found["From"].addresses[0].addr_spec, found["To"], found["Auto-Submitted"]) == (A, A, "auto-replied")
    assert found["Subject"] == f"Not delivered: 1 message from {A}"
    text, status, original = found.iter_parts()
    said = " ".join(text.get_content().split())
    for wanted in (
        "Grüße",
        "x@example.org, y@example.org",
        "192.0.2.7 ups",
        REFUSED.error,
        REFUSED.code,
        REFUSED.request_id,
        "queue retry",
        "2027-01-15 07:00:00 UTC",
        "gw.contoso.com",
    ):
        assert wanted in said, wanted
    assert status.get_content_type() == "message/delivery-status"
    first, *recipients = groups(found)
    assert first == {"Reporting-MTA": "dns; gw.contoso.com", "Arrival-Date": "Fri, 15 Jan 2027 07:00:00 +0000"}
    assert [group["Final-Recipient"] for group in recipients] == ["rfc822; x@example.org", "rfc822; y@example.org"]
    for group in recipients:
        assert (group["Action"], group["Status"]) == ("failed", "5.1.3")
        said = group["Diagnostic-Code"]
        assert said.startswith("X-Microsoft-Graph; ErrorInvalidRecipients; request-id 11111111-2222;")
        assert group["Last-Attempt-Date"] == "Fri, 15 Jan 2027 07:59:00 +0000"
    assert original.get_content_type() == "text/rfc822-headers"
    back = email.message_from_string(original.get_content(), policy=email.policy.default)
    assert (back["Subject"], back["X-Raw"]) == ("Grüße", "café")
    assert b"secret body" not in built(failure())


def test_envid_and_orcpt_come_back_decoded():
    envelope = dataclasses.replace(ENVELOPE, envid="QQ+3D1", orcpt=("X@example.org rfc822;first+2Blast@example.com",))
    first, one, other = groups(parsed(built(failure(envelope))))
    assert first["Original-Envelope-Id"] == "QQ=1"
    assert one["Original-Recipient"] == "rfc822; first+last@example.com" and "Original-Recipient" not in other


def test_recipients_of_whom_nobody_wants_to_hear_are_left_out():
    envelope = dataclasses.replace(ENVELOPE, silent=("X@example.org",))
    _, *told = groups(parsed(built(failure(envelope))))
    assert [group["Final-Recipient"] for group in told] == ["rfc822; y@example.org"]
    assert b"x@example.org" not in built(failure(envelope))


@pytest.mark.parametrize("status", ["", "nonsense", "5.1", "5.1.3\r\nX: y"])
def test_a_missing_status_is_a_permanent_one(status):
    assert groups(parsed(built(failure(state=dataclasses.replace(REFUSED, status=status)))))[1]["Status"] == "5.0.0"


@pytest.mark.parametrize("accepted", [0.0, 1000.0])
def test_no_date_is_made_up_where_the_clock_was_wrong(accepted):
    envelope = dataclasses.replace(ENVELOPE, accepted=accepted)
    content = built(failure(envelope, dataclasses.replace(REFUSED, last_attempt=accepted)))
    assert b"Arrival-Date" not in content and b"Last-Attempt-Date" not in content and b"1970" not in content


def test_hostile_text_stays_in_its_place():
    nasty = "a\r\nBcc: evil@example.org\r\n\r\n--x \u202e\ud800 é"
    state = dataclasses.replace(REFUSED, error=nasty, code="C\r\nX-Evil: 1", request_id="r\n\n--")
    content = built(failure(state=state, content=b"Subject: a\r\r\nBcc: z\r\n\r\n"), host="h\r\nX-Evil: 1")
    found = parsed(content)
    assert found["Bcc"] is None and b"\r\nX-Evil" not in content
    assert len(list(found.iter_parts())) == 3 and len(groups(found)) == 3


def test_a_long_header_is_cut_between_fields():
    content = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(100)) + b"\r\n"
    part = list(parsed(built(failure(content=content))).iter_parts())[2]
    back = email.message_from_string(part.get_content())
    assert 20 < len(back.items()) < 33 and all(value == "y" * 500 for value in back.values())


def test_the_whole_message_comes_back_where_it_was_asked_for():
    whole = b"Subject: x\r\n\r\nthe body\r\n"
    part = list(parsed(built(failure(full=whole))).iter_parts())[2]
    assert part.get_content_type() == "message/rfc822" and part.get_content().get_content().strip() == "the body"


def test_several_messages_in_one_report():
    many = [failure(id=f"id{number}") for number in range(30)]
    found = parsed(built(*many))
    assert found["Subject"] == f"Not delivered: 30 messages from {A}"
    text, status, originals = found.iter_parts()
    said = text.get_content()
    assert said.count("Queue ID: ") == 20 and all(f"id{number}" in said for number in range(30))
    assert len(groups(found)) == 1 + 20 * 2 and "Arrival-Date" not in groups(found)[0]
    assert originals.get_content_type() == "multipart/mixed" and len(list(originals.iter_parts())) == 20


def test_a_message_that_cannot_be_read_is_reported_too():
    content = built(Failure("id1", None, State(error="The spooled file has no readable envelope.")))
    assert groups(parsed(content))[1]["Final-Recipient"] == "rfc822; unknown"
    assert b"no readable envelope" in content


def test_a_report_passes_our_own_repairs():
    prepared = prepare.prepare(
        io.BytesIO(built(failure())), recipients=[A], sender=A, message_id="<1@contoso.com>", date=NOW
    )
    found = parsed(b"".join(prepared.chunks()))
    assert found.get_content_type() == "multipart/report" and len(groups(found)) == 3
    assert found["Message-ID"] == "<1@contoso.com>" and found["Auto-Submitted"] == "auto-replied"


class House:
    def __init__(self, path, mailboxes=(A, B), notify=None):
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

    def told(self):
        return {entry.id for entry in self.spool.entries("failed") if entry.phase}


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_the_sender_is_told_once(house, tmp_path):
    id = house.fail()
    assert house.reporter.work() == 0.0
    [(by, to, content)] = house.reports()
    assert (by, to) == (A, (A,)) and id.encode() in content and b"why" in content
    assert house.told() == {id}
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
    assert [by for by, _, _ in house.reports()] == [A, B] and house.told() >= {other}
    house.now = 899.0
    assert house.reporter.work() == 1.0 and len(house.accepted) == 2
    house.now = 900.0
    assert house.reporter.work() == 0.0
    assert all(id.encode() in house.reports()[2][2] for id in later)


def test_what_an_earlier_run_told_nobody_of_is_told(house, tmp_path):
    id = house.fail()
    again = House(tmp_path)
    again.reporter.work()
    assert id.encode() in again.reports()[0][2]


def test_very_many_failures_take_several_reports_and_none_is_left_out(house, monkeypatch):
    monkeypatch.setattr(report, "_LISTED", 30)
    ids = {house.fail(content=b"Subject: x\r\n\r\n") for _ in range(70)}
    while house.reporter.work():
        house.now += 900.0
    assert house.told() == ids and len(house.accepted) == 3
    texts = [content for _, _, content in house.reports()]
    assert all(sum(id.encode() in text for text in texts) == 1 for id in ids)


def test_nobody_is_told_of_whom_he_never_wanted_to_hear(house):
    id = house.fail(silent=("x@example.org",))
    house.reporter.work()
    assert house.accepted == [] and house.told() == {id}


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
def test_who_tells_whom(tmp_path, mailboxes, notify, status, by, to):
    house = House(tmp_path, mailboxes, notify)
    house.fail(A, status)
    house.reporter.work()
    assert [told[:2] for told in house.reports()] == [(by, to)]


def test_with_nobody_to_tell_it_is_logged_once_and_told_when_there_is_somebody(
    tmp_path, caplog, monkeypatch, wait_until
):
    monkeypatch.setattr(report, "_GATHER", 0.01)
    house = House(tmp_path, (B,))
    id = house.fail(A)
    for _ in range(3):
        house.reporter.work()
        house.now += 1000
    assert house.accepted == [] and house.told() == set()
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1 and "notify" in caplog.text
    house.reporter.configure((B,), ADMIN)  # by itself, without another failure
    wait_until(lambda: house.told() == {id})
    house.reporter.stop()
    assert house.reports()[0][1] == (ADMIN,) and house.told() == {id}


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
    assert len(house.accepted) == 2 and house.told() == {first, *house.accepted}
    assert f"report {house.accepted[1]} could not be delivered" in caplog.text


def test_a_damaged_message_is_reported_to_the_mailbox_its_id_names(house):
    id = house.fail()
    with open(house.spool.path(house.spool.find(id)), "wb") as file:
        file.write(b"garbage")
    house.reporter.work()
    assert [told[:2] for told in house.reports()] == [(A, (A,))] and house.told() == {id}


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
    assert house.told() == set(ids) and all(id.encode() in house.reports()[0][2] for id in ids)


def test_a_disk_that_refuses_the_report_loses_nothing(house, monkeypatch):
    id = house.fail()

    def full(path, mode=0o600):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "create", full)
        assert house.reporter.work() == 900.0
    assert house.told() == set() and house.accepted == []
    house.now += 900
    house.reporter.work()
    assert house.told() == {id} and len(house.accepted) == 1


def test_a_message_taken_by_an_administrator_meanwhile_stays_taken(house, monkeypatch):
    id = house.fail()
    real = house.reporter._send
    monkeypatch.setattr(house.reporter, "_send", lambda *a: (house.spool.requeue(house.spool.find(id)), real(*a))[1])
    house.reporter.work()
    assert house.spool.find(id).place == "new" and len(house.accepted) == 1


def test_what_fails_again_after_a_retry_is_told_again(house):
    id = house.fail()
    house.reporter.work()
    house.spool.requeue(house.spool.find(id))
    house.give_up(id)
    house.now += 900
    house.reporter.work()
    assert len(house.accepted) == 2


def test_it_works_by_itself_in_the_background(tmp_path, wait_until, monkeypatch):
    monkeypatch.setattr(report, "_GATHER", 0.01)
    house = House(tmp_path)
    house.reporter = Reporter(house.spool, house.accepted.append, (A,), interval=0.05)
    old = house.fail()
    house.reporter.start()
    wait_until(lambda: house.told() == {old})
    for _ in range(5):
        house.fail()
        house.reporter.failed()
    wait_until(lambda: len(house.told()) == 6)
    house.reporter.stop()
    wait_until(lambda: not any(thread.name == "report-timer" for thread in threading.enumerate()))
    count = len(house.accepted)
    house.fail()
    house.reporter.failed()
    house.reporter.start()
    assert not any(thread.name == "report-timer" and thread.is_alive() for thread in threading.enumerate())
    assert len(house.accepted) == count <= 6


def test_a_report_is_durable_before_its_message_counts_as_told(house, monkeypatch):
    house.fail()
    steps = []
    real = house.spool.told
    monkeypatch.setattr(house.spool, "told", lambda entries: (steps.append(list(house.accepted)), real(entries)))
    house.reporter.work()
    assert steps == [house.accepted] and len(house.accepted) == 1
    assert os.listdir(os.path.join(house.spool.directory, "tmp")) == []


def test_the_mailbox_that_worked_last_stands_in(house):
    C = "paper@contoso.com"
    house.reporter._last_delivery = {B: 1.0, C: 2.0}.get
    house.reporter.configure((A, B, C), None)
    house.fail(A, status="4.4.7")
    house.reporter.work()
    report = next(entry for entry in house.spool.entries("new"))
    envelope, file = house.spool.open(report)
    file.close()
    assert envelope.mailbox == C
