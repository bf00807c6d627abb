"""`check`'s lines: what is asked of Microsoft and of this machine, and what to do about the answers."""

import time

import pytest
from program import ALERTS, RELAY, SCANS, Program

from m365proxy.account import spool_of
from m365proxy.admin import check
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
    """The line of that name, and the exit status of the first thing that is wrong."""
    program.configure(**settings)
    results = check.online(configuration.load(str(program.config), {}))
    return next(result for result in results if result.name == name)


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
LINES = [
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


@pytest.mark.parametrize("arrange,settings,read,read_status,read_words,send,send_status,send_words", LINES)
def test_send_and_read_are_separate(
    program, arrange, settings, read, read_status, read_words, send, send_status, send_words
):
    arrange(program.sandbox.tenant)
    line = found(program, f"{ALERTS} read", **settings)
    assert (line.mark, line.exit_status) == (read, read_status) and read_words in line.sentence
    line = found(program, f"{ALERTS} send", **settings)
    assert (line.mark, line.exit_status) == (send, send_status) and send_words in line.sentence


def test_permissions_to_send_only_have_no_line_for_reading(program):
    program.configure(permissions="send", pop3_port=None)
    program.sandbox.forget()
    results = check.online(configuration.load(str(program.config), {}))
    assert [line.name for line in results[2:]] == [f"{ALERTS} send", f"{SCANS} send"]
    assert program.sandbox.seen("mailFolders") == []


@pytest.mark.parametrize("answer,status", [((403, "ErrorOfTomorrow"), 67), ((400, "ErrorOfTomorrow"), 69)])
def test_an_unknown_answer_is_shown_as_it_is(program, answer, status):
    program.sandbox.tenant.no_access = answer
    program.sandbox.tenant.full_access.discard(ALERTS)
    line = found(program, f"{ALERTS} read")
    assert line.exit_status == status and "ErrorOfTomorrow" in line.sentence and "queued" not in line.sentence


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
    assert (line.mark, line.exit_status) == (mark, exit_status) and words in line.sentence


def test_the_first_stage_that_is_wrong_decides_the_exit_status():
    stages = [("config", 78), ("state", 74), ("port", 75), ("graph", 69), ("sign-in", 77), (f"{ALERTS} read", 67)]
    while stages:
        lines = [check.Result(check.WRONG, name, "", number) for name, number in reversed(stages)]
        assert check.exit_status(lines) == stages[0][1]
        stages.pop(0)
    assert check.exit_status([check.Result(check.OK, "config", "")]) == 0


@pytest.mark.parametrize(
    "revoke,settings,exit_status,words",
    [
        (lambda sandbox: sandbox.entra.revoke(50173), {}, 77, "Run `m365proxy login`"),
        (lambda sandbox: sandbox.entra.refuse("refresh_token", "temporarily_unavailable"), {}, 69, "for now"),
        (lambda sandbox: sandbox.tenant.client_secrets.clear(), APP, 78, "client_secret is wrong"),
    ],
    ids=["revoked", "away", "secret"],
)
def test_the_sign_in_is_renewed_to_know_that_it_is_good(program, revoke, settings, exit_status, words):
    assert found(program, "token", **settings).mark == check.OK
    revoke(program.sandbox)
    line = found(program, "token", **settings)
    assert (line.mark, line.exit_status) == (check.WRONG, exit_status) and words in line.sentence


def offline(program, dropped_root=False, **settings):
    program.configure(**settings)
    return check.offline(configuration.load(str(program.config), {}), False, dropped_root)


@pytest.mark.parametrize(
    "networks,mark,words",
    [
        (["127.0.0.0/8"], check.OK, "passwords are accepted only from this machine"),
        ([], check.OK, "passwords are accepted only from this machine"),
        (["192.168.0.0/16"], check.WARNING, "unencrypted"),
    ],
)
def test_without_certificate_it_depends_on_where_passwords_are_taken(program, networks, mark, words):
    results = offline(program, tls={}, plaintext_networks=networks)
    line = next(result for result in results if result.name == "certificate")
    assert line.mark == mark and words in line.sentence


@pytest.mark.parametrize(
    "dropped,mark,words",
    [
        (True, "warning", "the service may be allowed"),
        (False, "WRONG", "ip_unprivileged_port_start"),
    ],
)
def test_a_low_port_after_root_was_given_up(program, monkeypatch, dropped, mark, words):
    class Refusing(check.socket.socket):
        def bind(self, address):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(check.socket, "socket", Refusing)
    results = offline(program, dropped, smtp_port=25, pop3_port=None)
    line = next(result for result in results if result.name == "port")
    assert line.mark == mark and words in line.sentence
