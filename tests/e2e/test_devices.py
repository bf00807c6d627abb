"""Devices that try and fail: what came in is shown, what is proposed is written, and then the same device succeeds.

Each device is a real client, or speaks as one does that is not at hand.
"""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess

import pytest
from lineclient import LineClient
from program import ALERTS, COMMAND, PASSWORD, SCANS, wait_until
from tools import need

BOSS = "boss@contoso.com"
NOWHERE = "192.0.2.0/24"
ONE_MAILBOX = [{"username": ALERTS, "password": PASSWORD}]


class Lesson:
    """`devices --learn` in another process."""

    def __init__(self, program, *options):
        self.program = program
        self._path = program.directory / "lesson"
        with open(self._path, "wb") as file:
            self._process = subprocess.Popen(
                [*COMMAND, "--config", str(program.config), "devices", "--learn", "10m", *options],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(program.environ, COLUMNS="1000"),
                cwd=program.directory,
            )
        waiting = program.directory / "state" / "control" / "watch,600"
        wait_until(lambda: "The program listens on" in self.said() and not waiting.exists(), what="the lesson")

    def said(self):
        return self._path.read_text()

    def wait_for(self, text):
        wait_until(lambda: text in self.said(), what=text)

    def end(self):
        """Press Ctrl-C; all that was said, and the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.said_at_the_end(), self._process.returncode

    def said_at_the_end(self):
        self._process.wait(60)
        assert "Traceback" not in self.said()
        return self.said()

    def close(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def learn():
    """learn(program, *options) starts a lesson."""
    made = []

    def begin(program, *options):
        made.append(Lesson(program, *options))
        return made[-1]

    yield begin
    for lesson in made:
        lesson.close()


def last_smtp_port(program):
    return [line for line in program.status()["listeners"] if line.startswith("smtp")][-1].rpartition(":")[2]


def swaks(*options, login=ALERTS, sender=ALERTS, to=SCANS):
    """A device that is swaks."""

    def play(program):
        words = [
            need("swaks"),
            "--server",
            "127.0.0.1",
            "--port",
            last_smtp_port(program),
            "--from",
            sender,
            "--to",
            to,
        ]
        if login:
            words += ["--auth", "LOGIN", "--auth-user", login, "--auth-password", PASSWORD]
        done = subprocess.run([*words, *options], capture_output=True, timeout=60, env=program.environ)
        return done.returncode == 0

    return play


def curl(program):
    """curl logs in if AUTH is offered, and gives up if not."""
    words = [need("curl"), "-s", "--noproxy", "*", f"smtp://127.0.0.1:{last_smtp_port(program)}", "--mail-from", ALERTS]
    words += ["--mail-rcpt", SCANS, "-u", f"{ALERTS}:{PASSWORD}", "-T", "-"]
    done = subprocess.run(words, input=b"Subject: x\r\n\r\nx\r\n", capture_output=True, timeout=60, env=program.environ)
    return done.returncode == 0


def openssl_old(program):
    """openssl s_client with TLS 1.0, which says EHLO and STARTTLS before."""
    words = [need("openssl"), "s_client", "-connect", f"127.0.0.1:{last_smtp_port(program)}", "-starttls", "smtp"]
    words += ["-tls1", "-cipher", "ALL:@SECLEVEL=0", "-quiet"]
    done = subprocess.run(words, input=b"QUIT\r\n", capture_output=True, timeout=60, env=program.environ)
    return b"221 " in done.stdout


def speaks_lf(program):
    """Tiny firmware: all lines end with LF."""
    import base64

    plain = base64.b64encode(f"\0{ALERTS}\0{PASSWORD}".encode()).decode()
    with socket.create_connection(("127.0.0.1", int(last_smtp_port(program))), timeout=30) as client:
        client.sendall(
            f"AUTH PLAIN {plain}\nMAIL FROM:<>\nRCPT TO:<{SCANS}>\nDATA\nSubject: x\n\nx\n.\nQUIT\n".encode()
        )
        return client.makefile("rb").read().decode().splitlines()[-1].startswith("221")


def starts_tls_at_once(program):
    """HP MFPs do so on the port for STARTTLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", program.port("smtp")), 30)
    with plain, contextlib.suppress(OSError), context.wrap_socket(plain) as client:
        return client.recv(100).startswith(b"220 ")
    return False


NO_PLAINTEXT = {"plaintext_networks": [NOWHERE]}

