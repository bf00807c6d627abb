"""Many clients at once, and stalled ones: nobody waits for anybody else, and nothing is left behind."""

import contextlib
import os
import poplib
import smtplib
import socket
import sys
import threading

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until

CLIENTS = 200

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads and descriptors in /proc")


def submit(program, sender=ALERTS, subject="t"):
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
        smtp.login(sender, PASSWORD)
        return smtp.sendmail(sender, [SCANS], f"From: {sender}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n")


def subjects(program):
    found = []
    for record in list(program.sandbox.tenant.delivered):
        head = record.raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
        found += [line[9:].decode() for line in head if line.lower().startswith(b"subject: ")]
    return sorted(found)


def delivered(program, expected, seconds=60):
    wait_until(lambda: len(program.sandbox.tenant.delivered) >= len(expected), seconds, "the delivery of all")
    wait_until(lambda: program.queue() == [], seconds)
    assert subjects(program) == sorted(expected)


def in_proc(program, what):
    """How many threads ("task") or descriptors ("fd") the program has."""
    return len(os.listdir(f"/proc/{program.process.pid}/{what}"))


class Noops(threading.Thread):
    """A client that asks and is answered, over and over, until it is told to end.

    It connects anew after a few commands: those that bring nothing are slowed down.
    """

    def __init__(self, program):
        super().__init__(daemon=True)
        self.port = program.port("smtp")
        self.answered = 0
        self.wrong = []
        self.over = threading.Event()
        self.start()

    def run(self):
        while not self.over.is_set():
            with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as smtp:
                for _ in range(10):
                    self.over.wait(0.005)
                    code, said = smtp.noop()
                    self.answered += 1
                    if code != 250:
                        self.wrong.append(said)

    def end(self):
        self.over.set()
        self.join(60)
        assert not self.is_alive() and not self.wrong


def all_at_once(program, mark):
    """As many clients as CLIENTS, all connected before the first one speaks; what went wrong."""
    wrong = []
    connected = threading.Barrier(CLIENTS)

    def client(number):
        try:
            with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
                connected.wait(60)
                smtp.login(ALERTS, PASSWORD)
                smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nSubject: {mark}-{number}\r\n\r\nx\r\n")
        except (OSError, smtplib.SMTPException, threading.BrokenBarrierError) as error:
            wrong.append((number, repr(error)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return wrong


@on_linux
def test_200_clients_at_once(program):
    submit(program, subject="first")  # loads the libraries, learns the way
    delivered(program, ["first"])
    threads = in_proc(program, "task")
    noops = Noops(program)
    expected = ["first"]
    descriptors = []
    for mark in ("one", "two"):
        before = noops.answered
        assert all_at_once(program, mark) == []
        assert noops.answered > before, "the others kept this one waiting"
        expected += [f"{mark}-{number}" for number in range(CLIENTS)]
        delivered(program, expected, 100)
        wait_until(lambda: in_proc(program, "task") <= threads + 1, what="the end of the threads")  # + 1: noops
        descriptors.append(in_proc(program, "fd"))
    noops.end()
    # A few connections to Graph are kept, the same ones each time.
    assert descriptors[1] <= descriptors[0] + 4
    wait_until(lambda: in_proc(program, "task") <= threads)


@contextlib.contextmanager
def stalled(program):
    """Clients that stop in the middle: silent, in a line, in DATA, in a TLS handshake, in POP3."""
    with contextlib.ExitStack() as stack:

        def connect(protocol):
            made = socket.create_connection(("127.0.0.1", program.port(protocol)), timeout=30)
            return stack.enter_context(made)

        connect("smtp")
        connect("smtp").sendall(b"EHLO half-a-li")
        data = connect("smtp")
        dialogue(
            data,
            None,
            b"EHLO x",
            b"AUTH PLAIN " + auth(),
            b"MAIL FROM:<%s>" % ALERTS.encode(),
            b"RCPT TO:<%s>" % SCANS.encode(),
            b"DATA",
        )
        data.sendall(b"Subject: never\r\n\r\nhalf of i")
        for protocol, words in (("smtp", (None, b"EHLO x", b"STARTTLS")), ("pop3", (None, b"STLS"))):
            shaking = connect(protocol)
            dialogue(shaking, *words)
            shaking.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        connect("pop3").sendall(b"US")
        yield


def auth():
    import base64

    return base64.b64encode(f"\0{ALERTS}\0{PASSWORD}".encode())


def dialogue(sock, *lines):
    """Send each line after the reply to the one before."""
    for line in lines:
        if line is not None:
            sock.sendall(line + b"\r\n")
        said = b""
        while not said.endswith(b"\r\n") or said.splitlines()[-1][3:4] == b"-":
            said += sock.recv(4096)
        assert said[:1] in b"23+", said


def test_stalled_clients_stop_nobody(shared_program):
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(stalled(shared_program))
        submit(shared_program, subject="lively")
        delivered(shared_program, ["lively"])
        pop = poplib.POP3("127.0.0.1", shared_program.port("pop3"), timeout=30)
        pop.user(SCANS)
        pop.pass_(PASSWORD)
        assert pop.stat()[0] == 1
        pop.quit()
    wait_until(lambda: os.listdir(shared_program.directory / "state" / "queue" / "tmp") == [])
    assert subjects(shared_program) == ["lively"]


def test_a_throttled_mailbox_stops_no_other(program):
    fault = program.sandbox.faults.add("answer", mailbox=ALERTS, status=429, retry_after=600, times=None)
    for number in range(5):
        submit(program, ALERTS, f"held {number}")
    wait_until(lambda: fault.hits > 0, what="the first 429")
    for number in range(5):
        submit(program, SCANS, f"free {number}")
    delivered_free = [f"free {number}" for number in range(5)]
    wait_until(lambda: subjects(program) == delivered_free, what="the other mailbox's mail")
    # Not asked again while it is held: at most what was on its way with the first one.
    assert fault.hits <= 4
    wait_until(lambda: program.queue() == [("new", "")] * 5)
    assert "sending is paused" not in program.said()


def test_a_hanging_mailbox_stops_no_other(program):
    fault = program.sandbox.faults.add("hang", mailbox=ALERTS, times=None)
    for number in range(8):
        submit(program, ALERTS, f"held {number}")
    wait_until(lambda: fault.hits == 4, what="four hanging requests")
    for number in range(8):
        submit(program, SCANS, f"free {number}")
    wait_until(lambda: subjects(program) == [f"free {number}" for number in range(8)])
    assert fault.hits == 4
    with contextlib.closing(poplib.POP3("127.0.0.1", program.port("pop3"), timeout=30)) as pop:
        pop.user(SCANS)
        assert pop.pass_(PASSWORD).startswith(b"+OK")


def test_a_dead_graph_stops_no_session(program):
    submit(program, subject="before")
    delivered(program, ["before"])
    program.sandbox.offline()
    noops = Noops(program)
    for number in range(20):
        assert submit(program, subject=f"dead {number}") == {}
    with contextlib.closing(poplib.POP3("127.0.0.1", program.port("pop3"), timeout=30)) as pop:
        pop.user(SCANS)
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            pop.pass_(PASSWORD)
    wait_until(lambda: noops.answered)
    noops.end()
    wait_until(lambda: program.queue() == [("new", "")] * 20, what="all in the queue")
    program.sandbox.online()
    delivered(program, ["before"] + [f"dead {number}" for number in range(20)])
