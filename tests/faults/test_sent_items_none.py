"""The real program with sent_items: none, killed when the proof of a message is still needed."""

import smtplib

import pytest
from faults.hasty import HastyProgram
from program import ALERTS, KILL, PASSWORD, SCANS, wait_until


@pytest.fixture
def program(tmp_path):
    mailboxes = [{"username": ALERTS, "password": PASSWORD, "sent_items": "none"}]
    made = HastyProgram(tmp_path, mailboxes=mailboxes, pop3_port=None).sign_in().start()
    yield made
    made.close()


def submit(program):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\n\r\nx\r\n")


def test_a_kill_after_sending_sends_once_and_leaves_no_copy(program):
    tenant = program.sandbox.tenant
    program.sandbox.faults.add("cut_after", path="/send$")
    program.sandbox.faults.add("answer", path="/messages", method="GET", status=503, times=1000)  # no look helps
    submit(program)
    wait_until(lambda: tenant.delivered)
    program.stop(KILL)
    assert program.queue() == [("cur", "posting")] and len(tenant.items(ALERTS, "sentitems")) == 1
    program.sandbox.faults.clear()
    program.sandbox.forget()
    program.start()
    wait_until(lambda: tenant.items(ALERTS, "sentitems") == [])
    assert program.queue() == [] and len(tenant.delivered) == len(tenant.items(SCANS)) == 1
    assert len(program.sandbox.seen("/permanentDelete$")) == 1 and tenant.items(ALERTS, "deleteditems") == []