# name: settings, device, what is said of it, what is in the config then, whether a restart is needed
LEARNT = {
    "no login": (
        {"mailboxes": ONE_MAILBOX},
        swaks(login=""),
        "does not log in",
        {"relay_networks": {"127.0.0.1": ALERTS}},
        False,
    ),
    "no TLS": (
        NO_PLAINTEXT,
        curl,
        "does not begin TLS, so it cannot log in",
        {"plaintext_networks": [NOWHERE, "127.0.0.1"]},
        False,
    ),
    "not in allowed_networks": (
        {"allowed_networks": NOWHERE},
        swaks(),
        "connects from outside allowed_networks",
        {"allowed_networks": [NOWHERE, "127.0.0.1"]},
        False,
    ),
    "a sender of the tenant": (
        {},
        swaks(sender=BOSS),
        "sends with a From that the mailbox may not use",
        {"mailboxes": [{**ONE_MAILBOX[0], "send_as": [BOSS]}, {"username": SCANS, "password": PASSWORD}]},
        False,
    ),
    "a sender that nobody may be": (
        {"mailboxes": ONE_MAILBOX},
        swaks(sender="root@localhost"),
        "sends with a From that the mailbox may not use",
        {"mailboxes": [{**ONE_MAILBOX[0], "rewrite_from": True}]},
        False,
    ),
    "a domain": (
        {"allowed_domains": ["contoso.com"]},
        swaks(to="sales@fabrikam.example"),
        "sends to a domain that is not in allowed_domains",
        {"allowed_domains": ["contoso.com", "fabrikam.example"]},
        False,
    ),
    "a login elsewhere": (
        {"mailboxes": [{"username": ALERTS, "logins": [{"login": "ups", "password": PASSWORD, "networks": NOWHERE}]}]},
        swaks(login="ups"),
        "logs in from outside the login's networks",
        {
            "mailboxes": [
                {
                    "username": ALERTS,
                    "logins": [{"login": "ups", "password": PASSWORD, "networks": [NOWHERE, "127.0.0.1"]}],
                }
            ]
        },
        False,
    ),
    "TLS at once": (
        {},
        starts_tls_at_once,
        "begins TLS at once on a port for STARTTLS",
        {"tls_first": ["127.0.0.1"]},
        False,
    ),
    "old TLS": (
        {},
        openssl_old,
        "supports only old TLS",
        {"listeners": [{"protocol": "smtp", "port": 0, "min_version": "TLSv1"}]},
        True,
    ),
    "bare LF": (
        {"limits": {"data_seconds": 1}},
        speaks_lf,
        "ends its lines with a bare LF",
        {"listeners": [{"protocol": "smtp", "port": 0, "lf_only_clients": True}]},
        True,
    ),
}


@pytest.mark.parametrize("name", LEARNT)
def test_what_was_learnt_works(name, make_program, learn):
    settings, play, said, written, needs_restart = LEARNT[name]
    program = make_program(**settings).sign_in().start()
    program.sandbox.tenant.send_as.add((ALERTS, BOSS))
    before = program.config.read_text()
    lesson = learn(program, "--apply")
    assert not play(program)
    lesson.wait_for(said)
    told, status = lesson.end()
    assert status == 0 and f"Written: {program.config}" in told
    config = json.loads(program.config.read_text())
    if needs_restart:
        port = config["listeners"][0]["port"]
        assert port >= 2526 and f"Set port {port} on the device." in told and "Restart the running program" in told
        config["listeners"][0]["port"] = 0  # as in all tests; it may not be free any more
        program.config.write_text(json.dumps(config))
    assert {key: config[key] for key in written} == written
    copy = next(line.partition(": ")[2] for line in told.splitlines() if "Kept as it was" in line)
    with open(copy, encoding="utf-8") as file:
        assert file.read() == before
    if needs_restart:
        program.stop()
        program.start()
    assert play(program)


def test_without_apply_nothing_is_written(make_program, learn):
    program = make_program(mailboxes=ONE_MAILBOX).sign_in().start()
    before = program.config.read_text()
    lesson = learn(program)
    assert not swaks(login="")(program)
    lesson.wait_for("does not log in")
    told, status = lesson.end()
    assert status == 0 and f'"relay_networks": {{"127.0.0.1": "{ALERTS}"}}' in told and "Nothing was written" in told
    assert program.config.read_text() == before and not swaks(login="")(program)


@pytest.fixture
def quiet(shared_program):
    """A program that tests leave as it was."""
    return shared_program


