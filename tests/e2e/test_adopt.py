"""A state directory that was another machine's, and the queue of a gateway that is gone for good."""

import shutil
import signal
import smtplib

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until

VARIABLE = "M365PROXY_MACHINE"


def submit(program, subject):
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n")


def delivered(program):
    return len(program.sandbox.tenant.delivered)


def test_a_copied_state_directory_is_refused_until_somebody_adopts_it(make_program):
    program = make_program()
    program.sign_in().start(**{VARIABLE: "gateway1"})
    program.stop()
    program.start(**{VARIABLE: "gateway1"}).stop()
    for words in (("run",), ("check", "--offline")):
        refused = program.command(*words, **{VARIABLE: "gateway2"})
        said = refused.stdout + refused.stderr
        assert refused.returncode == 78 and "gateway1" in said and " adopt`" in said.replace("\n", " "), said
        assert "Traceback" not in said
    adopted = program.command("adopt", **{VARIABLE: "gateway2"})
    assert adopted.returncode == 0 and "gateway2" in adopted.stdout, adopted.stderr
    program.start(**{VARIABLE: "gateway2"})
    submit(program, "after the takeover")
    wait_until(lambda: delivered(program) == 1, what="delivery")
    busy = program.command("adopt", **{VARIABLE: "gateway3"})
    assert busy.returncode == 75 and "pid" in busy.stderr, busy.stderr
    program.stop()
    program.start(**{VARIABLE: "gateway1"})


def test_run_can_adopt_at_once(make_program):
    program = make_program()
    program.sign_in().start(**{VARIABLE: "gateway1"})
    program.stop()
    program.words = ("run", "--adopt")
    program.start(**{VARIABLE: "gateway2"}).stop()
    program.words = ()
    program.start(**{VARIABLE: "gateway2"})


def test_a_copy_with_a_state_directory_of_its_own_works_beside_the_original(make_program):
    program = make_program()
    program.sign_in().start(**{VARIABLE: "gateway1"})
    program.stop()
    shutil.move(program.directory / "state", program.directory / "state-of-gateway1")
    program.login()
    program.start(**{VARIABLE: "gateway2"})
    submit(program, "of the copy")
    wait_until(lambda: delivered(program) == 1, what="delivery")
    ids = [(program.directory / name / "installation").read_text() for name in ("state", "state-of-gateway1")]
    assert ids[0] != ids[1]


def texts(program):
    with program.sandbox.tenant.lock:
        return sorted(sent.raw.partition(b"Subject: ")[2].split(b"\r")[0] for sent in program.sandbox.tenant.delivered)


@pytest.fixture
def gone(make_program):
    """A gateway killed for good: one message is sent and not known to be, three wait, one of them with a draft."""
    program = make_program()
    faults, tenant = program.sandbox.faults, program.sandbox.tenant
    tenant.draft_id_survives = False  # only the marker tells
    program.sign_in().start()
    faults.add("hang_after", path="/send$", method="POST", times=1)
    submit(program, "sent")
    wait_until(lambda: len(tenant.delivered) == 1 and program.queue() == [("cur", "posting")], what="a send")
    faults.add("answer", path="/send$", status=429, code="ApplicationThrottled", retry_after="600")
    submit(program, "with a draft")
    wait_until(lambda: ("new", "") in program.queue() and tenant.items(ALERTS, "drafts"), what="a draft")
    for number in (1, 2):
        submit(program, f"waits {number}")
    program.stop(signal.SIGKILL)
    faults.clear()
    return program


WANTED = [b"sent", b"waits 1", b"waits 2", b"with a draft"]


@pytest.mark.parametrize("running", [True, False], ids=["into a running one", "into one at rest"])
def test_the_queue_of_a_gateway_that_is_gone_is_taken_over(make_program, gone, running):
    heir = make_program(beside=gone)
    heir.sign_in()
    if running:
        heir.start()
    directory = str(gone.directory / "state")
    done = heir.command("adopt", directory)
    assert done.returncode == 0 and "taken over" in done.stdout and "1 to be looked for" in done.stdout, done.stderr
    if not running:
        assert "not running" in done.stdout
        heir.start()
    wait_until(lambda: heir.queue() == [], what="an empty queue")
    assert texts(gone) == WANTED
    assert gone.sandbox.tenant.items(ALERTS, "drafts") == []
    assert gone.queue() == []
    again = heir.command("adopt", directory)
    assert again.returncode == 0 and ": 0." in again.stdout, again.stderr
    refused = gone.command("run")
    assert refused.returncode == 78 and "given up" in refused.stderr and "Traceback" not in refused.stderr
    assert texts(gone) == WANTED


def test_a_gateway_that_runs_is_not_taken_over(make_program, program):
    heir = make_program(beside=program)
    done = heir.command("adopt", str(program.directory / "state"))
    assert done.returncode == 75 and f"pid {program.process.pid}" in done.stderr, done.stderr
    submit(program, "as ever")
    wait_until(lambda: texts(program) == [b"as ever"], what="delivery")
