"""The running program in this process: what a reload changes and what not, and loops that go on."""

import json
import logging
import os
import signal
import smtplib
import ssl
import subprocess
import sys
import threading
import time

import pytest
from program import ALERTS, PASSWORD, Program, wait_until

from m365proxy import daemon as module
from m365proxy.config import load as configuration
from m365proxy.daemon import Daemon
from m365proxy.delivery import sentcopies
from m365proxy.errors import SignInNeeded
from m365proxy.system import ownprocess, signals
from m365proxy.system.outbound import Outbound

# What takes half a megabyte and more each.
SELDOM = ("msal", "jwt", "cryptography", "requests", "html", "email.policy", "email.headerregistry")


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path)
    yield made
    made.close()


@pytest.fixture
def make_daemon(program, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "m365proxy")
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)  # a new interpreter would take longer than most tests
    made = []

    def make(asked=None, **settings):
        program.configure(receivers=0, **settings)  # this process has threads, and so cannot be forked
        config = configuration.load(str(program.config), {})
        outbound = Outbound(None, config.ca_file, direct=True)
        made.append(Daemon(config, outbound, environ={}, asked=asked))
        made[-1].start()
        return made[-1]

    yield make
    for daemon in made:
        daemon.stop()


def sweep(daemon):
    """What is done once a day."""
    [chore] = [chore for chore in daemon._chores if chore._name == "sweep"]
    chore._action()


def reload(daemon, program, caplog, **settings):
    """What the log says of a reload with other settings."""
    caplog.clear()
    program.configure(**settings)
    daemon.reload()
    return caplog.text


@pytest.mark.parametrize(
    "path,value",
    [
        ("client_secret", "another"),
        ("client_certificate", {"private_key": "key.pem", "thumbprint": "A1" * 20}),
        ("permissions", "send"),
        ("https_proxy", "http://proxy.contoso.com:3128"),
        ("ca_file", "cert.pem"),
        ("graph_url", "https://graph.contoso.com"),
        ("authority_url", "https://login.contoso.com"),
        ("logging", {"level": "DEBUG"}),
        ("queue.retry_interval", 77),
        ("limits.connections", 7),
        ("receivers", 2),
        ("state_dir", "elsewhere"),
    ],
)
def test_a_reload_says_each_time_what_needs_a_restart(make_daemon, program, caplog, path, value):
    daemon = make_daemon(pop3_port=None)
    section, _, name = path.partition(".")
    settings = {section: dict(program.settings.get(section, {}), **{name: value}) if name else value}
    for _ in range(2):
        assert f"a change of {path} needs a restart" in reload(daemon, program, caplog, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"queue": {"min_free_mb": 0, "keep_failed_days": 7}}, {"limits": {"recipients": 3}}, {"notify": ALERTS}],
)
def test_a_reload_that_needs_no_restart_does_not_ask_for_one(make_daemon, program, caplog, settings):
    daemon = make_daemon()
    said = reload(daemon, program, caplog, **settings)
    assert "reloaded" in said and "restart" not in said


def test_a_change_that_is_taken_back_needs_no_restart(make_daemon, program, caplog):
    daemon = make_daemon()
    assert "restart" in reload(daemon, program, caplog, ca_file=str(program.certificate))
    assert "restart" not in reload(daemon, program, caplog, ca_file=program.sandbox.ca_file)


def test_sizes_stay_those_of_the_permissions_that_work(make_daemon, program, caplog):
    daemon = make_daemon(pop3_port=None)
    before = daemon._submission.policy.size_limit
    reload(daemon, program, caplog, permissions="send")
    assert daemon._submission.policy.size_limit == before


def test_receivers_get_the_config_that_was_read(make_daemon, program, caplog, monkeypatch):
    daemon, heard = make_daemon(), []
    monkeypatch.setattr(daemon._receivers, "reload", lambda *values: heard.append(values))
    reload(daemon, program, caplog, notify=ALERTS)
    assert heard == [(str(program.config), program.config.read_bytes())]


def test_a_reload_logs_the_warnings_of_the_config(make_daemon, program, caplog):
    daemon = make_daemon()
    assert "hash-password" in reload(daemon, program, caplog)


def test_another_state_dir_does_not_cut_off_the_running_program(make_daemon, program, caplog):
    daemon = make_daemon()
    reload(daemon, program, caplog, state_dir="elsewhere")
    status = program.directory / "state" / "status.json"
    daemon.write_status()
    assert json.loads(status.read_text())["pid"] == os.getpid()
    caplog.clear()
    (program.directory / "state" / "control" / "reload,").touch()
    daemon._obey()
    assert "reloaded" in caplog.text
    sweep(daemon)
    assert not (program.directory / "elsewhere").exists() and "cannot be" not in caplog.text


def test_a_reload_without_certificate_keeps_the_old_one(make_daemon, program, caplog):
    daemon = make_daemon(pop3_port=None, smtps_port=0)
    said = reload(daemon, program, caplog, tls={}, smtps_port=None)
    assert "keep the certificate they have" in said and "listeners" in said
    trust = ssl.create_default_context(cafile=str(program.certificate))
    plain, implicit = (listener.port for listener in daemon.listeners)
    with smtplib.SMTP("localhost", plain, timeout=30) as smtp:
        smtp.starttls(context=trust)
        assert smtp.noop()[0] == 250
    with smtplib.SMTP_SSL("localhost", implicit, timeout=30, context=trust) as smtp:
        assert smtp.noop()[0] == 250
    assert "fault" not in caplog.text


