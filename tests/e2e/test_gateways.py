"""Several gateways for the same mailboxes, at one tenant that counts all of their requests."""

import collections
import contextlib
import poplib
import re
import signal
import smtplib
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
import spawner
from program import ALERTS, COMMAND, PASSWORD, SCANS, wait_until

# Messages of each node: enough for all of its slots, several times.
MAILS = 12


@pytest.fixture
def make_nodes(make_program):
    """So many programs, signed in and running, of one tenant."""

    def make(number, **settings):
        settings = {"limits": {"nodes": number}, "receivers": 0, **settings}
        first = make_program(**settings)
        return [first.sign_in().start()] + [
            make_program(beside=first, **settings).sign_in().start() for _ in range(1, number)
        ]

    return make


def submit(node, subjects):
    with smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60) as smtp:
        smtp.login(ALERTS, PASSWORD)
        for subject in subjects:
            text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n"
            assert smtp.sendmail(ALERTS, [SCANS], text) == {}


def delivered(sandbox):
    """How often each subject was delivered."""
    heads = [record.raw.partition(b"\r\n\r\n")[0] for record in list(sandbox.tenant.delivered)]
    return collections.Counter(re.search(rb"(?im)^subject: (\S+)", head).group(1).decode() for head in heads)


@pytest.mark.parametrize("number", [2, 3])
def test_nodes_share_what_a_mailbox_is_allowed(make_nodes, number):
    nodes = make_nodes(number)
    sandbox = nodes[0].sandbox
    for index, node in enumerate(nodes):
        submit(node, [f"first-{index}"])  # each learns the way
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    sandbox.forget()
    sandbox.latency = 0.1
    subjects = [[f"{index}-{mail}" for mail in range(MAILS)] for index in range(number)]
    for node, mine in zip(nodes, subjects):
        submit(node, mine)
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    found = delivered(sandbox)
    assert [subject for mine in subjects for subject in mine if found[subject] != 1] == []
    # Nobody was asked to wait, and no request was made in vain: none waited longer than for its turn.
    assert [request.path for request in sandbox.requests if request.status == 429] == []
    assert sandbox.peak_concurrency[ALERTS] <= 4
    sends = [request for request in sandbox.seen("/send$", "POST") if request.mailbox == ALERTS]
    assert len(sends) == number * MAILS


def test_with_more_nodes_than_slots_each_has_one(make_program):
    node = make_program(limits={"nodes": 5}, receivers=0).sign_in().start()
    sandbox = node.sandbox
    sandbox.concurrency_limit = None
    sandbox.latency = 0.05
    submit(node, [str(mail) for mail in range(MAILS)])
    wait_until(lambda: node.queue() == [], what="an empty queue")
    assert sandbox.peak_concurrency[ALERTS] == 1


# -- drain ---------------------------------------------------------------------


def readiness(node):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port('status')}/readyz", timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("receivers", [0, 2])
def test_drain(make_program, receivers):
    node = make_program(status_port=0, tls={}, receivers=receivers).sign_in().start()
    node.sandbox.faults.add("answer", method="POST", path="/messages$", status=503, times=1000)
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(contextlib.closing(smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)))
        coming = stack.enter_context(contextlib.closing(smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)))
        reading = stack.enter_context(contextlib.closing(poplib.POP3("127.0.0.1", node.port("pop3"), timeout=60)))
        waiting.ehlo()
        begin_data(coming)
        reading.user(ALERTS)
        reading.pass_(PASSWORD)
        assert readiness(node) == 200
        done = []
        draining = threading.Thread(target=lambda: done.append(node.command("drain", timeout=120)))
        draining.start()
        # Who waits for nothing is told at once, without having said anything.
        assert waiting.getreply()[0] == 421
        assert readiness(node) == 503
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)
        assert refused.value.smtp_code == 421
        with socket.create_connection(("127.0.0.1", node.port("pop3")), timeout=60) as sock:
            assert sock.makefile("rb").readline().startswith(b"-ERR [SYS/TEMP] ")
        # What had begun is taken.
        coming.send(b"From: alerts@contoso.com\r\nSubject: last\r\n\r\nx\r\n.\r\n")
        assert coming.getreply()[0] == 250
        assert coming.noop()[0] == 421
        assert reading.stat()[0] == 0
        reading.quit()
    wait_until(lambda: "message is still to be sent." in squeezed(node.command("status").stdout), what="the status")
    assert done == [] and node.queue() != []
    node.sandbox.faults.clear()
    node.command("queue", "retry", "all")
    draining.join(120)
    assert done[0].returncode == 0, done[0].stderr
    assert done[0].stdout.endswith("Stop m365proxy now; a start accepts mail again.\n")
    assert node.queue() == [] and delivered(node.sandbox)["last"] == 1
    status = node.command("status")
    assert status.returncode == 1 and "Drained" in status.stdout
    # A restart ends it.
    assert node.stop() == 0
    assert node.command("drain").returncode == 3
    node.start()
    assert readiness(node) == 200
    submit(node, ["after"])


def begin_data(smtp):
    """Log in and go on until the message's text is awaited."""
    smtp.login(ALERTS, PASSWORD)
    smtp.mail(ALERTS)
    smtp.rcpt(SCANS)
    smtp.putcmd("data")
    assert smtp.getreply()[0] == 354


def squeezed(text):
    return " ".join(text.split())


# -- standby -------------------------------------------------------------------


def test_a_standby_takes_over(make_program, tmp_path):
    first = make_program(receivers=1).sign_in().start()
    submit(first, ["before"])
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=first.environ, cwd=tmp_path)

    def said():
        return (tmp_path / "standby").read_text()

    try:
        wait_until(lambda: "Waiting for its end." in said(), what="the second one's word")
        assert f"(pid {first.process.pid})" in said() and "started" not in said()
        first.stop(signal.SIGKILL)
        first.process = second  # it has the same config, and so the same ports and state
        wait_until(first._is_up, what="the takeover")
        submit(first, ["after"])
        wait_until(lambda: first.queue() == [], what="an empty queue")
        assert delivered(first.sandbox) == {"before": 1, "after": 1}
        assert "taking over" in said()
    finally:
        first.process = second


def test_a_standby_that_waits_can_be_stopped(make_program, tmp_path):
    first = make_program(receivers=0).start()
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=first.environ, cwd=tmp_path)
    wait_until(lambda: "Waiting for its end." in (tmp_path / "standby").read_text(), what="the second one's word")
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert "Traceback" not in (tmp_path / "standby").read_text()
    assert first.process.poll() is None


def test_a_machine_that_waited_for_the_lock_needs_no_adoption(make_program, tmp_path):
    first = make_program(receivers=0).start(M365PROXY_MACHINE="one")
    environ = dict(first.environ, M365PROXY_MACHINE="two")
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=tmp_path)
    wait_until(lambda: "Waiting for its end." in (tmp_path / "standby").read_text(), what="the second one's word")
    first.stop()
    first.process = second
    wait_until(first._is_up, what="the takeover")
    assert first.stop() == 0
    # Either may go on, and a third one may not.
    first.start(M365PROXY_MACHINE="one")
    assert first.stop() == 0
    assert first.command("run", "--standby", M365PROXY_MACHINE="three").returncode == 78
