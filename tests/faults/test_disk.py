"""A disk that fails at every single step: of taking mail, and of delivering it.

Until the 250 any fault is a 4xx and leaves nothing; after it nothing is lost
and nothing is sent twice.
"""

import contextlib
import errno
import itertools
import os
import subprocess
import sys
import threading

import pytest
from faults.disk import FaultyDisk
from smtp_harness import Harness as SmtpHarness
from waiting import wait_until

from m365proxy.delivery import conclusions
from m365proxy.delivery.courier import Courier
from m365proxy.delivery.outcome import Outcome, Then, Verdict
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.system import files

CODES = [errno.EIO, errno.ENOSPC, errno.EROFS]
# One that is on the disk while it comes in, and one that is in memory until its end.
BODY = "Subject: x\r\n\r\n" + "".join(f"line {number:06}\r\n" for number in range(24_000))
SMALL = BODY[:10_000] + "\r\n"
SENDER = "scanner@contoso.com"


# Taking mail.


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "queue"))
    made.make()
    return made


@pytest.fixture
def disk(monkeypatch, spool):
    return FaultyDisk(monkeypatch, spool.directory)


@pytest.fixture
def talk(spool, disk):
    with SmtpHarness(spool=spool) as harness, harness.client() as client:
        assert client.ask("EHLO x").startswith("250")
        assert client.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk").startswith("235")
        yield client


def send(talk, body=BODY):
    """The reply that ends the transaction."""
    assert talk.ask("RSET").startswith("250")
    assert talk.ask(f"MAIL FROM:<{SENDER}>").startswith("250")
    assert talk.ask("RCPT TO:<x@example.org>").startswith("250")
    answer = talk.ask("DATA")
    if answer.startswith("354"):
        talk.send(body.encode() + b".\r\n")
        answer = talk.reply()
    return answer


def left(spool, *places):
    return [name for place in places for name in os.listdir(os.path.join(spool.directory, place))]


def content(spool, id):
    envelope, file = spool.open(spool.find(id))
    with file:
        return file.read()


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("body, writes", [(BODY, 3), (SMALL, 1)], ids=["large", "small"])
def test_no_fault_of_the_disk_makes_a_false_250(spool, disk, talk, caplog, code, sticky, body, writes):
    assert send(talk, body).startswith("250")
    accepted = [entry.id for entry in spool.entries()]
    disk.code, disk.sticky = code, sticky
    for step in ("create", "write", "sync_file", "move", "sync_directory"):
        # How many writes there are depends on how the octets come in.
        for time_of_it in itertools.count(1):
            assert talk.ask("NOOP").startswith("250")  # whatever the session did after its last reply is done
            disk.steps, disk.failed, disk.fail_on = [], 0, (step, time_of_it)
            answer = send(talk, body)
            failed = disk.failed
            assert talk.ask("NOOP").startswith("250")
            disk.heal()
            if not failed:
                break
            assert answer.startswith("452"), (step, answer)
            kept = [entry.id for entry in spool.entries() if entry.id not in accepted]
            if sticky and step == "sync_directory":
                # Renamed, and the disk lets nobody take it back: all that can be done is to say so.
                assert len(kept) == 1 and "Remove it by hand" in caplog.text
                accepted += kept
            else:
                assert kept == [], step
            if not sticky:
                assert left(spool, "tmp", "state", "cur", "failed") == [], step
        assert answer.startswith("250") and time_of_it > (writes if step == "write" else 1)
        accepted = [entry.id for entry in spool.entries()]
    for name in left(spool, "tmp"):
        os.utime(os.path.join(spool.directory, "tmp", name), (1.0, 1.0))
    spool.sweep()
    assert left(spool, "tmp") == []
    assert send(talk).startswith("250"), "the session and the spool work on when the disk does"


def test_short_writes_lose_no_octet(spool, disk, talk):
    disk.short = 999
    answer = send(talk)
    assert answer.startswith("250")
    [entry] = spool.entries()
    assert content(spool, entry.id) == BODY.encode()


def test_a_disk_that_fills_up_in_the_middle_of_short_writes(spool, disk, talk):
    disk.short, disk.code = 999, errno.ENOSPC
    for number in (2, 50, 100):
        assert talk.ask("NOOP").startswith("250")
        disk.steps, disk.fail_at = [], number
        assert send(talk).startswith("452") and disk.failed
    assert list(spool.entries()) == [] and left(spool, "tmp") == []


