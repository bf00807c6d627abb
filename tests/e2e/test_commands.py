"""Commands, their exit status and what they say: sign-in, status, queue, and everything that can be wrong."""

import json
import os
import re
import signal
import smtplib
import socket
import stat
import subprocess
import sys

import pytest
from program import ALERTS, COMMAND, PASSWORD, ROOT, SCANS, STOPPED, wait_until

signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def submit(program, recipient=SCANS, body="x"):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [recipient], f"From: {ALERTS}\r\nTo: {recipient}\r\nSubject: t\r\n\r\n{body}\r\n")


def said(done):
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


def test_login_prints_code_and_address_and_stores_nothing_readable(make_program):
    program = make_program()
    done = program.login()
    assert "devicelogin" in done.stdout and f"Signed in as {program.sandbox.tenant.user}" in done.stdout
    state = program.directory / "state"
    stored = (state / "tokens.enc").read_bytes()
    assert b"refresh_token" not in stored and b"RefreshToken" not in stored
    if sys.platform != "win32":  # which has access lists instead of modes
        assert stat.S_IMODE((state / "token.key").stat().st_mode) == 0o600
        assert stat.S_IMODE((state / "tokens.enc").stat().st_mode) == 0o600


def test_dash_dash_login_is_login(make_program):
    done = make_program().command("--login")
    assert done.returncode == 0 and "Signed in" in done.stdout


@pytest.mark.parametrize("wrong", ["user", "tenant"])
def test_a_sign_in_of_somebody_else_is_refused_and_the_old_one_kept(make_program, wrong):
    program = make_program()
    program.login()
    before = (program.directory / "state" / "tokens.enc").read_bytes()
    if wrong == "user":
        program.sandbox.tenant.signs_in_as = SCANS
    else:
        program.configure(tenant_id="11111111-2222-3333-4444-555555555555")
    done = program.command("login")
    assert done.returncode in (69, 77, 78) and said(done)
    assert (program.directory / "state" / "tokens.enc").read_bytes() == before


def test_logout(make_program):
    program = make_program()
    program.login()
    assert "is deleted" in program.command("logout").stdout
    assert program.command("logout").returncode == 0
    assert re.search(r"^ +\S.* login$", program.command("status").stdout, re.MULTILINE)


def test_without_a_sign_in_mail_is_queued_and_leaves_after_login(make_program):
    program = make_program().start()
    submit(program)
    wait_until(lambda: "sending is paused" in program.said(), what="the pause")
    assert "m365proxy login" in program.said()
    status = json.loads(program.command("status", "--json").stdout)
    assert status["running"] and status["queue"]["waiting"] == 1
    program.login()
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 1, what="the delivery after login")
    wait_until(lambda: program.queue() == [])


def test_status_and_queue_for_people(make_program):
    program = make_program(permissions="send", queue={"on_ambiguous": "hold", "min_free_mb": 0})
    program.settings.pop("pop3_port")
    program.configure()
    program.sign_in().start()
    program.sandbox.faults.add("answer_after", path="sendMail", status=504, code="UnknownError")
    submit(program)
    wait_until(lambda: program.queue() == [("cur", "held")], what="the hold")
    assert len(program.sandbox.tenant.delivered) == 1
    listed = program.command("queue", "list")
    assert listed.returncode == 0 and "held" in listed.stdout and SCANS in listed.stdout
    told = json.loads(program.command("queue", "list", "--json").stdout)
    shown = program.command("queue", "show", told["id"])
    assert shown.returncode == 0 and "Subject: t" in shown.stdout and "504" in shown.stdout
    wait_until(lambda: "1 held" in program.command("status").stdout, what="a status that has seen it")
    # held stays held, also over a restart
    assert program.stop() == STOPPED
    assert program.command("status").stdout.startswith("Not running\n")
    program.start()
    assert program.queue() == [("cur", "held")] and len(program.sandbox.tenant.delivered) == 1


@pytest.mark.parametrize("id", ["nothing", "../../config.json", "", "a\nb"])
def test_queue_show_of_what_is_not_there(make_program, id):
    done = make_program().command("queue", "show", id)
    assert done.returncode == 64 and "queue list" in said(done)


def test_hash_password_reads_stdin_only(make_program):
    program = make_program()
    done = program.command("hash-password", stdin="secret word\n", config=False)
    assert done.returncode == 0 and done.stdout.startswith("scrypt$16384$8$1$")
    assert program.command("hash-password", "secret", config=False).returncode == 64
    program.configure(mailboxes=[{"username": ALERTS, "password": done.stdout.strip()}])
    program.sign_in().start()
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        assert smtp.login(ALERTS, "secret word")[0] == 235
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp, pytest.raises(smtplib.SMTPException):
        smtp.login(ALERTS, "secret")


