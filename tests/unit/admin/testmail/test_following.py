"""A mail is followed through the queue and into mailboxes: what is seen, and what is said of what goes wrong."""

import contextlib
import threading
import time
from types import SimpleNamespace

import pytest
from cases import each
from waiting import PATIENCE

from m365proxy.account import spool_of
from m365proxy.admin.steps import Failed
from m365proxy.admin.testmail import following
from m365proxy.admin.testmail.following import Mailboxes, QueuedMail, Running, Unseen
from m365proxy.errors import SignInNeeded, Temporary
from m365proxy.graph.answer import GraphRefused
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import DraftPhase, DraftState
from m365proxy.system import control, statusfile

ALERTS, SCANS = "alerts@contoso.com", "scans@contoso.com"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(following, "_QUEUE_LOOK", 0.001)
    monkeypatch.setattr(following, "_MAILBOX_LOOK", 0.001)
    monkeypatch.setattr(following, "_STATUS_EVERY", 0.0)


class Program:
    """In the place of Running: `paused` and the like are what the running program says."""

    def __init__(self):
        self.paused, self.sign_in, self.lane = "", {}, {}

    def status(self):
        return {"paused": self.paused, "sign_in": self.sign_in, "mailboxes": {ALERTS: self.lane}}


class Harness:
    """A message in a queue, and a script of what happens to it: a step for each look."""

    def __init__(self, config):
        self.program = Program()
        self.spool = spool_of(config)
        self.spool.make()
        incoming = self.spool.put(Envelope(ALERTS, ALERTS, (SCANS,)))
        incoming.write(b"Subject: x\r\n\r\n")
        self.id = incoming.commit()
        self.claim = None
        self.seen = []
        self.now = 0.0
        self.mail = QueuedMail(self.program, self.spool, self.id, ALERTS, monotonic=lambda: self.now)

    def follow(self, *steps):
        """What was seen, one step being done before each look, which takes a second by the harness's clock."""
        left, real = list(steps), self.spool.find

        def find(id):
            self.now += 1.0
            if left:
                left.pop(0)()
            return real(id)

        self.spool.find = find
        self.mail.follow(lambda mailbox: self.seen.append(("draft", mailbox)), self.seen.append)
        assert left == []
        return self.seen

    def failed(self, *steps):
        """Exit status, sentence and advice of the failure it ends with."""
        with pytest.raises(Failed) as caught:
            self.follow(*steps)
        return caught.value.exit_status, str(caught.value), caught.value.advice

    # Steps.

    def take(self):
        self.claim = self.spool.claim(self.id)

    def draft(self, phase=DraftPhase.READY):
        self.claim.state.draft = DraftState(phase, ALERTS, "" if phase is DraftPhase.ASKED else "id")
        self.claim.mark_posting()

    def send(self):
        self.claim.remove_sent()

    def defer(self, seconds=5.0, **state):
        self.claim.state.attempts += 1
        self.claim.state.due = time.time() + seconds
        for name, value in {"error": "No.", "status": "4.4.1", **state}.items():
            setattr(self.claim.state, name, value)
        self.claim.defer()

    def fail(self, **state):
        for name, value in {"error": "Never.", "status": "5.6.0", **state}.items():
            setattr(self.claim.state, name, value)
        self.claim.fail()

    def hold(self):
        self.claim.mark_posting()
        self.claim.state.error = "Lost."
        self.claim.hold()

    def pause(self):
        self.program.paused = "Nothing goes."


@pytest.fixture
def harness(config):
    return Harness(config)


def nothing():
    """Nothing happens."""


@pytest.mark.parametrize("phase", [DraftPhase.READY, DraftPhase.BARE])
def test_a_draft_is_seen_and_then_it_is_gone(harness, phase):
    steps = [nothing, harness.take, lambda: harness.draft(phase), nothing, harness.send]
    assert harness.follow(*steps) == [("draft", ALERTS)]


def test_it_may_be_gone_before_it_is_seen(harness):
    assert harness.follow(lambda: [harness.take(), harness.draft(), harness.send()]) == []


def test_a_failed_attempt_is_said_once_and_followed(harness):
    steps = [harness.take, harness.defer, nothing, nothing, harness.take, harness.draft, harness.send]
    assert harness.follow(*steps) == ["No.", ("draft", ALERTS)]


