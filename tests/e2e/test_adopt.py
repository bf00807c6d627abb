"""A copied state directory is refused on another machine, and what the refusal says works."""

import shutil
import smtplib

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