@pytest.mark.parametrize(
    "words,status,hint",
    [
        (["staus"], 64, "status"),
        (["queue"], 64, "--help"),
        (["queue", "burn"], 64, "--help"),
        (["run", "--fast"], 64, "--help"),
        (["--help"], 0, ""),
        (["--version"], 0, ""),
    ],
)
def test_usage(make_program, words, status, hint):
    done = make_program().command(*words)
    assert done.returncode == status and hint in said(done)


def flat(text):
    """A text without the ends of its lines, which are where the terminal's width puts them."""
    return " ".join(text.split())


def test_check_says_what_to_type_and_that_works(make_program):
    program = make_program()
    done = program.command("check", "--offline")
    assert done.returncode == 77 and "Traceback" not in done.stderr
    (typed,) = re.findall(r"^ +(.* login)$", done.stdout, re.MULTILINE)
    assert flat(done.stdout).endswith(f"1 problem; mend: sign-in. Run `{flat(typed)}`.")
    followed = program.type(typed)
    assert followed.returncode == 0 and "Signed in" in followed.stdout, followed.stderr
    done = program.command("check", "--offline")
    assert done.returncode == 0, done.stdout


def test_check_prints_groups_of_lines(make_program):
    program = make_program().sign_in()
    (program.directory / "key.pem").chmod(0o600)
    done = program.command("check", PYTHONIOENCODING="utf-8")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == ""
    assert [line for line in lines if line[:1] > " "][:3] == ["This machine", "Microsoft", "Mailboxes"]
    assert f"  - {ALERTS} send: unknown until the first delivery" in lines
    assert f"  ✓ {ALERTS} read: its inbox can be opened" in lines
    names = [line.split()[1].rstrip(":") for line in lines if line.startswith("  ✓")]
    assert names[:2] + names[-3:] == ["config", "certificate", "permissions", ALERTS, SCANS]