@pytest.mark.parametrize(
    "state, exit_status",
    [
        ({"code": "ErrorSendAsDenied", "status": "5.7.60"}, 67),
        ({"code": "ErrorInvalidUser", "status": "4.1.8"}, 67),
        ({"status": "4.4.1"}, 69),
        ({"status": "4.3.0"}, 75),
    ],
)
def test_what_waits_for_longer_than_we_do_is_said_at_once(harness, state, exit_status):
    status, sentence, advice = harness.failed(harness.take, lambda: harness.defer(900.0, **state))
    assert (status, sentence) == (exit_status, "No.")
    assert "stays queued" in advice and f"m365proxy queue show {harness.id}" in advice


def test_a_missing_right_is_not_waited_for(harness):
    status, sentence, _ = harness.failed(harness.take, lambda: harness.defer(0.1, code="ErrorSendAsDenied"))
    assert (status, sentence, harness.seen) == (67, "No.", [])


@pytest.mark.parametrize(
    "state, exit_status",
    [({}, 69), ({"status": "5.1.3"}, 67), ({"status": "5.7.60", "code": "ErrorSendAsDenied"}, 67)],
)
def test_what_is_given_up_says_why(harness, state, exit_status):
    status, sentence, advice = harness.failed(harness.take, lambda: harness.fail(**state))
    assert (status, sentence) == (exit_status, "Never.") and f"queue retry {harness.id}" in advice


def test_what_is_held_is_for_a_person_to_decide(harness):
    status, sentence, advice = harness.failed(harness.take, harness.hold)
    assert status == 75 and "Lost." in sentence and f"queue drop {harness.id}" in advice


@pytest.mark.parametrize("known, exit_status", [(77, 77), (78, 78), (0, 69)])
def test_if_nothing_can_be_sent_at_all_the_mail_is_queued(harness, known, exit_status):
    harness.program.sign_in = {"exit_status": known}
    status, sentence, advice = harness.failed(harness.pause)
    assert (status, sentence) == (exit_status, "Nothing goes.") and f"queued as {harness.id}" in advice


@pytest.mark.parametrize(
    "lane, words",
    [
        ({"last_error": "Throttled.", "last_error_time": 9e9}, "The last trouble of alerts@contoso.com: Throttled."),
        ({"last_error": "Throttled before.", "last_error_time": 9.0, "last_delivery": 8.0}, "Throttled before."),
        ({"last_error": "Long ago.", "last_error_time": 9.0, "last_delivery": 9.5}, "nothing says why"),
        ({}, "nothing says why"),
    ],
)
def test_patience_ends(harness, monkeypatch, lane, words):
    monkeypatch.setattr(following, "_PATIENCE", 3.0)
    harness.program.lane = lane
    status, sentence, _ = harness.failed()
    assert status == 75 and words in sentence
    assert harness.seen == ([sentence] if "Throttled" in words else [])


def test_what_may_have_been_sent_is_not_said_to_wait(harness, monkeypatch):
    monkeypatch.setattr(following, "_PATIENCE", 3.0)

    def lose():
        harness.draft()
        harness.claim.state.error = "The answer got lost."
        harness.claim.save_state()

    status, sentence, advice = harness.failed(harness.take, lose)
    assert (status, sentence) == (75, "The answer got lost.") and "goes on to look for it" in advice


def test_how_it_was_sent(harness):
    assert harness.mail.sent() == {}
    mail = {"request_id": "r", "draft": ""}
    harness.program.lane = {"sent": {"another": {}, harness.id: mail}}
    assert harness.mail.sent() == mail


# The running program.


def write_status(config, status):
    """Again if it is refused: Windows replaces no file as long as somebody reads it."""
    while True:
        with contextlib.suppress(PermissionError):
            return statusfile.write(config.state_dir, status)


def obeying(config, words):
    """A program that takes words of control/, and writes its status when it is asked."""
    reader, heard = control.Control(config.state_dir), []

    def run():
        while len(heard) < words:
            for word, id in reader.take():
                heard.append((word, id))
                if word == "status":
                    write_status(config, {"written": len(heard) + 1.0, "pid": 7})
            time.sleep(0.001)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, heard


def test_the_running_program_writes_its_status_and_admits_a_password(config):
    control.Control(config.state_dir).make()
    statusfile.write(config.state_dir, {"written": 1.0})
    thread, heard = obeying(config, 2)
    assert Running(config).status(admit="0f")["pid"] == 7
    thread.join(10)
    assert sorted(heard) == [("login", "0f"), ("status", "")]


