"""`status`: what is wrong is found, its commands do what they are for when they are typed, and then all is well."""

import json
import re
import signal
import smtplib
import sys

import pytest
from program import ALERTS, KILL, PASSWORD, SCANS, wait_until


def submit(program, count=1):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        for number in range(count):
            text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {number}\r\n\r\nx\r\n"
            smtp.sendmail(ALERTS, [SCANS], text)


def seen(program):
    """The exit status, the keys of what there is to do, and all of the report."""
    done = program.command("status", "--json")
    report = json.loads(done.stdout)
    return done.returncode, [finding["key"] for finding in report["findings"]], report


def typed(program, words):
    """Type the command that `status` shows and that ends so."""
    shown = program.command("status")
    [command] = re.findall(rf"^ +(\S.* {words})$", shown.stdout, re.MULTILINE)
    done = program.type(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def soon(program, *keys):
    """The report that names these: soon, as a queue that took long is not listed again at once (spool.overview)."""
    wait_until(lambda: seen(program)[:2] == (int(bool(keys)), list(keys)), what=f"a status with {keys}")
    return seen(program)[2]


def test_a_lost_sign_in(make_program):
    program = make_program().start()
    submit(program)
    wait_until(lambda: "sending is paused" in program.said(), what="the pause")
    soon(program, "sign-in")
    typed(program, "login")
    wait_until(lambda: program.queue() == [], what="the delivery")
    report = soon(program)
    assert program.command("status").stdout.startswith("All is well\n")
    assert report["mailboxes"][ALERTS]["sent_24h"] == 1


def test_a_full_mailbox(program):
    program.sandbox.tenant.full.add(ALERTS)
    submit(program, 3)
    wait_until(lambda: program.said().count("deferred for") == 3, what="the refusals")
    report = soon(program, f"quota {ALERTS}")
    assert report["findings"][0]["sentence"].startswith(f"3 messages wait: The mailbox {ALERTS} is full. Make room")
    assert report["mailboxes"][ALERTS]["last_code"] == "ErrorQuotaExceeded"
    shown = program.command("status").stdout
    assert f"3 messages: The mailbox {ALERTS} is full." in shown
    listed = program.command("queue", "list").stdout
    assert listed.count("is full") == 1 and listed.count(SCANS) == 3
    program.sandbox.tenant.full.clear()
    typed(program, "queue retry all")
    wait_until(lambda: program.queue() == [], what="the delivery")
    soon(program)


def test_failed_mail_is_over_when_it_is_dropped(program):
    program.sandbox.faults.add("answer", path="/send", status=400, code="ErrorMessageSizeExceeded")
    submit(program)
    wait_until(lambda: [place for place, _ in program.queue()].count("failed"), what="the end")
    soon(program, "failed")
    assert typed(program, "queue drop failed") == "1 failed message is deleted.\n"
    wait_until(lambda: program.queue() == [], what="the delivery of the report")
    assert soon(program)["mailboxes"][ALERTS]["failed_24h"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that lets a program stand still")
def test_a_program_that_hangs(program):
    program.process.send_signal(signal.SIGSTOP)
    try:
        path = program.directory / "state" / "status.json"
        path.write_text(json.dumps({**program.status(), "written": program.status()["written"] - 240}))
        exit_status, keys, report = seen(program)
        assert (exit_status, keys, report["running"], report["pid"]) == (1, ["stale"], True, program.process.pid)
        shown = program.command("status").stdout
        assert "has written no status for 4 min" in " ".join(shown.split()) and "ports as of 20" in shown
    finally:
        program.process.send_signal(signal.SIGCONT)
    soon(program)


def test_a_disk_with_too_little_room(make_program):
    program = make_program(queue={"min_free_mb": 1048576}).sign_in().start()
    try:
        submit(program)
    except smtplib.SMTPResponseException as refused:
        assert refused.smtp_code == 452
    report = soon(program, "disk full")
    assert "new mail is refused" in report["findings"][0]["sentence"]


def test_after_a_kill(program):
    submit(program)
    wait_until(lambda: program.queue() == [] and seen(program)[2]["mailboxes"][ALERTS]["sent_24h"], what="the delivery")
    delivered = seen(program)[2]["mailboxes"][ALERTS]["last_delivery"]
    program.stop(KILL)
    wait_until(lambda: seen(program)[0] == 3, what="the end of its receivers, which hold the lock, too")
    exit_status, keys, report = seen(program)
    assert (exit_status, keys, report["verdict"]) == (3, ["stopped"], "Not running")
    assert abs(report["mailboxes"][ALERTS]["last_delivery"] - delivered) < 1 and delivered
    program.start()
    assert soon(program)["mailboxes"][ALERTS]["sent_24h"] == 1


def test_mail_of_a_mailbox_that_is_not_in_the_config_any_more(make_program):
    program = make_program()
    program.start()
    submit(program)
    program.stop()
    program.configure(mailboxes=[{"username": SCANS, "password": PASSWORD}])
    program.sign_in().start()
    soon(program, "orphaned")
    [message] = [json.loads(line) for line in program.command("queue", "list", "--json").stdout.splitlines()]
    assert message["mailbox"] == ALERTS
    assert program.command("queue", "drop", message["id"][:20]).returncode == 0
    soon(program)
