"""The event log of the running program: what became of each message, and who was refused."""

import contextlib
import json
import poplib
import smtplib
import socket

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until

SUBJECT, TEXT = "Quarterly figures", "Nobody else may read this."


def events(program):
    """What was written, without the times."""
    found = []
    for path in sorted((program.directory / "state" / "events").glob("*.jsonl")):
        for line in path.read_text("utf-8").split("\n")[:-1]:  # behind the last line end is what is just being written
            event = json.loads(line)
            assert event.pop("time").endswith("Z")
            found.append(event)
    return found


def submit(program):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {SUBJECT}\r\n\r\n{TEXT}\r\n")


def test_the_story_of_a_message(program):
    # Of the refusals that are tried again one that waits long: nothing is sent before the administrator wants it.
    program.sandbox.faults.add("answer", path="/send$", status=403, code="ErrorQuotaExceeded")
    submit(program)
    wait_until(lambda: [event for event in events(program) if event["event"] == "deferred"], what="the first attempt")
    assert program.command("queue", "retry", "all").returncode == 0
    wait_until(lambda: [event for event in events(program) if event["event"] == "delivered"], what="the delivery")
    accepted, deferred, retried, delivered = events(program)
    id = accepted["id"]
    assert accepted.pop("size") > 100
    assert accepted == {
        "event": "accepted",
        "id": id,
        "client": "127.0.0.1",
        "login": ALERTS,
        "mailbox": ALERTS,
        "sender": ALERTS,
        "recipients": [SCANS],
        "auth": "PLAIN",
    }
    assert "is full" in deferred.pop("reason")
    assert deferred.pop("request_id") and 900 <= deferred.pop("seconds") < 1000
    assert deferred == {
        "event": "deferred",
        "id": id,
        "mailbox": ALERTS,
        "failed_attempts": 1,
        "code": "ErrorQuotaExceeded",
    }
    assert retried == {"event": "retried", "id": id}
    assert delivered.pop("request_id") and delivered.pop("seconds") >= 0
    assert delivered == {"event": "delivered", "id": id, "mailbox": ALERTS, "failed_attempts": 1}
    for what in (id[:20], ALERTS, SCANS, "127.0.0.1"):
        told = " ".join(program.command("trace", what, "--since", "1h").stdout.split())
        steps = ("accepted from 127.0.0.1", "not sent: ", "wanted it sent now", "handed over to Exchange")
        assert all(step in told for step in steps) and "Message trace" in told
    refused = program.command("trace", "boss@contoso.com")
    assert refused.returncode == 64 and "Nothing is known" in refused.stderr


def test_what_an_administrator_did_is_there_too(make_program):
    program = make_program().start()  # nobody is signed in
    submit(program)
    (id,) = [event["id"] for event in wait_until(lambda: events(program), what="the event")]
    for action, word in (("retry", "retried"), ("drop", "dropped")):
        assert program.command("queue", action, id).returncode == 0
        assert events(program)[-1] == {"event": word, "id": id}


def test_who_was_refused(shared_program):
    before = len(events(shared_program))
    with smtplib.SMTP("localhost", shared_program.port("smtp"), timeout=30) as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(ALERTS, "hunter2")
        smtp.login(ALERTS, PASSWORD)
        assert smtp.docmd("MAIL FROM:<boss@contoso.com>")[0] == 550
    pop3 = poplib.POP3("localhost", shared_program.port("pop3"), timeout=30)
    pop3.user("nobody")
    with pytest.raises(poplib.error_proto):
        pop3.pass_("hunter2")
    pop3.close()

    def refusals():
        """Mail of the test before this one, with the same program, may be delivered meanwhile."""
        return [event for event in events(shared_program)[before:] if event["event"] in ("login failed", "refused")]

    wait_until(
        lambda: {"smtp", "pop3"} <= {event.get("service") for event in refusals()} and "refused" in str(refusals())
    )
    found = refusals()
    assert {event["client"] for event in found} == {"127.0.0.1"}
    by_smtp, *_, refused, by_pop3 = found  # smtplib tries each of two mechanisms
    assert (by_smtp["event"], by_smtp["service"], by_smtp["login"]) == ("login failed", "smtp", ALERTS)
    assert (by_pop3["event"], by_pop3["service"], by_pop3["login"]) == ("login failed", "pop3", "nobody")
    assert refused["reply"].startswith("550") and refused["command"] == "MAIL FROM:<boss@contoso.com>"
    told = shared_program.command("trace", "127.0.0.1", COLUMNS="2000").stdout
    assert ' refused: "MAIL FROM:<boss@contoso.com>": 550 ' in told


def test_it_holds_neither_texts_nor_secrets(shared_program):
    submit(shared_program)
    wait_until(lambda: any(event["event"] == "delivered" for event in events(shared_program)))
    content = b"".join(path.read_bytes() for path in (shared_program.directory / "state" / "events").iterdir())
    for secret in (SUBJECT, TEXT, PASSWORD, "hunter2"):
        assert secret.encode() not in content


def test_it_can_be_switched_off(make_program):
    program = make_program(logging={"events_mb": 0}).start()
    submit(program)
    assert program.command("queue", "retry", "all").returncode == 0
    assert not (program.directory / "state" / "events").exists()


def test_it_has_all_steps_whatever_the_log_shows(make_program):
    program = make_program(logging={"level": "ERROR"}).sign_in().start()
    submit(program)
    wait_until(lambda: [event for event in events(program) if event["event"] == "delivered"])
    assert "accepted" not in program.said()


def test_mail_that_goes_well_has_two_lines(program):
    """It is accepted, and delivered.  A mailbox's first messages also say which way they went."""
    submit(program)
    wait_until(lambda: " delivered for " in program.said() and program.queue() == [], what="the first delivery")
    before = len(program.said())
    submit(program)
    wait_until(lambda: " delivered for " in program.said()[before:], what="the delivery")
    id = [event["id"] for event in events(program) if event["event"] == "accepted"][-1]
    lines = [line for line in program.said()[before:].splitlines() if id in line]
    assert [" accepted " in line for line in lines] == [True, False] and " delivered for " in lines[1]


def test_who_never_speaks_tls_does_not_fill_log_and_event_log(make_program):
    program = make_program(smtps_port=0)
    program.sign_in().start()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", program.port("smtps")), 30) as client:
            client.sendall(b"\0" * 50)
            with contextlib.suppress(ConnectionError):
                assert not client.recv(100)
    submit(program)
    wait_until(lambda: " delivered for " in program.said(), what="the delivery")
    wait_until(lambda: program.said().count("TLS handshake failed") >= 30)
    wait_until(lambda: [event["event"] for event in events(program)].count("TLS failed") >= 30)
    assert program.said().count("TLS handshake failed") == 30
    assert [event["event"] for event in events(program)].count("TLS failed") == 30
