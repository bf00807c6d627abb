"""`check`'s two lines for each mailbox, and what to do about a right that is missing."""

import time

import pytest
from program import ALERTS, RELAY, SCANS, Program

from m365proxy.account import spool_of
from m365proxy.admin.check import runner
from m365proxy.admin.check.result import Group
from m365proxy.admin.check.subject import Subject
from m365proxy.config import load as configuration
from m365proxy.delivery.routes import Route, Routes
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import State
from m365proxy.system import statusfile


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path).sign_in()
    yield made
    made.close()


def found(program, name, **settings):
    """The line of that name."""
    program.configure(**settings)
    return next(line for line in lines(program) if line.name == name)


def lines(program):
    """Those of mailboxes."""
    subject = Subject(configuration.load(str(program.config), {}))
    return [result for group, result in runner.run(subject) if group is Group.MAILBOXES]


def text(line):
    return f"{line.sentence} {line.remedy}"


def one(mailbox, **more):
    return {"username": mailbox, "password": "secret word", **more}


SEND_ONLY = [one(ALERTS, services=["smtp"])]
APP = {"client_secret": "sandbox-secret", "user": None}
APP_ID = "-App c1a4e2d0-36b5-4c0e-8b6f-2f6d1e0a7c22"
FULL_ACCESS = f"Add-MailboxPermission {ALERTS} -User {RELAY} -AccessRights FullAccess"


def no_full_access(tenant):
    tenant.full_access.discard(ALERTS)


def no_send_as(tenant):
    tenant.send_as.discard((RELAY, ALERTS))
    tenant.send_as.discard((ALERTS, ALERTS))


def no_mailbox(tenant):
    del tenant.mailboxes[ALERTS]


def no_licence(tenant):
    tenant.unlicensed.add(ALERTS)


def no_scope(tenant):
    tenant.app_mailboxes = frozenset({SCANS})


def nothing(tenant):
    """All rights are there."""


# what is missing, settings, mark and status of "read", words of it; the same of "send"
EXAMPLES = [
    (nothing, {}, "ok", 0, "can be opened", "info", 0, "unknown until the first delivery"),
    (no_send_as, {}, "ok", 0, "can be opened", "info", 0, "unknown"),
    (no_full_access, {}, "WRONG", 67, FULL_ACCESS, "info", 0, "unknown"),
    (no_full_access, {"pop3_port": None}, "info", 0, FULL_ACCESS, "info", 0, "unknown"),
    (no_full_access, {"mailboxes": SEND_ONLY}, "info", 0, FULL_ACCESS, "info", 0, "unknown"),
    (
        no_full_access,
        {"pop3_port": None, "mailboxes": [one(ALERTS, sent_items="delete_after_days:7")]},
        "WRONG",
        67,
        FULL_ACCESS,
        "info",
        0,
        "unknown",
    ),
    (no_mailbox, {}, "WRONG", 67, "There is no mailbox", "WRONG", 67, "There is no mailbox"),
    (no_mailbox, {"pop3_port": None}, "info", 0, "There is no mailbox", "WRONG", 67, "There is no mailbox"),
    (no_licence, {}, "WRONG", 67, "no licence", "WRONG", 67, "no licence"),
    (no_scope, APP, "WRONG", 67, APP_ID, "info", 0, "unknown"),
    # The app makes the drafts of large mail in the mailbox itself.
    (no_scope, {**APP, "mailboxes": SEND_ONLY}, "WRONG", 67, APP_ID, "info", 0, "unknown"),
    (
        no_scope,
        {**APP, "mailboxes": SEND_ONLY, "attachment_limit_mb": 1},
        "info",
        0,
        APP_ID,
        "info",
        0,
        "unknown",
    ),
]


