"""Whether drafts' ids lead to their sent copies, and the two requests that send a message then."""

import logging

import pytest
from attempt_harness import ALERTS, ALWAYS, HIDDEN, RELAY, SCANS, harnesses, settle

from m365proxy.delivery import sentids
from m365proxy.delivery.routes import Routes
from m365proxy.delivery.sentids import SentIds
from m365proxy.errors import Permanent, SignInNeeded, Temporary
from m365proxy.spool.state import DraftPhase, DraftState, Place


class Drafts:
    """Answers to looks in order: whether a copy is there, or an error."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def leads_to_copy(self, mailbox, id):
        self.asked.append((mailbox, id))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Looks:
    def __init__(self, path, *answers):
        self.now, self.keeps = 100.0, True
        self.drafts = Drafts(*answers)
        self.routes = Routes(str(path), RELAY, True)
        self.ids = SentIds(self.drafts, self.routes, lambda mailbox: self.keeps, monotonic=lambda: self.now)

    def sent(self, id, mailbox=ALERTS):
        self.ids.note_sent(mailbox, DraftState(DraftPhase.READY, mailbox, id))

    def check(self, after=0.0):
        self.now += after
        return self.ids.check(ALERTS, ALERTS)


def test_a_copy_is_looked_for_once_and_not_at_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    looks = Looks(tmp_path, True)
    assert not looks.check(), "nothing was sent yet"
    looks.sent("first")
    looks.sent("second")
    assert not looks.check(1.9) and looks.drafts.asked == []
    assert looks.check(0.1) and looks.check(1000) and looks.drafts.asked == [(ALERTS, "first")]
    looks.sent("third")
    assert looks.check(1000) and not looks.ids.check(SCANS, SCANS) and len(looks.drafts.asked) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"{ALERTS}: sent copies are found by their drafts' ids; two requests send a message"
    ]


def test_a_copy_that_is_late_is_found(tmp_path):
    looks = Looks(tmp_path, False, False, True)
    looks.sent("first")
    assert not looks.check(2) and not looks.check(29.9) and len(looks.drafts.asked) == 1
    assert not looks.check(0.1) and not looks.check(299) and len(looks.drafts.asked) == 2
    assert looks.check(1)


def test_after_three_looks_three_requests_stay(tmp_path):
    looks = Looks(tmp_path, False, False, False)
    looks.sent("first")
    assert not any(looks.check(after) for after in (2, 30, 300))
    assert looks.routes.keeps_ids(ALERTS) is False
    looks.sent("second")
    assert not looks.check(1000) and len(looks.drafts.asked) == 3


@pytest.mark.parametrize("error", [Temporary("busy"), Permanent("refused"), SignInNeeded("nobody")], ids=str)
def test_a_look_that_is_not_answered_does_not_count(tmp_path, error):
    looks = Looks(tmp_path, *[error] * 5, False, error, False, True)
    looks.sent("first")
    assert not looks.check(2) and not looks.check(29) and len(looks.drafts.asked) == 1
    for after in (1, 30, 30, 30, 30, 30, 30, 300):
        assert looks.routes.keeps_ids(ALERTS) is None
        known = looks.check(after)
    assert known and {id for _, id in looks.drafts.asked} == {"first"}


def test_where_copies_do_not_stay_nothing_is_looked_for(tmp_path):
    looks = Looks(tmp_path)
    looks.keeps = False
    looks.sent("first")
    assert not looks.check(1000)
    looks.routes.learn_ids(ALERTS, True)
    assert not looks.check()


def test_the_first_contradiction_is_believed_and_logged_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    looks = Looks(tmp_path)
    looks.ids.contradict(ALERTS)
    assert looks.routes.keeps_ids(ALERTS) is None
    looks.routes.learn_ids(ALERTS, True)
    looks.ids.contradict(ALERTS)
    looks.ids.contradict(ALERTS)
    assert looks.routes.keeps_ids(ALERTS) is False and not looks.check(1000)
    assert [record.getMessage() for record in caplog.records] == [
        f"{ALERTS}: a sent copy was not found by its draft's id; three requests a message are made again"
    ]


# With the real spool, courier and client, and the stand-in tenant.


@pytest.fixture
def harness(tmp_path):
    for made in harnesses(tmp_path):
        made.may_be_unmarked = True
        yield made


def two_requests(harness):
    """It is known of the mailbox that ids lead to sent copies."""
    harness.open().routes.learn_ids(ALERTS, True)
    return harness


def calls(harness):
    return [request.method for request in harness.sandbox.requests]


TWO, THREE = ["POST", "POST"], ["POST", "PATCH", "POST"]
FOLDER = ["GET"]  # where Sent Items are is asked once


def test_two_requests_once_a_copy_was_found(harness, wait_until, monkeypatch):
    monkeypatch.setattr(sentids, "_WAITS", (0.0, 0.0, 0.0))
    harness.open()
    for expected in (THREE, ["GET", *FOLDER, *TWO], TWO):
        harness.sandbox.forget()
        harness.put(ALWAYS)
        settle(harness, wait_until)
        assert calls(harness) == expected
    assert len(harness.tenant.delivered) == 3 and harness.places() == []
    harness.close()
    harness.open().put()
    settle(harness, wait_until)
    assert calls(harness) == [*TWO, *TWO], "it is known after a restart"


@pytest.mark.parametrize("mode", [dict(draft_id_survives=False), dict(while_sending="outbox", sent_copy_delay=600.0)])
def test_three_requests_where_the_id_leads_to_no_copy(harness, wait_until, monkeypatch, mode):
    monkeypatch.setattr(sentids, "_WAITS", (0.0, 0.0, 0.0))
    vars(harness.tenant).update(mode)
    harness.open()
    for _ in range(5):
        harness.put()
        settle(harness, wait_until)
    assert calls(harness) == [*THREE, *["GET", *THREE] * 3, *THREE]
    assert harness.routes.keeps_ids(ALERTS) is False


@pytest.mark.parametrize("kind", ["cut", "cut_after", "answer", "answer_after"])
@pytest.mark.parametrize("id_survives", [True, False], ids=["id kept", "new id"])
@pytest.mark.parametrize("message_id", ["keep", "replace_at_create", "replace_at_send"])
def test_a_lost_answer_to_a_send_without_a_marker(harness, wait_until, message_id, id_survives, kind):
    """It is believed that the id leads to the copy, whether that is true or not."""
    harness.tenant.message_id, harness.tenant.draft_id_survives = message_id, id_survives
    harness.sandbox.faults.add(kind, path="/send$", status=504, code="UnknownError")
    two_requests(harness).put(ALWAYS)
    settle(harness, wait_until)
    sent_unseen = kind.endswith("after") and not id_survives
    undecidable = sent_unseen and message_id == "replace_at_send"
    assert harness.places() == ([("cur", "held")] if undecidable else [])
    assert len(harness.tenant.delivered) == 1 and harness.tenant.items(ALERTS, "drafts") == []
    assert harness.routes.keeps_ids(ALERTS) is not sent_unseen
    assert calls(harness).count("PATCH") == (not kind.endswith("after")), "what is sent again has the marker"


@pytest.mark.parametrize("late", ["gone", "drafts", "outbox"])
def test_a_copy_that_is_late_is_waited_for(harness, wait_until, late):
    harness.tenant.while_sending, harness.tenant.sent_copy_delay = late, 0.3
    harness.still_draft, harness.looks = (0.2, 0.6), (0.1, 0.2, 0.3, 0.4, 0.5)
    harness.sandbox.faults.add("cut_after", path="/send$")
    two_requests(harness).put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.routes.keeps_ids(ALERTS) is True


def hidden(harness):
    return harness.put(recipients=(SCANS, HIDDEN))


def interrupted(harness):
    harness.sandbox.faults.add("cut_after", path="/messages$", method="POST")
    return harness.put(ALWAYS)


def copies_go(harness):
    harness.may_be_unmarked = False
    return harness.put()


@pytest.mark.parametrize("put", [hidden, interrupted, copies_go])
def test_what_needs_the_marker_gets_it(harness, wait_until, put):
    put(two_requests(harness))
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert calls(harness).count("PATCH") == 1 and harness.tenant.items(ALERTS, "drafts") == []


def paused(harness):
    return harness.places() == [("new", "")] and harness.graph.throttled_for(ALERTS)


@pytest.mark.parametrize("seconds, more", [(600, []), (3600, ["GET", "GET", "GET", "PATCH"])])
def test_after_a_429_it_is_sent_as_it_is_unless_somebody_may_have_found_it(harness, wait_until, seconds, more):
    harness.sandbox.faults.add("answer", path="/send$", status=429, retry_after=seconds)
    two_requests(harness).put()
    wait_until(lambda: paused(harness))
    wait_until(lambda: not harness.courier.status()["mailboxes"][ALERTS]["sending"])
    harness.graph._mailbox(ALERTS).throttled_until = 0.0
    harness.ahead += 2 * 3600.0
    harness.courier.flush()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert calls(harness) == [*TWO, *more, "POST"]


def test_a_draft_that_exchange_does_not_know_yet_is_sent_later(harness, wait_until):
    harness.sandbox.faults.add("answer", path="/send$", status=404, code="ErrorItemNotFound")
    two_requests(harness).put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.tenant.created_drafts == 1 and calls(harness).count("PATCH") == 1


@pytest.mark.parametrize("id_survives", [True, False], ids=["id kept", "new id"])
def test_a_404_does_not_mean_that_it_was_not_sent(harness, wait_until, id_survives):
    harness.tenant.draft_id_survives = id_survives
    harness.sandbox.faults.add("answer_after", path="/send$", status=404, code="ErrorItemNotFound")
    two_requests(harness).put(ALWAYS)
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1
    assert harness.places() == ([] if id_survives else [("cur", "held")])


def after_a_restart(harness, wait_until, change):
    """A draft without a marker waits, the program is started again, and meanwhile something happened to the draft."""
    harness.sandbox.faults.add("answer", path="/send$", status=429, retry_after=2)
    two_requests(harness).put()
    wait_until(lambda: paused(harness))
    harness.close()
    (draft,) = harness.tenant.items(ALERTS, "drafts")
    (entry,) = harness.spool.entries(Place.NEW)
    assert harness.spool.state(entry.id).draft.phase is DraftPhase.BARE
    change(harness.tenant, draft)
    harness.sandbox.forget()
    harness.open()
    settle(harness, wait_until)
    return harness.places(), len(harness.tenant.delivered)


def test_a_draft_of_an_earlier_run_gets_its_marker_first(harness, wait_until):
    assert after_a_restart(harness, wait_until, lambda tenant, draft: None) == ([], 1)
    assert calls(harness)[-2:] == ["PATCH", "POST"] and harness.tenant.created_drafts == 1


@pytest.mark.parametrize(
    "change, places, delivered",
    [
        (lambda tenant, draft: tenant.send_draft(draft), [], 1),
        (lambda tenant, draft: tenant.update(draft, {"subject": "edited"}, {}), [("cur", "held")], 0),
        (lambda tenant, draft: tenant.purge(draft), [("cur", "held")], 0),
    ],
    ids=["sent", "edited", "deleted"],
)
def test_what_a_person_did_with_it_counts(harness, wait_until, change, places, delivered):
    assert after_a_restart(harness, wait_until, change) == (places, delivered)


def test_a_message_that_is_given_up_leaves_no_draft(harness, wait_until):
    harness.tenant.max_send_size = 10
    two_requests(harness).put()
    wait_until(lambda: harness.settled() and not harness.tenant.items(ALERTS, "drafts"))
    assert harness.tenant.delivered == [] and harness.places() == [("failed", "")]
    assert calls(harness).count("PATCH") == 0
