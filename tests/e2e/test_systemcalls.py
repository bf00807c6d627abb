"""System calls of a session: each lets the interpreter's lock go, and with many sessions that is what takes long."""

import collections
import contextlib
import re
import signal
import smtplib
import subprocess

import pytest
from processes import tree_of
from program import ALERTS, SCANS
from tools import need
from waiting import wait_until

MESSAGES = 40

# For a message of 4 KB, all told.
MOST = {"kept": 21, "each": 35}

_CALL = re.compile(r"^(\d+) +(?!<\.\.\. )(\w+)\(")


@contextlib.contextmanager
def traced(program, path):
    """Calls of the threads of the program and its receivers in the with block are written to a file."""
    said = path.with_suffix(".said")
    pids = tree_of(program.process.pid)
    named = [word for pid in pids for word in ("-p", str(pid))]
    with open(said, "wb") as stderr:
        tracer = subprocess.Popen([need("strace"), "-f", "-e", "signal=none", "-o", str(path), *named], stderr=stderr)
    try:
        wait_until(lambda: tracer.poll() is not None or said.read_text().count("attached") >= len(pids))
        if tracer.poll() is not None:
            pytest.skip(f"strace may not trace here: {said.read_text().strip()[-200:]}")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()


def calls_of_sessions(path):
    """How often each call was made by threads that accept clients or speak with them; futex is left out."""
    by_thread = collections.defaultdict(collections.Counter)
    for line in path.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found:
            by_thread[found[1]][found[2]] += 1
    counts = collections.Counter()
    for of_thread in by_thread.values():
        if of_thread["accept4"]:  # it looks up every half second, too: a slow machine must not count
            of_thread["poll"] = min(of_thread["poll"], of_thread["accept4"])
        if of_thread["sendto"] or of_thread["accept4"]:
            counts += of_thread
    del counts["futex"], counts["restart_syscall"]
    return counts


@contextlib.contextmanager
def connected(program):
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
        smtp.ehlo_or_helo_if_needed()
        yield smtp


def submit(smtp, number):
    text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {number}\r\n\r\n" + "x" * 70 + "\r\n"
    smtp.sendmail(ALERTS, [SCANS], text + ("y" * 70 + "\r\n") * 55)


def kept(program):
    with connected(program) as smtp:
        for number in range(MESSAGES):
            submit(smtp, number)


def each(program):
    for number in range(MESSAGES):
        with connected(program) as smtp:
            submit(smtp, number)


@pytest.mark.parametrize("connections", [kept, each])
def test_a_message_takes_few_system_calls(make_program, tmp_path, connections):
    need("strace")
    program = make_program(relay_networks={"127.0.0.0/8": ALERTS}).start()  # not signed in: all stays in the queue
    with connected(program) as smtp:
        submit(smtp, "the first, which loads what is needed")
    with traced(program, tmp_path / "calls"):
        connections(program)
    counts = calls_of_sessions(tmp_path / "calls")
    table = "".join(f"\n{name:20} {count / MESSAGES:6.2f}" for name, count in counts.most_common())
    total = sum(counts.values()) / MESSAGES
    print(f"{connections.__name__}: {total:.1f} system calls a message beside futex{table}")
    assert counts["fsync"] + counts["fdatasync"] == 2 * MESSAGES  # the message, and its directory
    assert counts["poll"] <= MESSAGES
    assert counts["ioctl"] <= MESSAGES / 10  # none of a message, but whoever opens a file anew asks what it is
    assert total <= MOST[connections.__name__], table


def test_clients_one_after_another_need_few_threads(make_program, tmp_path):
    program = make_program(relay_networks={"127.0.0.0/8": ALERTS}).start()
    with traced(program, tmp_path / "calls"):
        each(program)
    counts = calls_of_sessions(tmp_path / "calls")
    assert counts["clone"] + counts["clone3"] <= MESSAGES / 4