def test_mail_of_a_mailbox_without_copies_leaves_none(make_daemon, program, caplog, monkeypatch):
    """And a reload turns it off."""
    monkeypatch.setattr(sentcopies, "_WAITS", (0.2, 0.2))
    program.sign_in()
    mailbox = {"username": ALERTS, "password": PASSWORD}
    tenant = program.sandbox.tenant
    daemon = make_daemon(pop3_port=None, mailboxes=[dict(mailbox, sent_items="none")])

    def send():
        with smtplib.SMTP("localhost", daemon.listeners[0].port, timeout=30) as smtp:
            smtp.login(ALERTS, PASSWORD)
            smtp.sendmail(ALERTS, [ALERTS], b"Subject: x\r\n\r\nx\r\n")
        wait_until(lambda: program.queue() == [] and tenant.delivered)

    send()
    wait_until(lambda: "removed 1 sent copies" in caplog.text)
    assert tenant.items(ALERTS, "sentitems") == [] and len(tenant.items(ALERTS)) == 1
    reload(daemon, program, caplog, mailboxes=[mailbox])
    send()
    assert not daemon._sent_copies._timer.is_running and len(tenant.items(ALERTS, "sentitems")) == 1


def test_the_daily_work_goes_by_the_config_of_a_reload(make_daemon, program, caplog, monkeypatch):
    daemon = make_daemon()
    done = []
    monkeypatch.setattr(daemon._daily, "run", lambda config: done.append(config.queue.keep_failed_days))
    reload(daemon, program, caplog, queue={"min_free_mb": 0, "keep_failed_days": 7})
    sweep(daemon)
    assert done == [7]


def test_a_signal_in_the_middle_of_anything_stops_the_program(make_daemon, monkeypatch):
    """Its handler runs in the main thread, which may just then hold a lock of what it waits with."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.update({number: handler}))
    monkeypatch.setattr(module, "_CONTROL_SECONDS", 0.001)
    daemon = make_daemon(asked=signals.listen())
    serving = threading.Thread(target=daemon.serve, daemon=True)
    serving.start()

    def interrupt():
        with daemon._stop_asked._cond:
            handlers[signal.SIGTERM](signal.SIGTERM, None)

    interrupted = threading.Thread(target=interrupt, daemon=True)
    interrupted.start()
    interrupted.join(10)
    assert not interrupted.is_alive()
    serving.join(20)
    assert not serving.is_alive()


def test_a_fault_while_obeying_does_not_end_the_program(make_daemon, monkeypatch, caplog):
    daemon = make_daemon()
    monkeypatch.setattr(module, "_CONTROL_SECONDS", 0.001)
    calls = []

    def obey():
        calls.append(1)
        if len(calls) > 1:
            daemon.ask_stop()
        raise ValueError("a fault")

    monkeypatch.setattr(daemon, "_obey", obey)
    daemon.serve()
    assert len(calls) == 2 and "control ended by an error in this program" in caplog.text


def test_it_stops_once(make_daemon, caplog):
    daemon = make_daemon()
    daemon.stop()
    daemon.stop()
    assert [record.message for record in caplog.records].count("stopped") == 1


def test_what_an_earlier_run_had_in_hand_is_taken_over_before_anybody_can_send(make_daemon, monkeypatch):
    steps = []

    def note(kind, name):
        whole = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self: (steps.append(name), whole(self)))

    note(module.Courier, "recover")
    note(module.Listener, "start")
    make_daemon(pop3_port=None)
    assert steps == ["recover", "start"]


def test_what_a_dead_run_left_unfinished_goes_at_the_start_and_what_holds_mail_is_private(make_daemon, program):
    state = program.directory / "state"
    left = []
    for place in (".", "seen", "control", "maildrop", "queue/state"):
        (state / place).mkdir(parents=True, exist_ok=True)
        left.append(state / place / "status.json.77.1f.tmp")
        left[-1].write_bytes(b"{")
        os.utime(left[-1], (1_700_000_000, 1_700_000_000))
    make_daemon()
    assert [path for path in left if path.exists()] == []
    if os.name == "posix":
        private = ("seen", "control", "maildrop", "queue")
        assert {(state / name).stat().st_mode & 0o777 for name in private} == {0o700}


def test_sending_goes_on_after_a_revocation_only_with_a_new_sign_in(make_daemon, program, caplog):
    daemon = make_daemon(queue={"min_free_mb": 0})
    program.sign_in()
    tokens, skipped = daemon.account.tokens, [0.0]
    tokens._monotonic = lambda: time.monotonic() + skipped[0]
    wait_until(lambda: not daemon.courier.status()["paused"], what="the first sign-in")
    program.sandbox.entra.revoke()
    skipped[0] += 61.0
    with pytest.raises(SignInNeeded):
        daemon.account.graph.read("GET", ALERTS, "/mailFolders/inbox")
    caplog.clear()
    for _ in range(3):
        skipped[0] += 901.0
        with pytest.raises(SignInNeeded):
            daemon._probe()
        daemon.write_status()
        assert "`m365proxy login`" in program.status()["sign_in"]["error"]
    assert "is back" not in caplog.text
    program.sign_in()
    daemon._probe()
    daemon.write_status()
    assert program.status()["sign_in"]["error"] == "" and caplog.text.count("is back") == 1


def test_a_clear_session_goes_by_the_networks_of_a_reload(make_daemon, program, caplog):
    daemon = make_daemon()
    port = next(listener.port for listener in daemon.listeners if listener.protocol == "smtp")
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        reload(daemon, program, caplog, plaintext_networks=["10.0.0.0/8"])
        assert smtp.mail(ALERTS)[0] == 421


def test_nothing_is_loaded_that_a_gateway_seldom_needs():
    code = f"import sys, m365proxy.daemon; print([name for name in {SELDOM} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