def test_check_prints_each_line_when_it_is_known(make_program):
    """What takes long comes later: it is answered only after the lines before it were read."""
    program = make_program().sign_in()
    fault = program.sandbox.faults.add("hang", path=r"^/v1\.0/$")
    words = [*COMMAND, "--config", str(program.config), "check"]
    environ = {name: value for name, value in program.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as running:
        seen = b""
        while b"tls: " not in seen:
            seen += os.read(running.stdout.fileno(), 65536)
        assert b"graph: " not in seen  # what is not sent line by line comes in one piece
        wait_until(lambda: fault.hits)
        fault.release()
        rest, complaints = running.communicate(timeout=60)
    assert b"graph: " in rest and complaints == b""


def test_check_as_json_is_one_object(make_program):
    program = make_program().sign_in()
    done = program.command("check", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["ok"] is True and told["exit_status"] == 0
    assert {
        "group": "Mailboxes",
        "mark": "ok",
        "name": f"{ALERTS} read",
        "sentence": "its inbox can be opened",
        "remedy": "",
        "exit_status": 0,
    } in told["checks"]
    program.sandbox.entra.revoke(50173)
    done = program.command("check", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 77 and told["ok"] is False and told["exit_status"] == 77
    assert told["summary"] == "1 problem; mend: token. Run `m365proxy login`."
    assert done.stderr == ""  # nothing is said twice


def test_a_wrong_config_is_told_whole(make_program):
    program = make_program(smtp_port="25", mailboxs=[], queue={"retry_intervall": 5})
    for words in ([], ["check", "--offline"], ["status"], ["login"]):
        done = program.command(*words)
        assert done.returncode == 78
        text = said(done)
        assert "smtp_port" in text and "mailboxs" in text and "queue.retry_interval" in text


@pytest.mark.parametrize("content,words", [(None, "cannot be read: No such file"), ("garbage", "is not an RSA key")])
def test_a_key_of_the_registration_that_cannot_be_used(make_program, content, words):
    program = make_program(client_certificate={"private_key": "app.pem", "thumbprint": "A1" * 20})
    if content:
        (program.directory / "app.pem").write_text(content)
    for command in (["check", "--offline"], ["run"]):
        done = program.command(*command)
        assert done.returncode == 78 and words in flat(done.stdout + done.stderr) and "Traceback" not in done.stderr


def test_a_log_file_that_cannot_be_written(make_program):
    program = make_program(logging={"file": "nowhere/log"}).sign_in()
    for command in (["check", "--offline"], ["run"]):
        done = program.command(*command)
        assert done.returncode == 73 and "logging.file: " in flat(done.stdout + done.stderr)


def test_a_missing_config_names_the_places(make_program):
    done = make_program().command("status", config=False)
    machine = "ProgramData" if sys.platform == "win32" else "/etc/m365proxy.json"
    assert done.returncode == 78 and machine in said(done)


def test_a_tampered_token_file(make_program):
    program = make_program()
    program.sign_in()
    path = program.directory / "state" / "tokens.enc"
    path.write_bytes(path.read_bytes()[:-10] + b"tampered==")
    done = program.command("check", "--offline")
    assert done.returncode == 77 and re.search(r"^ +\S.* login$", done.stdout, re.MULTILINE)
    program.start()
    submit(program)
    wait_until(lambda: "sending is paused" in program.said())
    wait_until(lambda: program.queue() == [("new", "")])
    program.login()
    wait_until(lambda: program.queue() == [] and len(program.sandbox.tenant.delivered) == 1)


def test_a_busy_port(make_program):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        program = make_program(smtp_port=holder.getsockname()[1])
        done = program.command("run")
        assert done.returncode == 75 and "in use" in said(done)


def test_a_second_run_names_the_pid(program):
    done = program.command("run")
    assert done.returncode == 75 and f"pid {program.process.pid}" in said(done)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_state_directory(make_program, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    done = make_program(state_dir=str(locked)).command("run")
    assert done.returncode == 73 and str(locked) in said(done)


def test_a_state_directory_that_cannot_be_made(make_program, tmp_path):
    (tmp_path / "file").write_text("")
    done = make_program(state_dir=str(tmp_path / "file" / "state")).command("run")
    assert done.returncode == 73 and "cannot be created" in said(done)


@pytest.mark.parametrize("how", ["mismatch", "missing", "garbage"])
def test_a_certificate_that_cannot_be_used(make_program, how):
    from m365proxy.server import tls

    program = make_program()
    key = program.directory / "key.pem"
    if how == "mismatch":
        key.write_bytes(tls.self_signed(["other"])[1])
    elif how == "missing":
        key.unlink()
    else:
        key.write_bytes(b"garbage")
    done = program.command("run")
    assert done.returncode == 78 and "key.pem" in said(done)


# Runs the program as `python m365proxy.py` does, and sends itself a signal when it has come to a certain import.
EARLY = """
import os, signal, sys
number, place = int(sys.argv.pop(1)), sys.argv.pop(1)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == place:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
from m365proxy.cli import main
sys.exit(main())
"""


@signals
@pytest.mark.skipif("M365PROXY_TEST_COMMAND" in os.environ, reason="starts the checkout, not what is installed")
@pytest.mark.parametrize(
    "name, place",
    [
        *((name, "m365proxy.admin.commands") for name in ("SIGHUP", "SIGUSR1", "SIGTERM", "SIGINT")),
        *((name, place) for name in ("SIGHUP", "SIGTERM") for place in ("m365proxy.daemon", "m365proxy.spool.spool")),
    ],
)
def test_a_signal_before_the_program_listens(make_program, name, place):
    program = make_program()
    number = getattr(signal, name)
    with open(program.log, "ab") as log:
        program.process = subprocess.Popen(
            [sys.executable, "-c", EARLY, str(int(number)), place, "--config", str(program.config), "run"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=program.environ,
        )
    if name in ("SIGHUP", "SIGUSR1"):
        wait_until(lambda: "started: " in program.said() or program.process.poll() is not None)
        program.process.terminate()
    assert program.process.wait(30) == 0
    assert "stopped" in program.said()


@signals
def test_an_orderly_stop_and_signals(program):
    program.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in program.said())
    program.process.send_signal(signal.SIGUSR1)
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.ehlo()
        assert program.stop() == STOPPED
        with pytest.raises((smtplib.SMTPServerDisconnected, smtplib.SMTPResponseException)):
            code, _ = smtp.noop()
            raise smtplib.SMTPResponseException(code, b"") if code == 421 else AssertionError(code)
    assert "stopped" in program.said()


def test_reload_takes_new_passwords(program):
    opened = smtplib.SMTP("localhost", program.port("smtp"), timeout=30)
    opened.login(ALERTS, PASSWORD)
    program.configure(mailboxes=[{"username": ALERTS, "password": "another one"}])
    assert program.command("reload").returncode == 0
    wait_until(lambda: "reloaded" in program.said())
    assert opened.mail(ALERTS)[0] == 421  # an open session does not outlive its right
    opened.close()
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        assert smtp.login(ALERTS, "another one")[0] == 235


def test_reload_of_a_broken_config_keeps_the_old(program):
    good = program.config.read_text()
    program.config.write_text(good.replace("smtp_port", "smtp_prot"))
    program.reload()
    wait_until(lambda: "not reloaded" in program.said())
    program.config.write_text(good)
    submit(program)
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 1)


@pytest.mark.parametrize("protocol", ["smtp", "pop3"])
def test_garbage_gets_an_error_and_one_line(program, protocol):
    for garbage in (
        b"\0\xff" * 4000 + b"\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ):
        with socket.create_connection(("127.0.0.1", program.port(protocol)), timeout=30) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while True:
                data = client.recv(4096)
                if not data:
                    break
                answer += data
        assert b"220" in answer or b"+OK" in answer
    submit(program)
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 1)
