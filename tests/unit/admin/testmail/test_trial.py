"""`test` against the running program in this process and the stand-in tenant: every step, and every step failing."""

import contextlib
import io
import poplib
import re
import threading

import pytest
from program import ALERTS, PASSWORD, RELAY, SCANS, Program, wait_until

from m365proxy import daemon as running
from m365proxy.admin.terminal import Terminal
from m365proxy.admin.testmail import following, trial
from m365proxy.config import load as configuration
from m365proxy.daemon import Daemon
from m365proxy.delivery import attempt
from m365proxy.errors import NotRunning, UsageError
from m365proxy.system import ownprocess
from m365proxy.system.outbound import Outbound


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    made = Program(tmp_path_factory.mktemp("testmail"))
    made.sign_in()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(running, "_CONTROL_SECONDS", 0.01)
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)  # a new interpreter would take longer than most tests
    for module, names in (
        (following, ("_QUEUE_LOOK", "_MAILBOX_LOOK", "_STATUS_EVERY")),
        (trial, ("_SENT_SECONDS", "_INBOX_SECONDS", "_FETCH_PAUSE")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 0.02)


class Harness:
    """One run of the program for a test, and the command beside it."""

    def __init__(self, program, stack):
        self.program = program
        self.tenant = program.sandbox.tenant
        self.faults = program.sandbox.faults
        self._stack = stack

    def start(self, **settings):
        config = self.configure(**settings)
        self.daemon = daemon = Daemon(config, Outbound(None, config.ca_file, direct=True), environ={})
        daemon.start()
        thread = threading.Thread(target=daemon.serve, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 20)
        self._stack.callback(daemon.ask_stop)
        wait_until(lambda: self.program.status().get("listeners"), what="the program's status")
        return self

    def offline(self):
        self.program.sandbox.offline()
        self._stack.callback(self.program.sandbox.online)

    def configure(self, **settings):
        self.program.configure(receivers=0, **settings)
        return configuration.load(str(self.program.config), {})

    def test(self, sender="", recipient="", login="", ask=None):
        """(exit status, the lines without their times)."""
        config = configuration.load(str(self.program.config), {})
        out = io.StringIO()
        terminal = Terminal(out, {"COLUMNS": "1000"})
        status = trial.run(config, terminal, sender, recipient, login, ask)
        return status or 0, [re.sub(r"^ +[0-9.]+ s |^ {11}", "", line) for line in out.getvalue().splitlines()]


@pytest.fixture
def harness(program, monkeypatch):
    settings = dict(program.settings)
    (program.directory / "state" / "status.json").unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(
            lambda: [program.sandbox.faults.clear(), program.settings.clear(), program.configure(**settings)]
        )
        yield Harness(program, stack)
    tenant = program.sandbox.tenant
    for id in program.directory.glob("state/queue/*/*"):
        id.unlink()
    (program.directory / "state" / "routes.json").unlink(missing_ok=True)
    with tenant.lock:
        tenant.full_access.update((ALERTS, SCANS))
        tenant.send_as |= {(RELAY, ALERTS), (RELAY, SCANS), (ALERTS, ALERTS)}


@pytest.mark.parametrize("kind", ["answer_after", "cut_after"])
def test_what_was_found_to_be_sent_was_not_answered_with_202(harness, monkeypatch, kind):
    monkeypatch.setattr(attempt.Delivery, "first_look", lambda self: 0.01)
    harness.start().faults.add(kind, path="/send$")
    status, lines = harness.test()
    assert status == 0 and not any("request-id" in line for line in lines), lines
    assert "ok Microsoft has taken it over, though it did not say so: the mail was found there" in lines


MFP = {"login": "mfp", "password": PASSWORD, "networks": ["192.168.10.21"]}
APP = {"client_secret": "sandbox-secret", "user": None}


def box(address, **more):
    return {"username": address, "password": PASSWORD, **more}


def test_the_whole_way(harness, caplog):
    caplog.set_level("INFO", "m365proxy")
    status, lines = harness.start().test()
    assert status == 0, lines
    request_id = lines[6].partition("request-id ")[2].rstrip(")")
    queue_id = lines[4].rpartition(" ")[2]
    assert lines == [
        f"m365proxy test: a device's mail from {ALERTS} to {ALERTS}",
        lines[1],
        f"ok connected to SMTP 127.0.0.1:{harness.program.port('smtp')}, TLSv1.3 with the certificate of the config",
        f"ok logged in as {ALERTS}, with a one-time password",
        f"ok 250: on disk, queue id {queue_id}",
        f"ok draft made in {ALERTS}",
        f"ok 202: Microsoft has taken it over (request-id {request_id})",
        f"ok in Sent Items of {ALERTS}",
        f"ok in the inbox of {ALERTS}",
        f"ok fetched from POP3 127.0.0.1:{harness.program.port('pop3')}; its PDF is what was sent",
        lines[10],
    ]
    assert lines[1].startswith("ok m365proxy is running (pid ") and lines[10].startswith("Done, in ")
    assert f"{queue_id} delivered for {ALERTS} to 1 recipients (request-id {request_id})" in caplog.text


# Settings, arguments, and lines that are among those of a test that succeeds.
WAYS = [
    ({"permissions": "send", "pop3_port": None}, {}, ['-  no look into mailboxes: permissions is "send"']),
    (
        {"pop3_port": None, "relay_networks": {"127.0.0.0/8": SCANS}, "mailboxes": [box(ALERTS), {"username": SCANS}]},
        {"sender": SCANS.upper(), "recipient": ALERTS.upper()},
        [
            f"-  without a login: relay_networks has 127.0.0.1 for {SCANS}",
            f"ok in the inbox of {ALERTS}",
            "-  POP3 is off",
        ],
    ),
    (
        {"mailboxes": [box(ALERTS, services=["smtp"], logins=[MFP])], "tls": {}, **APP},
        {"login": "MFP"},
        [
            "ok logged in as mfp, with a one-time password",
            "-  Devices may log in as mfp from 192.168.10.21/32 only",
            f"-  {ALERTS} has no login for POP3",
        ],
    ),
    (
        {"proxy_protocol_from": ["127.0.0.1"], "smtps_port": 0, "tls": {"tls_cert": "auto"}},
        {"recipient": "Someone@Example.org"},
        ["-  someone@example.org is not in the config: look there"],
    ),
    (
        {"mailboxes": [box(ALERTS, folder="archive", sent_items="none")]},
        {},
        ["-  POP3 shows the folder archive, not the inbox"],
    ),
]


@pytest.mark.parametrize("settings, arguments, lines", WAYS, ids=["send", "relay", "app", "proxy", "folder"])
def test_other_ways(harness, settings, arguments, lines):
    status, said = harness.start(**settings).test(**arguments)
    assert status == 0 and set(lines) <= set(said), said


def no_send_as(harness):
    harness.tenant.send_as.clear()


def no_way_to_microsoft(harness):
    harness.offline()


def no_room(harness):
    harness.daemon.spool._room._min_free = 10**18


# What is wrong, settings, arguments; the exit status, the step that fails, what is said of it, and what to do.
FAILURES = [
    (no_send_as, {}, {}, 67, "the delivery", "Add-RecipientPermission", "queue show"),
    (no_way_to_microsoft, {}, {}, 69, "the delivery", "127.0.0.1", "The mail is queued as"),
    (None, {"allowed_domains": ["example.org"]}, {}, 78, "the mail", f"RCPT TO:<{ALERTS}>: 550", "A device"),
    (no_room, {}, {}, 74, "the mail", "452", "A device would be told the same"),
    (None, {"tls": {}, "plaintext_networks": []}, {}, 78, "the login", "AUTH PLAIN: 5", "A device"),
    (None, {"allowed_networks": ["10.0.0.0/8"]}, {}, 78, "the connection", "not in allowed_networks", "reload"),
    (None, {}, {"ask": lambda login: "wrong"}, 78, "the login", "AUTH PLAIN: 535", "hash-password"),
    (
        None,
        {"mailboxes": [box(ALERTS, logins=[MFP])]},
        {"login": "mfp", "ask": lambda login: PASSWORD},
        78,
        "the login",
        "AUTH PLAIN: 535",
        "Devices may log in as mfp from 192.168.10.21/32 only, and not from here (127.0.0.1)",
    ),
]


@pytest.mark.parametrize("arrange, settings, arguments, exit_status, step, words, advice", FAILURES)
def test_a_step_that_fails_is_named(harness, arrange, settings, arguments, exit_status, step, words, advice):
    harness.start(**settings)
    if arrange is not None:
        arrange(harness)
    status, said = harness.test(**arguments)
    failed = [line for line in said if line.startswith("x  ")]
    assert status == exit_status and len(failed) == 1, said
    assert failed[0].startswith(f"x  {step}: ") and words in failed[0]
    assert said[-2] == failed[0] and said[-1].startswith("  ") and advice in said[-1]


def test_a_mailbox_that_cannot_be_looked_into_is_said_once(harness):
    harness.start()
    harness.tenant.full_access.discard(ALERTS)
    status, said = harness.test()
    told = [line for line in said if line.startswith("-  ")]
    assert status == 0 and len(told) == 1, said
    assert "cannot be looked into" in told[0] and "Add-MailboxPermission" in told[0]


def test_what_hides_sent_items_hides_the_inbox(harness, monkeypatch):
    def refuse(self, mailbox, folders, seconds):
        raise following.Unseen(f"no look into {folders[0]}")

    monkeypatch.setattr(following.Mailboxes, "find", refuse)
    status, said = harness.start().test()
    assert status == 0 and said[-2] == f"-  {ALERTS} cannot be looked into: no look into sentitems"


@pytest.mark.parametrize("found, exit_status", [("", 75), ("junkemail", 0)])
def test_a_mail_that_is_not_in_the_inbox(harness, monkeypatch, found, exit_status):
    harness.start()
    monkeypatch.setattr(following.Mailboxes, "find", lambda self, mailbox, folders, seconds: found)
    status, said = harness.test()
    assert status == exit_status and any("Sent Items" in line for line in said)
    if found:
        assert f"!  in the junk mail folder of {ALERTS}" in said and not any("fetched" in line for line in said)
    else:
        assert said[-2].startswith("x  the inbox: not in the inbox of") and "Message trace" in said[-1]


def test_a_mailbox_that_another_client_reads(harness):
    harness.start()
    client = poplib.POP3("127.0.0.1", harness.program.port("pop3"), timeout=20)
    client.user(ALERTS)
    client.pass_(PASSWORD)
    status, said = harness.test()
    client.quit()
    assert status == 0 and f"-  {ALERTS} is being read by another POP3 client, so it was not fetched" in said


def test_what_is_fetched_is_compared(harness, monkeypatch):
    monkeypatch.setattr(trial.Scan, "has_arrived_as", lambda self, octets: False)
    status, said = harness.start().test()
    assert status == 70 and said[-2] == "x  POP3: what was fetched is not what was sent."


def test_other_mail_does_not_pass_for_it(harness, monkeypatch):
    monkeypatch.setattr(trial.Scan, "is_named_in", lambda self, header: False)
    status, said = harness.start().test()
    assert status == 75 and "not among the 20 newest that POP3 shows" in said[-2]


def test_who_interrupts_it_is_told_that_the_mail_goes_on(harness, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(following.QueuedMail, "follow", interrupt)
    harness.start()
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        trial.run(
            configuration.load(str(harness.program.config), {}), Terminal(out, {"COLUMNS": "1000"}), "", "", "", None
        )
    assert re.search(r"The mail goes on by itself\. `.* --config \S+ trace 2\S+`", out.getvalue())


def test_no_password_is_left_behind(harness, monkeypatch):
    """Neither in control/ nor in what is logged."""
    made = []
    real = trial.onetime.make
    monkeypatch.setattr(trial.onetime, "make", lambda: made.append(real()) or made[-1])
    harness.start().test()
    left = [path.name for path in (harness.program.directory / "state" / "control").iterdir()]
    assert len(made) == 2 and [name for name in left if name.startswith("login")] == []


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({}, NotRunning, "m365proxy is not running. Start it"),
        ({"sender": "alert@contoso.com"}, UsageError, f"Did you mean {ALERTS}?"),
        ({"recipient": "nobody"}, UsageError, '--to: "nobody" is no mail address'),
    ],
)
def test_what_cannot_be_tested(harness, arguments, error, words):
    harness.configure()
    with pytest.raises(error, match=re.escape(words)):
        harness.test(**arguments)


@pytest.mark.parametrize(
    "mailboxes, password, words",
    [([box(ALERTS)], "", "An empty password"), ([{"username": ALERTS}], "x", "has no login, so there is no password")],
)
def test_a_password_that_cannot_be_used(harness, mailboxes, password, words):
    harness.start(mailboxes=mailboxes, relay_networks={"127.0.0.1": ALERTS}, pop3_port=None)
    with pytest.raises(UsageError, match=words):
        harness.test(ask=lambda login: password)
