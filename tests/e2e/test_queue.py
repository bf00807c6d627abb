"""`queue retry` and `queue drop`, with the program running and without it."""

import email
import email.policy
import json
import os
import re
import smtplib
import threading
import time

import pytest
from program import ALERTS, KILL, PASSWORD, SCANS, wait_until

from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import DraftPhase, DraftState, State


def submit(program, subject="t"):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n")


def spool_of(program):
    spool = Spool(str(program.directory / "state" / "queue"))
    spool.make()
    return spool


def place(program, where, subject="t", due=0.0, **state):
    """A message in a state, as a run that has ended left it."""
    spool = spool_of(program)
    incoming = spool.put(Envelope(ALERTS, ALERTS, (SCANS,)))
    incoming.write(f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n".encode())
    id = incoming.commit()
    claim = spool.claim(id)
    claim.state = State(attempts=3, due=due, error="because", **state)
    if where == "claimed":
        claim.save_state()
    elif where == "held":
        claim.mark_posting()
        claim.hold()
    else:
        getattr(claim, {"waiting": "defer", "failed": "fail", "posting": "mark_posting"}[where])()
    if where == "failed":
        spool.mark_reported([spool.find(id)])  # or a report would be sent, too, unless the command is quicker
    return id


def tell(program, *words):
    done = program.command("queue", *words)
    assert "Traceback" not in done.stdout + done.stderr
    return done


def tell_at_rest(program, *words):
    """Once the message is not in the courier's hands, which looks at each at its start."""

    def told():
        done = tell(program, *words)
        return done if done.returncode != 75 else None

    return wait_until(told, what="a message at rest")


def subjects(program):
    return {re.search(rb"Subject: (.*)\r", sent.raw).group(1) for sent in program.sandbox.tenant.delivered}


FAR = 4_000_000_000.0


@pytest.mark.parametrize("where", ["waiting", "failed", "claimed", "posting", "held"])
def test_retry_while_nothing_runs(make_program, where):
    program = make_program()
    id = place(program, where, due=FAR)
    done = tell(program, "retry", id)
    assert done.returncode == 0 and "not running" in done.stdout
    assert ("arrives twice" in done.stdout) == (where in ("posting", "held"))
    assert program.queue() == [("new", "")] and spool_of(program).state(id).due == 0.0


@pytest.mark.parametrize("where", ["waiting", "failed", "claimed", "posting", "held"])
def test_drop_while_nothing_runs(make_program, where):
    program = make_program()
    id = place(program, where, due=FAR, draft=DraftState(DraftPhase.READY, ALERTS, "AAMk"))
    done = tell(program, "drop", id)
    assert done.returncode == 0 and id in done.stdout
    assert f"Drafts of {ALERTS}" in done.stdout
    assert ("Sent Items" in done.stdout) == (where in ("posting", "held"))
    assert program.queue() == [] and os.listdir(program.directory / "state" / "queue" / "state") == []
    assert tell(program, "drop", id).returncode == 64


@pytest.mark.parametrize("where", ["waiting", "failed"])
def test_retry_while_it_runs_sends_at_once(make_program, where):
    program = make_program()
    program.login()
    id = place(program, where, due=time.time() + 900)
    program.start()
    done = tell_at_rest(program, "retry", id)
    assert done.returncode == 0 and "tried again" in done.stdout and "not running" not in done.stdout
    wait_until(lambda: program.sandbox.tenant.delivered, what="the delivery")
    wait_until(lambda: program.queue() == [])
    assert len(program.sandbox.tenant.delivered) == 1


@pytest.mark.parametrize("where", ["waiting", "failed", "held"])
def test_drop_while_it_runs(make_program, where):
    program = make_program()
    program.login()
    id = place(program, where, due=time.time() + 900)
    program.start()
    assert tell_at_rest(program, "drop", id).returncode == 0
    assert program.queue() == []
    # what comes after it is delivered, and nothing else
    submit(program, "after")
    wait_until(lambda: program.sandbox.tenant.delivered)
    wait_until(lambda: program.queue() == [])
    assert len(program.sandbox.tenant.delivered) == 1


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_what_is_being_sent_is_left_alone(program, action):
    fault = program.sandbox.faults.add("hang", path="sendMail|messages")
    submit(program)
    wait_until(lambda: fault.hits, what="the send")
    [told] = map(json.loads, tell(program, "list", "--json").stdout.splitlines())
    done = tell(program, action, told["id"])
    assert done.returncode == 75 and "being sent" in done.stderr and told["id"] in done.stderr
    assert [entry for entry in program.queue() if entry[0] == "cur"]
    fault.release()
    program.stop(KILL)


def test_retry_all_leaves_held_ones_alone(make_program):
    program = make_program()
    later = time.time() + 900
    for number in range(3):
        place(program, "failed", f"failed {number}")
        place(program, "waiting", f"waiting {number}", due=later)
    place(program, "waiting", "due")
    place(program, "held", "held")
    program.start()
    # Nobody is signed in.  The one that is due finds that out, and from then on the courier takes none in hand.
    at_rest = [("cur", "held"), *[("failed", "")] * 3, *[("new", "")] * 4]
    wait_until(lambda: program.status()["paused"] and program.queue() == at_rest)
    done = tell(program, "retry", "all")
    assert done.returncode == 0 and "6 waiting or failed" in done.stdout and "1 held" in done.stdout
    program.login()
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 7, what="seven deliveries")
    wait_until(lambda: program.queue() == [("cur", "held")])
    assert len(program.sandbox.tenant.delivered) == 7
    assert "No message waits" in tell(program, "retry", "all").stdout


