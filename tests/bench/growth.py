"""What may not grow: the cost of a message with a long queue, of a session among many, of a start."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
from typing import List, Tuple

from backlog import fill
from bench.accept import source
from bench.clients import ask, greeted
from bench.deliver import hold, release
from bench.measuring import Bench, Machine, Tree, by_turns, line, sample, title
from bench.servers import running
from program import ALERTS, SCANS, Program
from waiting import wait_until

WAITING = "waiting@contoso.com"  # a mailbox that the tenant throttles

_SMTP = re.compile(r"started: .*?\bsmtp \S+:(\d+)")


def start(bench: Bench) -> None:
    """seconds from the command to the first greeting, with an empty queue"""
    with running(bench.place("start")) as program:
        title("Start to listening", "m365proxy", "budget")
        seconds = []
        for _ in range(bench.choose(9, 5)):
            program.stop()
            seconds.append(_start(program))
        line("empty queue", seconds, [0.5] * len(seconds), form="{:.2f} s")


def _start(program: Program) -> float:
    """Seconds from the command to the first greeting, beside which it lists its queue."""
    begun, before = time.monotonic(), len(program.said())
    program.launch()
    found = wait_until(lambda: _SMTP.search(program.said(), before), what="the ports")
    greeted(int(found[1])).close()
    seconds = time.monotonic() - begun
    program.await_status()
    return seconds


def _restart_with(program: Program, waiting: int) -> Tuple[float, float]:
    """Fill the queue and start the program again: (seconds to the first greeting, MB then)."""
    program.stop()
    fill(program.directory / "state" / "queue", waiting, WAITING)
    os.sync()
    program.sandbox.faults.add("answer", mailbox=WAITING, status=429, retry_after=3600, times=None)
    seconds = _start(program)
    source(program.port("smtp"), 1, one_each=False)  # the libraries are loaded, the way is learnt
    wait_until(lambda: len(program.sandbox.tenant.delivered) == 1, 120, "the first delivery")
    return seconds, Tree(program.process.pid).memory()


def _accept_and_send(program: Program, waiting: int, count: int) -> Tuple[float, float, float]:
    """Milliseconds of processor time to accept a message, to send one, and the percent others used."""
    tree = Tree(program.process.pid)
    hold(program)
    accepted = sample(tree, count, lambda: source(program.port("smtp"), count, one_each=False))
    sent = sample(tree, count, lambda: release(program, count, waiting))
    return accepted.cost, sent.cost, max(accepted.others, sent.others)


def queue(bench: Bench) -> None:
    """start, memory, and the cost of accepting and of sending a message with 100, 10,000 and 100,000 waiting"""
    lengths = bench.choose((100, 10_000, 100_000), (100, 10_000))
    title("A long queue, of a throttled mailbox: what messages of another cost", "m365proxy", f"{lengths[0]} waiting")
    with contextlib.ExitStack() as stack:
        subjects, starts = {}, {}
        for waiting in lengths:
            program = stack.enter_context(running(bench.place("queue"), [ALERTS, SCANS, WAITING]))
            starts[waiting] = _restart_with(program, waiting)
            subjects[waiting] = (program, waiting)
        count = bench.choose(200, 100)
        found = by_turns(subjects, bench.choose(5, 3), lambda subject: _accept_and_send(*subject, count))
        for waiting, (program, _) in subjects.items():
            _report_queue(program, waiting, starts, found)


def _report_queue(program: Program, waiting: int, starts: dict, found: dict) -> None:
    first = min(found)
    peak = Tree(program.process.pid).peak()
    for what, figures, references in zip(("accept", "send"), zip(*found[waiting]), zip(*found[first])):
        others = [load for _, _, load in found[waiting]]
        line(f"{waiting} waiting: processor time to {what}", figures, references, form="{:.2f} ms", others=others)
    seconds, resident = starts[waiting]
    (seconds_first, resident_first), note = starts[first], "budget 0.5 s"
    line(f"{waiting} waiting: start", [seconds], [seconds_first], form="{:.2f} s", note=note)
    note = f"the main process at most {peak:.1f} MB (budget 64 MB more)"
    line(f"{waiting} waiting: resident", [resident], [resident_first], form="{:.1f} MB", note=note)


def allow_descriptors(count: int = 8192) -> None:
    """Let this process, and those it starts, have as many files open as that."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count) if most > 0 else count, most))


def crowd(bench: Bench) -> None:
    """the processor time and memory of a session and of its commands, with 10, 100 and 1,000 sessions"""
    allow_descriptors()
    counts = (10, 100, 1000)
    title("Sessions at once: a RCPT on each of them in turn, opening one", "m365proxy", "the fewest")
    # Not NOOP: commands that achieve nothing are slowed down.
    limits = {"connections": 1100, "recipients": 1000}
    with running(bench.place("crowd"), signed_in=False, limits=limits) as program:
        for _ in range(5):  # a rush has loaded everything
            greeted(program.port("smtp"), b"EHLO x", b"QUIT").close()
        first: Tuple[List[float], float] = ([], 0.0)
        for count in counts:
            first = _report_crowd(program, count, bench.choose(7, 3), *first)


def _report_crowd(
    program: Program, count: int, rounds: int, first_named: List[float], first_opened: float
) -> Tuple[List[float], float]:
    """Milliseconds of processor time of a RCPT and of opening a session; of the fewest sessions, if those are given."""
    tree = Tree(program.process.pid)
    before, machine, spent = tree.memory(), Machine(), tree.processor()
    clients = []
    opened = sample(tree, count, lambda: clients.extend(_greeted(program, count)))
    held = 1024 * (tree.memory() - before) / count
    threads = tree.threads()
    times = 1400 // count
    named = [sample(tree, times * count, lambda: _name_recipients(clients, times)).cost for _ in range(rounds)]
    for client in clients:
        client.close()
    wait_until(lambda: program.status()["connections"] == 0, what="the end of the sessions")
    others = machine.others(tree.processor() - spent)
    first_named, first_opened = first_named or named, first_opened or opened.cost
    what, note = f"{count} sessions: processor time of", f"{held:.0f} KB each, {threads} threads"
    line(f"{what} a RCPT", named, first_named, form="{:.3f} ms", others=[others], note=note)
    line(f"{what} opening one", [opened.cost], [first_opened], form="{:.2f} ms")
    return first_named, first_opened


def _greeted(program: Program, count: int):
    return [greeted(program.port("smtp"), b"EHLO x", f"MAIL FROM:<{ALERTS}>".encode()) for _ in range(count)]


def _name_recipients(clients, times: int) -> None:
    for _ in range(times):
        for client in clients:
            ask(client, b"RCPT TO:<%s>\r\n" % SCANS.encode())


PARTS = (start, queue, crowd)