def test_what_is_accepted_is_told_to_the_end(quiet, learn):
    lesson = learn(quiet)
    with LineClient(quiet.port("smtp")) as device:
        device.line()
        for line in ("HELO ups", "MAIL FROM:<>"):
            device.socket.sendall(f"{line}\r\n".encode())
            device.lines()
    assert swaks()(quiet)
    lesson.wait_for("handed over to Exchange")
    told, _ = lesson.end()
    assert "connected to port" in told and "its mail was accepted from 127.0.0.1" in told
    assert "There is nothing to set." in told and PASSWORD not in told


def test_the_unknown_and_the_wrong(quiet, learn):
    lesson = learn(quiet, "--apply")
    before = quiet.config.read_text()
    assert not swaks(login="mfp-1")(quiet)
    lesson.wait_for("logs in with an unknown user name")
    told, _ = lesson.end()
    assert "init --add-login` mfp-1" in told or "init --add-login mfp-1`" in told
    assert quiet.config.read_text() == before


def test_who_guesses_gets_no_proposal(quiet, learn):
    lesson = learn(quiet, "--apply")
    before = quiet.config.read_text()
    with LineClient(quiet.port("smtp")) as device:
        device.line()
        device.socket.sendall(b"MAIL FROM:<>\r\n")
        device.lines()
    for number in range(4):
        assert not swaks(login=f"admin{number}")(quiet)
    lesson.wait_for("admin3")
    told, _ = lesson.end()
    assert "Nothing is proposed" in told and "Written" not in told and "relay_networks" not in told
    assert quiet.config.read_text() == before


def test_a_peculiarity_is_shown_though_it_was_logged_before(make_program, learn):
    program = make_program(**NO_PLAINTEXT).start()
    assert not curl(program)
    wait_until(lambda: "it was offered no AUTH" in program.said(), what="the line in the log")
    lesson = learn(program)
    assert not curl(program)
    lesson.wait_for("does not begin TLS, so it cannot log in")
    lesson.end()


def test_nothing_came(quiet, learn):
    told, status = learn(quiet).end()
    assert status == 0 and "Nothing came in" in told and "for this machine only" in told


def test_its_time_ends_it(quiet):
    done = quiet.command("devices", "--learn", "1s")
    assert done.returncode == 0 and "Nothing came in" in done.stdout


def test_a_program_that_stops_ends_it(make_program, learn):
    program = make_program().start()
    lesson = learn(program)
    program.stop()
    assert "The program has stopped" in lesson.said_at_the_end()
    assert lesson._process.returncode == 3


@pytest.mark.parametrize(
    "settings, words, status, said",
    [
        ({}, ["--learn", "30m"], 3, "m365proxy is not running"),
        ({"logging": {"events_mb": 0}}, ["--learn", "30m"], 64, "logging.events_mb"),
        ({}, ["--learn", "soon"], 64, "--learn takes a time such as 30m"),
        ({}, ["--learn", "2d"], 64, "up to 24h"),
        ({}, ["--apply"], 64, "--apply goes with --learn"),
        ({}, ["--learn", "1m", "--json"], 64, "--json does not go with --learn"),
    ],
)
def test_what_cannot_be_done_is_said(make_program, settings, words, status, said):
    done = make_program(**settings).command("devices", *words)
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr


# -- the table -------------------------------------------------------------


def devices(program):
    return json.loads(program.command("devices", "--json").stdout)["devices"]


def test_the_table_is_true_while_it_runs_after_a_stop_and_after_a_kill(make_program):
    program = make_program().sign_in().start()
    assert devices(program) == []
    assert swaks()(program)
    assert devices(program)[0]["messages"] == 1
    program.stop()
    assert devices(program)[0]["messages"] == 1
    program.start()
    assert swaks()(program) and not swaks(login="mfp-1")(program)
    wait_until(lambda: devices(program)[0]["trouble"], what="the refusal")
    program.stop(signal.SIGKILL)
    (device,) = devices(program)
    assert (device["messages"], device["trouble"], device["auth"]) == (2, "unknown login", "LOGIN")
    program.start()
    program.stop()
    assert devices(program) == [device]
    told = program.command("devices", COLUMNS="80").stdout
    assert "127.0.0.1" in told and "logs in with an unknown user name" in told and "init --add-login" in told
    assert max(len(line) for line in told.splitlines() if "`" not in line) <= 80
    assert os.stat(program.directory / "state" / "devices.json").st_mode & 0o077 == 0


def test_without_an_event_log_the_table_says_so(make_program):
    program = make_program(logging={"events_mb": 0}).sign_in().start()
    assert swaks()(program)
    program.stop()
    told = program.command("devices").stdout
    assert "127.0.0.1" in told and "logging.events_mb" in told
