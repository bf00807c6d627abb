"""Delivery to a tenant that counts strictly: the rate against what its limits allow, and the processor time."""

from __future__ import annotations

import smtplib
import time
from typing import Sequence, Tuple

from bench.accept import source
from bench.measuring import Bench, Machine, Tree, by_turns, line, title
from bench.servers import LATENCY, running
from program import ALERTS, PASSWORD, SCANS, Program
from waiting import wait_until

from m365proxy.delivery import sentids
from m365proxy.graph.client import SLOTS

BOXES = [f"device{number}@contoso.com" for number in range(16)]


def _submit(program: Program, boxes: Sequence[str], count: int) -> None:
    """`count` messages from each mailbox."""
    for name in boxes:
        with smtplib.SMTP("127.0.0.1", program.port("smtp")) as smtp:
            smtp.login(name, PASSWORD)
            for number in range(count):
                smtp.sendmail(name, [SCANS], f"From: {name}\r\nTo: {SCANS}\r\nSubject: {number}\r\n\r\nx\r\n")


def hold(program: Program) -> None:
    """Take the tenant away, and wait until the program knows; what is accepted now stays in the queue."""
    program.sandbox.offline()
    _submit(program, [ALERTS], 1)  # something has to be tried
    wait_until(lambda: program.status()["paused"], 60, "the pause")


def release(program: Program, count: int, left: int = 0) -> None:
    """Bring the tenant back, and wait until `count` messages and the one of `hold` are delivered and `left` wait."""
    delivered = program.sandbox.tenant.delivered
    total = len(delivered) + count + 1
    program.sandbox.online()
    wait_until(lambda: len(delivered) == total and len(program.queue()) == left, 600, "the deliveries")


def _batch(program: Program, boxes: Sequence[str], count: int) -> Tuple[float, float, float, float, int]:
    """(messages a second, possible ones, requests a message, percent others used, requests answered with 429)."""
    sandbox = program.sandbox
    sandbox.latency = 0.0
    hold(program)
    _submit(program, boxes, count)
    sandbox.latency = LATENCY
    sandbox.forget()
    tree = Tree(program.process.pid)
    machine, before = Machine(), tree.processor()
    release(program, len(boxes) * count)
    others = machine.others(tree.processor() - before)
    sent = [request for request in sandbox.requests if request.mailbox in boxes]
    seconds = max(request.end for request in sent) - min(request.start for request in sent)
    messages = len(boxes) * count
    requests = len(sent) / messages
    possible = len(boxes) * SLOTS / (requests * LATENCY)
    return messages / seconds, possible, requests, others, sum(request.status == 429 for request in sent)


def _warm_up(program: Program, boxes: Sequence[str]) -> None:
    """Libraries are loaded, the ways are learnt, and that the sent copies are found by their drafts' ids."""
    for _ in range(2):
        _submit(program, boxes, 1)
        wait_until(lambda: program.queue() == [], 60, "the deliveries")
        time.sleep(sentids._WAITS[0])


def deliver(bench: Bench) -> None:
    """the ceiling: what leaves 1, 4 and 16 mailboxes at 250 ms a request, of what 4 requests at a time allow"""
    count = 60  # fewer do not fill the slots at the end
    with running(bench.place("deliver"), [ALERTS, SCANS, *BOXES]) as program:
        _warm_up(program, BOXES)
        title(f"Delivery: {count} messages of each mailbox, {1000 * LATENCY:.0f} ms a request", "m365proxy", "possible")
        for boxes, budget in ((1, 0.95), (4, 0.95), (16, 0.80)):
            rounds = [_batch(program, BOXES[:boxes], count) for _ in range(bench.choose(3, 1))]
            rates, possible, requests, others, refused = zip(*rounds)
            note = f"budget {budget:.2f}; {sum(requests) / len(requests):.2f} requests a message"
            note += f"; {sum(refused)} answered 429"
            line(f"mailboxes: {boxes}", rates, possible, form="{:.1f}/s", others=others, note=note)


def delivery_cost(program: Program, count: int) -> Tuple[float, float]:
    """(milliseconds of processor time a message, percent others used) to a tenant that answers at once."""
    hold(program)
    source(program.port("smtp"), count, one_each=False)
    tree = Tree(program.process.pid)
    machine, before = Machine(), tree.processor()
    release(program, count)
    spent = tree.processor() - before
    return 1000 * spent / (count + 1), machine.others(spent)


def cost(bench: Bench) -> None:
    """processor time a delivered message, with a tenant that answers at once"""
    count = bench.choose(300, 150)
    with running(bench.place("cost")) as program:
        _warm_up(program, [ALERTS])
        title("Delivery: processor time a message, with a tenant that answers at once", "m365proxy")
        found = by_turns({"": program}, bench.rounds, lambda subject: delivery_cost(subject, count))[""]
        costs, others = zip(*found)
        line("delivered from one mailbox", costs, form="{:.2f} ms", others=others)


PARTS = (deliver, cost)
