"""Draft, send, look: the real spool, courier, client and the stand-in tenant, in every combination."""

import itertools
import shutil
from types import SimpleNamespace

import pytest
from attempt_harness import (
    ALERTS,
    ALWAYS,
    KEYWORDS,
    MAIL,
    RELAY,
    SCANS,
    Harness,
    an_item,
    crash_after_draft,
    harnesses,
    large_mail,
    lower_limits,
    settle,
)
from courier_harness import workers
from mailreader import pdf_of

from m365proxy.delivery import attempt as delivery_module
from m365proxy.delivery.drafts import Found
from m365proxy.delivery.outcome import Outcome
from m365proxy.delivery.routes import Route, Routes
from m365proxy.errors import SignInNeeded
from m365proxy.graph.answer import Throttled
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import DraftPhase, DraftState, Place, State


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


# What Graph may do with a Message-ID, with the draft's id, and how late the sent copy is.
MODES = list(itertools.product(("keep", "replace_at_create", "replace_at_send"), (True, False), (0.0, 0.25)))


def set_mode(harness, mode):
    harness.tenant.message_id, harness.tenant.draft_id_survives, harness.tenant.sent_copy_delay = mode
    harness.looks = (0.05, 0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("kind", ["answer_after", "cut_after", "answer", "cut"])
def test_a_lost_answer_to_send_is_settled_by_looking(harness, wait_until, mode, kind):
    set_mode(harness, mode)
    harness.sandbox.faults.add(kind, path="/send$", status=504, code="UnknownError")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == []
    assert len(harness.tenant.delivered) == 1


RELAYED = {"request-id": "5f0c8d3a"}


@pytest.mark.parametrize("kind", ["stranger", "stranger_after"])
@pytest.mark.parametrize("status,headers", [(202, {}), (202, RELAYED), (204, {}), (200, RELAYED), (401, {})])
def test_only_graph_can_say_sent(harness, wait_until, kind, status, headers):
    harness.sandbox.faults.add(kind, path="/send$", status=status, headers=headers)
    harness.looks = (0.05, 0.1, 0.2, 0.3, 0.4)
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1


@pytest.mark.parametrize(
    "policy,kind,delivered,places",
    [
        ("retry", "stranger", 1, []),
        ("retry", "stranger_after", 2, []),
        ("hold", "stranger", 0, [("cur", "held")]),
        ("hold", "stranger_after", 1, [("cur", "held")]),
    ],
)
def test_only_graph_can_say_sent_without_a_draft(harness, wait_until, monkeypatch, policy, kind, delivered, places):
    monkeypatch.setattr("m365proxy.delivery.attempt.ONE_STEP_WAIT", 0.02)
    harness.full, harness.on_ambiguous = False, policy
    harness.sandbox.faults.add(kind, path="sendMail", status=202)
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == places and len(harness.tenant.delivered) == delivered


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_without_faults_three_requests_send_one_mail(harness, wait_until, mode):
    set_mode(harness, mode)
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert [r.method for r in harness.sandbox.requests] == ["POST", "PATCH", "POST"]
    assert harness.tenant.items(ALERTS, "drafts") == []


def test_a_tenant_that_counts_a_request_a_little_longer_throttles_nothing(harness, wait_until):
    harness.sandbox.latency = 0.02  # four at a time, as fast as they may
    harness.open()
    for _ in range(40):
        harness.put()
    settle(harness, wait_until)
    assert [r.target for r in harness.sandbox.requests if r.status == 429] == []
    assert len(harness.tenant.delivered) == 40 and harness.sandbox.peak_concurrency[ALERTS] == 4


@pytest.mark.parametrize("status,code", [(429, "ApplicationThrottled"), (401, "InvalidAuthenticationToken")])
def test_a_refused_send_is_repeated_with_the_same_draft(harness, wait_until, status, code):
    harness.sandbox.faults.add("answer", path="/send$", status=status, code=code, retry_after="1")
    harness.open().put()
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1 and harness.tenant.created_drafts == 1


def test_storms_of_429_multiply_no_requests_and_are_waited_for(harness, wait_until, caplog):
    """By clocks that stand still: what does not wait goes on at once."""
    caplog.set_level("INFO")
    harness.sandbox.latency, harness.now, seconds = 0.01, 1000.0, 100
    for number, (method, path) in enumerate([("POST", "/messages$"), ("PATCH", "/messages/"), ("POST", "/send$")]):
        harness.sandbox.faults.add(
            "answer", method=method, path=path, after=8 * number, times=4, status=429, retry_after=seconds
        )
    harness.open()
    ids, pauses = [harness.put() for _ in range(30)], 0
    while wait_until(lambda: not workers()) and harness.places():
        assert harness.graph.throttled_for(ALERTS) > 0
        harness.courier.flush()
        assert not workers()
        pauses += 1
        harness.now += 1.1 * seconds  # the courier waits up to a tenth longer
        harness.courier.flush()
    requests = harness.sandbox.requests
    storms = [request for request in requests if request.status == 429]
    assert 3 <= pauses <= len(storms)
    assert len(harness.tenant.delivered) == 30 and harness.tenant.created_drafts == 30 and len(storms) == 12
    assert len(requests) == 3 * 30 + len(storms)
    assert "deferred" not in caplog.text
    assert caplog.text.count("keep their place") == pauses
    assert all(harness.spool.state(id) is None for id in ids)


@pytest.mark.parametrize("method,path", [("POST", "/messages$"), ("PATCH", "/messages/"), ("POST", "/send$")])
def test_a_429_is_no_attempt_and_a_draft_is_looked_for_after_a_restart_only(harness, wait_until, method, path):
    harness.sandbox.faults.add("answer", method=method, path=path, status=429, retry_after="600")
    id = harness.open().put()
    wait_until(lambda: harness.places() == [("new", "")] and harness.graph.throttled_for(ALERTS))
    assert harness.spool.state(id).attempts == 0
    harness.close()
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == harness.tenant.created_drafts == 1
    assert bool(harness.sandbox.seen("/messages", "GET")) == (path != "/messages$")


@pytest.mark.parametrize("before", [0, 1, 2], ids=["create", "mark", "send"])
def test_a_mailbox_throttled_in_the_middle_waits_alone_and_keeps_its_draft(harness, wait_until, monkeypatch, before):
    """Another request of the mailbox was told to wait while this message was on its way."""
    harness.tenant.message_id = "replace_at_create"  # a draft that is forgotten cannot be found again
    harness.open()
    enter, entered = harness.graph._enter, []

    def throttled_once(mailbox):
        entered.append(mailbox)
        if len(entered) == before + 1:
            raise Throttled(mailbox.name, 0.2)
        enter(mailbox)

    monkeypatch.setattr(harness.graph, "_enter", throttled_once)
    harness.put()
    settle(harness, wait_until)
    assert harness.probes == 0 and harness.places() == [] and len(harness.tenant.delivered) == 1
    assert len(harness.sandbox.requests) == 3
    assert harness.tenant.created_drafts == 1 and harness.tenant.items(ALERTS, "drafts") == []


def test_a_known_draft_that_may_not_be_read_any_more_waits_for_the_administrator(harness, wait_until, caplog):
    crash_after_draft(harness, wait_until)
    harness.tenant.full_access.discard(ALERTS)
    id = next(harness.spool.entries(Place.NEW, Place.CUR)).id
    harness.open()
    wait_until(lambda: "Add-MailboxPermission" in harness.spool.state(id).error)
    wait_until(lambda: harness.places() == [("new", "")])
    assert harness.tenant.delivered == [] and "unexpected" not in caplog.text


def test_looks_before_their_time_do_not_use_up_the_patience(harness, wait_until):
    """As when Graph comes and goes, or the program is started again and again."""
    harness.looks, harness.still_draft = (0.3, 0.3, 0.3, 0.3), (0.1, 0.8)
    harness.sandbox.faults.add("cut", path="/send$")
    harness.open().put()

    def settled_though_pressed():
        harness.courier.flush_all()
        return harness.settled()

    wait_until(settled_though_pressed)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1


def test_an_older_copy_with_the_same_message_id_proves_nothing(harness, wait_until):
    mail = MAIL.replace(b"Subject", b"Message-ID: <always@printer.local>\r\nSubject")
    harness.open().put(mail)
    settle(harness, wait_until)
    harness.sandbox.faults.add("cut", path="/send$")
    harness.put(mail)
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 2
    ids = [record.message_id for record in harness.tenant.delivered]
    assert ids[0] == "<always@printer.local>" and ids[1] != ids[0]


@pytest.fixture
def other(harness, tmp_path):
    """Another site's gateway, for the same mailbox."""
    (tmp_path / "other").mkdir()
    made = Harness(tmp_path / "other", harness.sandbox)
    made.installation = "other"
    yield made
    harness.sandbox.faults.clear()
    made.close()


@pytest.mark.parametrize("marker_survives", [True, False], ids=["marker kept", "marker lost"])
@pytest.mark.parametrize("full", [True, False], ids=["a draft", "one step"])
def test_anothers_mail_with_the_same_message_id_is_not_ours(harness, other, wait_until, full, marker_survives):
    other.full, harness.tenant.marker_survives = full, marker_survives
    harness.looks, harness.still_draft = (0.4,) * 8, (0.1, 0.5)
    harness.sandbox.faults.add("cut", path="/send$")
    harness.open().put(ALWAYS)
    wait_until(lambda: harness.sandbox.seen("/send$"))
    other.open().put(ALWAYS)
    settle(other, wait_until)
    settle(harness, wait_until)
    assert [record.message_id for record in harness.tenant.delivered] == ["<always@printer.local>"] * 2
    assert harness.places() == other.places() == [] and harness.tenant.items(ALERTS, "drafts") == []


def replaced_by_anothers(tenant):
    """A person deletes our draft, and a mail with its Message-ID and without a marker was sent by somebody else."""
    for item in tenant.items(ALERTS, "drafts"):
        tenant.purge(item)
    an_item(tenant, "sentitems", at=1.0)


def test_a_message_id_proves_nothing_of_an_attempt_that_was_refused(harness, wait_until):
    harness.sandbox.faults.add("answer", path="/send$", status=429, retry_after="600")
    id = harness.open().put(ALWAYS)
    wait_until(lambda: harness.graph.throttled_for(ALERTS) and harness.places() == [("new", "")])
    harness.close()
    assert harness.spool.state(id).draft.id
    replaced_by_anothers(harness.tenant)
    harness.open().courier.flush_all()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and harness.tenant.delivered == []


def test_a_message_id_proves_nothing_where_graph_knew_no_draft_to_send(harness, wait_until, monkeypatch):
    harness.open()
    real = harness.drafts.send
    monkeypatch.setattr(harness.drafts, "send", lambda *given: (replaced_by_anothers(harness.tenant), real(*given))[1])
    harness.put(ALWAYS)
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and harness.tenant.delivered == []


@pytest.mark.parametrize("stays", ["gone", "drafts", "outbox"])
def test_a_draft_that_lingers_while_it_is_sent(harness, wait_until, stays):
    harness.tenant.while_sending = stays
    harness.tenant.sent_copy_delay = 0.3
    harness.still_draft = (0.2, 0.6)  # in the true proportion: longer than a draft lingers
    harness.looks = (0.1, 0.2, 0.3, 0.4, 0.5)
    harness.sandbox.faults.add("cut_after", path="/send$")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1


@pytest.mark.parametrize(
    "looks,sent",
    [
        ([5, 15, 35, 75, 89], Outcome.AMBIGUOUS),
        ([5, 15, 35, 75, 91], Outcome.NOT_SENT),
        ([91], Outcome.AMBIGUOUS),
        ([91, 120], Outcome.AMBIGUOUS),
        ([91, 122], Outcome.NOT_SENT),
    ],
    ids=str,
)
def test_still_a_draft_is_believed_late_and_twice_only(harness, monkeypatch, looks, sent):
    harness.looks, harness.still_draft = delivery_module.LOOKS, (30.0, 90.0)
    harness.open()
    state = State(posted=1000.0, draft=DraftState(DraftPhase.READY, ALERTS, "ID"))
    claim = SimpleNamespace(id="ID", state=state)
    monkeypatch.setattr(harness.drafts, "look", lambda *given: Found.DRAFT)
    for seconds in looks:
        monkeypatch.setattr(harness.graph, "now", lambda seconds=seconds: 1000.0 + seconds)
        verdict = harness.delivery.look(claim, None)
    assert verdict.outcome is sent
    assert (delivery_module.STILL_DRAFT_APART, delivery_module.STILL_DRAFT_AFTER) == (30.0, 90.0)


def test_nothing_to_be_found_is_held_and_not_looped(harness, wait_until):
    harness.tenant.draft_id_survives = harness.tenant.marker_survives = False
    harness.tenant.message_id = "replace_at_send"
    harness.sandbox.faults.add("cut_after", path="/send$")
    id = harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and len(harness.tenant.delivered) == 1
    assert "Sent Items" in harness.spool.state(id).error


def test_a_human_who_sent_the_draft_counts(harness, wait_until):
    item = crash_after_draft(harness, wait_until)
    harness.tenant.send_draft(item)
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1


def test_a_draft_that_a_human_edited_is_held(harness, wait_until):
    item = crash_after_draft(harness, wait_until)
    harness.tenant.update(item, {"subject": "edited"}, {})
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and harness.tenant.delivered == []


def test_a_draft_that_a_human_deleted_is_held(harness, wait_until):
    item = crash_after_draft(harness, wait_until)
    harness.tenant.delete(item)
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and harness.tenant.delivered == []


def test_send_as_without_full_access_goes_through_the_own_mailbox(harness, wait_until):
    harness.tenant.full_access.discard(ALERTS)
    harness.open().put()
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1 and harness.places() == []
    assert harness.routes.candidates(ALERTS)[0] == Route(RELAY, True)
    harness.sandbox.forget()
    harness.put()
    settle(harness, wait_until)
    assert len(harness.sandbox.requests) == 3, "the way is remembered"


def nobody(tenant):
    """As where the mailbox is misspelled in the config."""
    del tenant.mailboxes[ALERTS]
    tenant.send_as.discard((RELAY, ALERTS))
    return f"There is no mailbox {ALERTS} in the tenant"


def without_licence(tenant):
    tenant.unlicensed.add(ALERTS)
    tenant.send_as.discard((RELAY, ALERTS))
    return f"{ALERTS} is no Exchange Online mailbox yet"


def account_without_licence(tenant):
    tenant.unlicensed.add(RELAY)
    tenant.full_access.discard(ALERTS)
    return f"{RELAY} is no Exchange Online mailbox yet"


def without_send_as(tenant):
    tenant.full_access.discard(ALERTS)
    tenant.send_as.discard((RELAY, ALERTS))
    return f"Add-RecipientPermission {ALERTS} -Trustee {RELAY}"


@pytest.mark.parametrize("full", [True, False], ids=["drafts", "send"])
@pytest.mark.parametrize(
    "arrange", [nobody, without_licence, account_without_licence, without_send_as], ids=lambda a: a.__name__
)
def test_the_refusal_that_tells_most_is_reported(harness, wait_until, arrange, full):
    harness.full = full
    words = arrange(harness.tenant)
    id = harness.open().put()
    wait_until(lambda: (harness.spool.state(id) or State()).error)
    harness.close()
    state = harness.spool.state(id)
    assert words in state.error and harness.places() == [("new", "")]
    assert ("Add-" in state.error) == (arrange is without_send_as)
    assert state.code.lower() in ("errorinvaliduser", "mailboxnotenabledforrestapi", "errorsendasdenied")
    if arrange is not without_send_as:
        assert not harness.tenant.mailboxes[RELAY].folder("drafts").items, "what waits for long leaves no draft behind"


def test_that_mail_was_sent_is_kept_for_check_until_a_right_is_refused(harness, wait_until):
    harness.open().put()
    settle(harness, wait_until)
    known = Routes(str(harness.path), RELAY, True)
    assert known.sent(ALERTS) and not known.sent(SCANS)
    harness.tenant.full_access.discard(ALERTS)
    harness.tenant.send_as.discard((RELAY, ALERTS))
    id = harness.put()
    wait_until(lambda: (harness.spool.state(id) or State()).code == "ErrorSendAsDenied")
    assert not Routes(str(harness.path), RELAY, True).sent(ALERTS)


def test_without_drafts_one_step_has_to_do(harness, wait_until):
    harness.tenant.drafts_denied |= {ALERTS, RELAY}
    harness.open().put()
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1 and harness.places() == []
    assert harness.routes.candidates(ALERTS)[0] == Route(ALERTS, False)


@pytest.mark.parametrize("policy,times,places", [("retry", 2, []), ("hold", 1, [("cur", "held")])])
def test_permissions_send_and_a_lost_answer(harness, wait_until, monkeypatch, policy, times, places):
    monkeypatch.setattr(delivery_module, "ONE_STEP_WAIT", 0.0)
    harness.full, harness.on_ambiguous = False, policy
    harness.sandbox.faults.add("cut_after", path="/sendMail$")
    harness.open().put()
    settle(harness, wait_until)
    assert harness.places() == places and len(harness.tenant.delivered) == times


def test_a_revoked_sign_in_sends_nothing_and_loses_nothing(harness, wait_until):
    harness.open()
    good = harness.graph._tokens

    class Revoked:
        def access_token(self, refused=None):
            raise SignInNeeded("run login")

    harness.graph._tokens = Revoked()
    harness.put()
    wait_until(lambda: harness.courier.status()["paused"])
    wait_until(lambda: harness.places() == [("new", "")])
    harness.graph._tokens = good
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1


@pytest.mark.parametrize(
    "fault",
    [
        None,
        ("cut_after", "/send$"),
        ("cut", "/send$"),
        ("answer", "/upload/"),
        ("cut_after", "createUploadSession"),
        ("cut_after", "/messages$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode, fields", [("keep", b""), ("keep", KEYWORDS), ("forget_mime", KEYWORDS)])
def test_large_mail_goes_by_upload(harness, wait_until, monkeypatch, fault, mode, fields):
    octets = 5_000_000
    harness.tenant.mime_drafts_take_files = mode
    if fault:
        harness.sandbox.faults.add(fault[0], path=fault[1], status=503, code="ErrorServerBusy")
        lower_limits(monkeypatch)
        octets //= 1000
    mail = large_mail(octets, fields)
    harness.open().put(mail)
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert pdf_of(harness.tenant.delivered[0].raw) == pdf_of(mail)
    assert (b"Keywords" in harness.tenant.delivered[0].raw) is (mode == "keep" and fields == KEYWORDS)
    assert harness.tenant.items(ALERTS, "drafts") == []


def test_uploads_denied_to_the_shared_mailbox_go_through_the_own(harness, wait_until):
    harness.tenant.uploads_denied.add(ALERTS)
    harness.open().put(large_mail())
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1 and harness.places() == []
    assert harness.tenant.items(ALERTS, "drafts") == [] and harness.tenant.items(RELAY, "drafts") == []
    harness.put()
    settle(harness, wait_until)
    assert harness.routes.candidates(ALERTS)[0] == Route(ALERTS, True), "small mail keeps its own way"


@pytest.mark.parametrize("owner", ["gone", ""])
def test_an_adopted_message_is_known_by_the_marker_of_its_first_owner(harness, wait_until, owner):
    """Only the marker tells that it was sent, and by whom it was."""
    harness.tenant.draft_id_survives = False
    harness.tenant.message_id = "replace_at_send"
    harness.installation = "gone"
    harness.sandbox.faults.add("hang_after", path="/send$", seconds=30)
    harness.open().put()
    wait_until(lambda: harness.tenant.delivered and harness.places() == [("cur", "posting")])
    left = harness.path / "left"
    shutil.copytree(harness.path / "queue", left)
    harness.sandbox.faults.clear()
    harness.close()
    shutil.rmtree(harness.path / "queue")
    shutil.copytree(left, harness.path / "queue")
    id = next((harness.path / "queue" / "state").iterdir()).name.partition(".")[0]
    state = harness.spool.state(id)
    state.owner = owner
    harness.spool.save_state(id, state)
    harness.installation = "installation"
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == ([] if owner else [("cur", "held")])
    assert len(harness.tenant.delivered) == 1


def test_posting_without_its_state_is_held(harness, wait_until):
    harness.on_ambiguous = "retry"
    harness.open()
    harness.courier.stop(5)
    incoming = harness.spool.put(Envelope(ALERTS, ALERTS, (SCANS,)))
    incoming.write(MAIL)
    claim = harness.spool.claim(incoming.commit())
    claim.mark_posting()
    (harness.path / "queue" / "state" / f"{claim.id}.json").unlink()
    harness.open()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and harness.tenant.delivered == []


def test_one_step_is_repeated_once_only(harness, wait_until, monkeypatch):
    monkeypatch.setattr("m365proxy.delivery.attempt.ONE_STEP_WAIT", 0.02)
    harness.full, harness.on_ambiguous = False, "retry"
    harness.sandbox.faults.add("answer_after", path="/sendMail$", status=504, code="UnknownError", times=None)
    harness.open()
    harness.put()
    settle(harness, wait_until)
    assert harness.places() == [("cur", "held")] and len(harness.tenant.delivered) == 2


def test_uploads_that_were_refused_are_tried_again_later(harness, wait_until, monkeypatch):
    monkeypatch.setattr("m365proxy.delivery.outcome.ADMINISTRATOR_WAIT", 0.05)
    harness.sandbox.faults.add("answer", path="createUploadSession", status=403, code="ErrorAccessDenied", times=2)
    harness.open()
    harness.put(large_mail())
    settle(harness, wait_until)
    assert len(harness.tenant.delivered) == 1


def test_a_throttled_probe_is_an_answer(harness):
    harness.sandbox.faults.add("answer", path="/v1.0/$", status=503, code="busy", retry_after="30")
    harness.open()
    harness.graph.check_reachable()
    harness.graph.check_reachable()


@pytest.mark.parametrize("on_ambiguous", ["hold", "retry"])
def test_what_was_refused_on_one_way_stays_surely_not_sent_while_the_next_must_wait(harness, wait_until, on_ambiguous):
    harness.full, harness.on_ambiguous = False, on_ambiguous
    harness.open()
    harness.sandbox.faults.add("answer", path=f"{ALERTS}/sendMail", status=403, code="ErrorAccessDenied", times=1)
    harness.graph.throttle(RELAY, 0.3)
    id = harness.put()
    settle(harness, wait_until)
    assert harness.places() == [] and len(harness.tenant.delivered) == 1
    assert harness.spool.state(id) is None