@pytest.mark.parametrize("arrange,settings,read,read_status,read_words,send,send_status,send_words", EXAMPLES)
def test_send_and_read_are_separate(
    program, arrange, settings, read, read_status, read_words, send, send_status, send_words
):
    arrange(program.sandbox.tenant)
    line = found(program, f"{ALERTS} read", **settings)
    assert (line.mark, line.exit_status) == (read, read_status) and read_words in text(line)
    line = found(program, f"{ALERTS} send", **settings)
    assert (line.mark, line.exit_status) == (send, send_status) and send_words in text(line)


def test_permissions_to_send_only_have_no_line_for_reading(program):
    program.configure(permissions="send", pop3_port=None)
    program.sandbox.forget()
    assert [line.name for line in lines(program)] == [f"{ALERTS} send", f"{SCANS} send"]
    assert program.sandbox.seen("mailFolders") == []


@pytest.mark.parametrize("answer,status", [((403, "ErrorOfTomorrow"), 67), ((400, "ErrorOfTomorrow"), 69)])
def test_an_unknown_answer_is_shown_as_it_is(program, answer, status):
    program.sandbox.tenant.no_access = answer
    program.sandbox.tenant.full_access.discard(ALERTS)
    line = found(program, f"{ALERTS} read")
    assert line.exit_status == status and "ErrorOfTomorrow" in line.sentence and "queued" not in line.sentence


@pytest.mark.parametrize(
    "kind, remedy", [("stranger", "without filter and sign-on page."), ("answer", "Wait a few minutes, then run")]
)
def test_trouble_on_the_way_says_what_to_do(program, kind, remedy):
    program.sandbox.faults.add(kind, path="inbox", status=503)
    line = found(program, f"{ALERTS} read")
    assert line.exit_status == 69 and remedy in line.remedy


# What the last deliveries tell of the right to send.


def waiting(program, code, error, ago):
    """A message of the mailbox was refused and waits."""
    spool = spool_of(configuration.load(str(program.config), {}))
    spool.make()
    incoming = spool.put(Envelope(ALERTS, ALERTS, (SCANS,)))
    incoming.write(b"Subject: x\r\n\r\n")
    spool.save_state(incoming.commit(), State(attempts=1, last_attempt=time.time() - ago, error=error, code=code))


def delivered(program, ago):
    routes = Routes(str(program.directory / "state"), RELAY, True, clock=lambda: time.time() - ago)
    routes.learn(ALERTS, Route(RELAY, True))
    routes.note_sent(ALERTS)


def ran(program, **agos):
    """What a run left in status.json."""
    box = {name: time.time() - ago for name, ago in agos.items()}
    statusfile.write(str(program.directory / "state"), {"mailboxes": {ALERTS: {**box, "last_error": "Cut off"}}})


REFUSED = ("ErrorSendAsDenied", "Add-RecipientPermission", 500)


@pytest.mark.parametrize(
    "steps,mark,exit_status,words",
    [
        ([lambda p: waiting(p, *REFUSED)], "WRONG", 67, "Add-RecipientPermission"),
        ([lambda p: waiting(p, "ErrorInvalidUser", "No such mailbox", 500)], "WRONG", 67, "8 min ago: No such"),
        ([lambda p: waiting(p, "", "No way there", 500)], "warning", 0, "8 min ago: No way there"),
        ([lambda p: delivered(p, 7300)], "ok", 0, "a delivery succeeded 2 h ago"),
        ([lambda p: delivered(p, 7300), lambda p: waiting(p, *REFUSED)], "WRONG", 67, "Add-RecipientPermission"),
        ([lambda p: delivered(p, 100), lambda p: waiting(p, *REFUSED)], "ok", 0, "a delivery succeeded"),
        ([lambda p: ran(p, last_delivery=100), lambda p: waiting(p, *REFUSED)], "ok", 0, "a delivery succeeded"),
        ([lambda p: ran(p, last_delivery=900, last_error_time=500)], "warning", 0, "8 min ago: Cut off"),
    ],
)
def test_what_the_last_deliveries_tell_of_sending(program, steps, mark, exit_status, words):
    for step in steps:
        step(program)
    line = found(program, f"{ALERTS} send")
    assert (line.mark, line.exit_status) == (mark, exit_status) and words in text(line)