def test_retry_all_while_nothing_runs(make_program):
    program = make_program()
    ids = [place(program, "failed"), place(program, "waiting", due=FAR)]
    assert "2 waiting or failed" in tell(program, "retry", "all").stdout
    assert program.queue() == [("new", "")] * 2
    assert [spool_of(program).state(id).due for id in ids] == [0.0, 0.0]


@pytest.mark.parametrize("action", ["retry", "drop"])
@pytest.mark.parametrize("id", ["nothing", "../../config.json", "", "a\nb", "state"])
def test_what_is_not_there(make_program, action, id):
    done = tell(make_program(), action, id)
    assert done.returncode == 64 and "queue list" in done.stderr


def test_retry_all_of_an_empty_queue(make_program):
    assert tell(make_program(), "retry", "all").returncode == 0


def test_drop_takes_one_id_only(make_program):
    program = make_program()
    id = place(program, "failed")
    assert tell(program, "drop", "all").returncode == 64
    assert tell(program, "drop").returncode == 64
    assert spool_of(program).find(id)


def test_commands_beside_a_busy_courier_lose_and_double_nothing(make_program):
    """Messages are retried and dropped while the courier works through the same ones."""
    program = make_program(queue={"min_free_mb": 0, "retry_interval": 1})
    program.login()
    program.sandbox.faults.add("answer", path="sendMail|messages", status=429, retry_after=0.02, times=8)
    program.start()
    for number in range(24):
        submit(program, f"busy {number}")
    said = {"retry": [], "drop": []}

    def work(action):
        for entry in list(spool.entries())[:6]:
            said[action].append((entry.id, tell(program, action, entry.id)))

    spool = spool_of(program)
    threads = [threading.Thread(target=work, args=(action,)) for action in ("retry", "drop")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {done.returncode for _, done in said["retry"] + said["drop"]} <= {0, 64, 75}
    dropped = {id for id, done in said["drop"] if done.returncode == 0}
    wait_until(lambda: program.queue() == [], what="an empty queue")
    assert len(program.sandbox.tenant.delivered) == 24 - len(dropped)
    assert len(subjects(program)) == len(program.sandbox.tenant.delivered)


def test_the_sender_is_told_of_what_failed_and_once(make_program):
    program = make_program(queue={"min_free_mb": 0, "retry_interval": 1})
    program.login()
    refused = program.sandbox.faults.add(
        "answer", path="sendMail|messages", status=400, code="ErrorInvalidRecipients", times=2
    )
    program.start()
    submit(program, "refused")
    wait_until(lambda: refused.hits == 2 and program.sandbox.tenant.delivered, what="the report")
    failed = program.directory / "state" / "queue" / "failed"
    wait_until(lambda: [path.suffix for path in failed.iterdir()] == [".told"] and program.queue() == [("failed", "")])
    [sent] = program.sandbox.tenant.delivered
    assert (sent.sender, sent.recipients) == (ALERTS, (ALERTS,))
    report = email.message_from_bytes(sent.raw, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    text, status, original = report.iter_parts()
    [failed] = map(json.loads, tell(program, "list", "--json").stdout.splitlines())
    assert failed["id"] in text.get_content() and "Check the addresses" in text.get_content()
    group = status.get_payload()[1]
    assert (group["Final-Recipient"], group["Action"], group["Status"]) == (f"rfc822; {SCANS}", "failed", "5.1.3")
    assert "ErrorInvalidRecipients" in group["Diagnostic-Code"] and "request-id" in group["Diagnostic-Code"]
    assert "Subject: refused" in original.get_content()
    # it is not told of again after a restart, and can still be retried
    program.stop()
    program.start()
    assert tell(program, "retry", failed["id"]).returncode == 0
    wait_until(lambda: program.queue() == [])
    assert [b"refused" in sent.raw.partition(b"\r\n\r\n")[0] for sent in program.sandbox.tenant.delivered] == [
        False,
        True,
    ]


def test_show_on_a_console_without_the_characters_of_the_mail(make_program):
    program = make_program()
    id = place(program, "waiting", "grün", FAR)
    done = program.command("queue", "show", id, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert r"Subject: gr\xfcn" in done.stdout