def test_what_is_told_before_data(tmp_path, monkeypatch):
    spool = Spool(str(tmp_path), min_free=1000, max_waiting=1)
    spool.make()
    with SmtpHarness(spool=spool) as harness, harness.client() as talk:
        talk.ask("EHLO x")
        talk.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk")
        for patch in ("free_bytes", "free_inodes"):
            with monkeypatch.context() as context:
                context.setattr(files, patch, lambda path: 0)
                assert send(talk).startswith("452")
        assert send(talk).startswith("250")
        assert send(talk).startswith("452"), "max_waiting"
        claim = spool.claim(next(spool.entries()).id)
        claim.mark_posting()
        claim.remove_sent()
        assert send(talk).startswith("250")
    assert left(spool, "tmp") == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_real_full_file_system(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    spool = Spool(str(tmp_path))
    try:
        spool.make()
        with SmtpHarness(spool=spool) as harness, harness.client() as talk:
            talk.ask("EHLO x")
            talk.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk")
            answers = [send(talk) for _ in range(12)]
            assert answers[0].startswith("250") and answers[-1].startswith("452")
            assert len(list(spool.entries())) == sum(answer.startswith("250") for answer in answers)
            assert all(content(spool, entry.id) == BODY.encode() for entry in spool.entries())
            assert left(spool, "tmp") == []
            small = [send(talk, "Subject: x\r\n\r\n") for _ in range(64)]
            assert small[-1].startswith("452"), "no inodes"
            for entry in list(spool.entries()):
                spool.drop(entry)
            assert send(talk).startswith("250")
    finally:
        spool.close()
        subprocess.run(["umount", str(tmp_path)], check=True)


# Delivering it.


class Graph:
    def throttled_for(self, mailbox):
        return 0.0


class World:
    """What a perfect Delivery knows and does: `sent` is what recipients got."""

    def __init__(self, *verdicts):
        self.verdicts = list(verdicts)
        self.sent = []
        self.lock = threading.Lock()

    def deliver(self, claim, envelope, file):
        claim.save_state()
        claim.mark_posting()
        with self.lock:
            verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
            if verdict.outcome is not Outcome.NOT_SENT:
                self.sent.append(claim.id)
        return verdict

    def look(self, claim, envelope):
        if self.verdicts == [HOLD]:
            return HOLD
        return SENT if claim.id in self.sent else LATER

    def first_look(self):
        return 0.001

    def drop_draft(self, claim):
        pass


SENT = Verdict(Outcome.SENT, Then.PERMANENT, "")
LATER = Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "later", "4.4.5")
NEVER = Verdict(Outcome.NOT_SENT, Then.PERMANENT, "never", "5.1.3")
WHO_KNOWS = Verdict(Outcome.AMBIGUOUS, Then.TRANSIENT, "who knows", "4.4.0", 0.001)
HOLD = Verdict(Outcome.AMBIGUOUS, Then.PERMANENT, "nobody knows", "4.4.0")

# What Graph says to each attempt -> how often recipients get it, and where it is in the end.
STORIES = {
    "sent": ([SENT], 1, []),
    "deferred": ([LATER, LATER, SENT], 1, []),
    "failed": ([NEVER], 0, ["failed"]),
    "looked for": ([WHO_KNOWS], 1, []),
    "held": ([HOLD], 1, ["cur"]),
}


@pytest.fixture
def run(monkeypatch):
    """run(spool, world): the courier over it, as at a start; ends with the block."""
    monkeypatch.setattr(conclusions, "_REMOVE_AGAIN", 0.001)

    @contextlib.contextmanager
    def go(spool, world):
        courier = Courier(spool, Graph(), world, [SENDER], retry_interval=0.001, probe=lambda: None)
        try:
            yield courier
        finally:
            assert courier.stop(10)

    return go


def put(spool):
    incoming = spool.put(Envelope(SENDER, SENDER, ("x@example.org",)))
    incoming.write(b"Subject: x\r\n\r\nx\r\n")
    return incoming.commit()


def quiet(courier):
    """Whether the courier has nothing to do, now or later."""
    lane = courier.status()["mailboxes"][SENDER]
    return not lane["waiting"] and not lane["sending"]


def steps_of(story, spool, disk, run):
    put(spool)
    disk.steps = []
    with run(spool, World(*STORIES[story][0])) as courier:
        courier.recover()
        courier.start()
        wait_until(lambda: quiet(courier))
    steps = list(disk.steps)
    for entry in list(spool.entries()):
        spool.drop(entry)
    return steps


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("sticky", [False, True], ids=["once", "from then on"])
def test_no_fault_of_the_disk_loses_or_doubles_a_message(spool, disk, run, story, sticky):
    steps = steps_of(story, spool, disk, run)
    assert {"move", "sync_directory"} <= set(steps)
    verdicts, times, places = STORIES[story]
    for number, name in enumerate(steps):
        id = put(spool)
        world = World(*verdicts)
        disk.steps, disk.fail_at, disk.sticky, disk.failed = [], number, sticky, 0
        with run(spool, world) as courier:
            courier.recover()
            courier.start()
            wait_until(lambda: disk.failed)
            if not sticky:
                wait_until(lambda: quiet(courier))
        disk.heal()
        where = f"{story}: step {number} ({name})"
        assert len(world.sent) <= max(times, 1) and world.sent.count(id) <= 1, where
        if id not in world.sent:
            assert spool.find(id) is not None, where
        # as after a restart on a disk that works again
        with run(Spool(spool.directory), world) as courier:
            courier.recover()
            courier.start()
            wait_until(lambda: quiet(courier))
        assert world.sent.count(id) == times or spool.find(id) is not None, where
        assert world.sent.count(id) <= 1, where
        if not sticky:
            assert [entry.place for entry in spool.entries()] == places, where
        for entry in list(spool.entries()):
            assert content(spool, entry.id) == b"Subject: x\r\n\r\nx\r\n"
            spool.drop(entry)
        assert left(spool, "new", "cur", "failed") == []