@pytest.fixture
def stays(monkeypatch):
    """A program that is there, and no more."""
    monkeypatch.setattr(following, "_OBEYS", 0.01)
    monkeypatch.setattr(following, "is_running", lambda config: True)


@pytest.mark.parametrize("admit", ["", "0f"])
def test_a_program_that_does_not_answer(config, stays, admit):
    control.Control(config.state_dir).make()
    with pytest.raises(Failed, match="does not answer") as caught:
        Running(config).status(admit=admit)
    assert caught.value.exit_status == 75
    assert not control.is_waiting(config.state_dir, "login", "0f")


def test_a_program_that_is_stopped_meanwhile(config, monkeypatch):
    monkeypatch.setattr(following, "_OBEYS", 0.01)
    control.Control(config.state_dir).make()
    with pytest.raises(Failed, match="was stopped meanwhile") as caught:
        Running(config).status()
    assert caught.value.exit_status == 3 and caught.value.advice == "Start it, and test again."


def test_a_program_that_cannot_write_its_status(config, monkeypatch, stays):
    monkeypatch.setattr(following.files, "free_bytes", lambda path: 0)
    control.Control(config.state_dir).make()
    with pytest.raises(Failed, match="The disk of .* is full") as caught:
        Running(config).status()
    assert caught.value.exit_status == 74 and caught.value.advice == "Make room, and test again."


def test_a_mail_that_is_queued_needs_no_second_test(harness, config, monkeypatch):
    for name in ("_OBEYS", "_STATUS_EVERY"):
        monkeypatch.setattr(following, name, 0.01)
    control.Control(config.state_dir).make()
    mail = QueuedMail(Running(config), harness.spool, harness.id, ALERTS)
    with pytest.raises(Failed, match="was stopped meanwhile") as caught:
        mail.follow(harness.seen.append, harness.seen.append)
    assert caught.value.advice == f"Start it; the mail is queued as {harness.id}, and is sent then."


# Mailboxes.


class Graph:
    """Answers a search by what is in `found`: items, or an error."""

    user, app = "relay@contoso.com", "an app"

    def __init__(self, **found):
        self.found = found
        self.asked = []

    def read(self, method, mailbox, path, params, headers):
        folder = path.split("/")[2]
        self.asked.append((mailbox, folder, params["$filter"]))
        now = self.found.get(folder, [])
        items = now.pop(0) if now and len(now) > 1 else (now or [[]])[0]
        if isinstance(items, Exception):
            raise items
        return _Answer(items)


class _Answer:
    def __init__(self, items):
        self.items = items

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def json(self):
        return {"value": self.items}


MAIL, DRAFT = {"id": "1", "isDraft": False}, {"id": "2", "isDraft": True}
REFUSAL = GraphRefused("no", SimpleNamespace(status=403, code="ErrorAccessDenied"))


def find(seconds=PATIENCE, **found):
    return Mailboxes(Graph(**found), "<it's>", "It").find(ALERTS, ("inbox", "junkemail"), seconds)


@each(
    "found, folder",
    [
        ({"inbox": [[MAIL]]}, "inbox"),
        ({"inbox": [[], [], [DRAFT], [MAIL]]}, "inbox"),
        ({"inbox": [[]], "junkemail": [[], [], [], [MAIL]]}, "junkemail"),
        ({"inbox": [Temporary("busy"), [MAIL]]}, "inbox"),
    ],
)
def test_it_is_waited_for(found, folder):
    assert find(**found) == folder


def test_what_does_not_come():
    assert find(0.01) == "" and find(0.01, inbox=[[DRAFT]]) == "" and find(0.01, inbox=["odd"]) == ""


@pytest.mark.parametrize(
    "error, words",
    [
        (REFUSAL, "Add-MailboxPermission alerts@contoso.com -User relay@contoso.com"),
        (SignInNeeded("Run `m365proxy login`."), "m365proxy login"),
        (Temporary("no way there"), "no way there"),
    ],
)
def test_a_mailbox_that_cannot_be_looked_into(error, words):
    with pytest.raises(Unseen, match=words):
        find(0.01, inbox=[error])


def test_it_is_looked_for_by_its_message_id_and_its_subject():
    graph = Graph(inbox=[[], [MAIL]])
    assert Mailboxes(graph, "<it's>", "It's").find(ALERTS, ("inbox",), PATIENCE)
    assert graph.asked == [
        (ALERTS, "inbox", "internetMessageId eq '<it''s>'"),
        (ALERTS, "inbox", "subject eq 'It''s'"),
    ]
