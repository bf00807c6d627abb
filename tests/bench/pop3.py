"""POP3: fetching against one request after another, logins on large mailboxes, and many sessions at once."""

from __future__ import annotations

import contextlib
import http.client
import poplib
import ssl
from typing import Iterator, List, Sequence, Tuple
from urllib.parse import quote

from bench.measuring import Bench, Machine, Sample, Tree, by_turns, line, sample, title
from bench.servers import running
from program import ALERTS, PASSWORD, SCANS, Program

BODY = (b"." + b"x" * 75 + b"\r\n") * (20_000 // 78)
SECONDS = 0.1  # for each request to the stand-in tenant, where fetching is measured


def mail(number: int, body: bytes = BODY) -> bytes:
    return b"Subject: %d\r\nContent-Type: text/plain\r\n\r\n" % number + body


def fill(program: Program, mailbox: str, count: int, body: bytes = b"x\r\n") -> None:
    program.sandbox.tenant.add_mailbox(mailbox)
    for number in range(count):
        program.sandbox.tenant.add_message(mailbox, mail(number, body), received=1_700_000_000 + number)


def logged_in(program: Program, mailbox: str) -> poplib.POP3:
    client = poplib.POP3("127.0.0.1", program.port("pop3"), timeout=300)
    client.user(mailbox)
    client.pass_(PASSWORD)
    return client


# Fetching.


def _one_after_another(program: Program) -> None:
    """Every message on one connection to the tenant, without read-ahead: what a simple program would need."""
    sandbox = program.sandbox
    connection = http.client.HTTPSConnection(
        "127.0.0.1", sandbox.port, context=ssl.create_default_context(cafile=sandbox.ca_file)
    )
    headers = {"Authorization": "Bearer " + sandbox.entra.token(), "Prefer": 'IdType="ImmutableId"'}
    for item in sandbox.tenant.items(SCANS):
        path = f"/v1.0/users/{SCANS}/messages/{quote(item.immutable, safe='')}/$value"
        connection.request("GET", path, headers=headers)
        connection.getresponse().read()
    connection.close()


def _fetch(program: Program, command: str, order: Sequence[int]) -> None:
    """Log in, RETR or TOP each of these messages, and QUIT."""
    client = logged_in(program, SCANS)
    for number in order:
        assert (client.retr(number) if command == "RETR" else client.top(number, 0))[1]
    client.quit()


def retr(bench: Bench) -> None:
    """messages of 20 KB at 100 ms a request, against one request after another"""
    count = bench.choose(1000, 200)
    upward = range(1, count + 1)
    with running(bench.place("retr")) as program:
        fill(program, SCANS, count, BODY)
        _fetch(program, "TOP", upward[:4])  # the libraries are loaded
        program.sandbox.latency = SECONDS
        tree = Tree(program.process.pid)
        title(f"POP3: {count} messages of 20 KB, {1000 * SECONDS:.0f} ms a request", "m365proxy", "one by one")
        reference = sample(tree, count, lambda: _one_after_another(program))
        for what, command, order in (
            ("RETR, oldest first", "RETR", upward),
            ("RETR, newest first", "RETR", upward[::-1]),
            ("TOP n 0, oldest first", "TOP", upward),
        ):
            program.sandbox.forget()
            found = sample(tree, count, lambda: _fetch(program, command, order))  # noqa: B023
            requests = program.sandbox.requests
            refused = sum(request.status == 429 for request in requests)
            note = f"{len(requests)} requests, {refused} answered 429; {found.cost:.2f} ms of the processor each"
            line(what, [found.rate], [reference.rate], others=[found.others], form="{:.1f}/s", note=note)


# Logins on large mailboxes.


def _mailbox(count: int) -> str:
    return f"box{count}@contoso.com"


def _log_in(program: Program, mailbox: str) -> Tuple[Sample, float, int]:
    """(processor time of login, UIDL, LIST and QUIT; octets a message held by the session; requests)."""
    tree = Tree(program.process.pid)
    program.sandbox.forget()
    before = tree.memory()
    held: List[float] = []

    def session() -> None:
        client = logged_in(program, mailbox)
        held.append(1024 * 1024 * (tree.memory() - before) / max(1, client.stat()[0]))
        client.quit()

    return sample(tree, 1, session), held[0], len(program.sandbox.requests)


def login(bench: Bench) -> None:
    """processor time, memory and requests of a login on 100 to 50,000 messages: the first one, and one without news"""
    counts = bench.choose((100, 1000, 10_000, 50_000), (100, 10_000))
    boxes = {count: _mailbox(count) for count in counts}
    with running(bench.place("login"), [ALERTS, SCANS, *boxes.values()]) as program:
        fill(program, SCANS, 1)
        logged_in(program, SCANS).quit()  # the libraries are loaded
        title("POP3: a login with n messages, and its QUIT: processor time", "m365proxy", "budget")
        for count, mailbox in boxes.items():
            fill(program, mailbox, count)
            first, octets, requests = _log_in(program, mailbox)
            _report_login(f"{count} messages, first time", [first], requests, f", {octets:.0f} octets a message")
            again = [_log_in(program, mailbox) for _ in range(bench.rounds)]
            _report_login(f"{count} messages, nothing new", [one for one, _, _ in again], again[-1][2])


def _report_login(what: str, found: Sequence[Sample], requests: int, more: str = "") -> None:
    note = f"{requests} request{'s' * (requests != 1)}{more}"
    costs = [one.cost for one in found]
    line(what, costs, [500.0] * len(costs), form="{:.0f} ms", others=[one.others for one in found], note=note)


# Many sessions at once.


@contextlib.contextmanager
def _sessions(program: Program, boxes: Sequence[str]) -> Iterator[None]:
    """A session on each of these mailboxes at once."""
    clients = [logged_in(program, mailbox) for mailbox in boxes]
    try:
        yield
    finally:
        for client in clients:
            client.quit()


def drops(bench: Bench) -> None:
    """processor time, memory and threads of a POP3 session with 100 messages, with 10 to 1,000 at once"""
    counts = bench.choose((10, 100, 1000), (10, 100))
    boxes = [f"device{number}@contoso.com" for number in range(counts[-1])]
    limits = {"connections": 2 * len(boxes)}
    with running(bench.place("drops"), [ALERTS, SCANS, *boxes], limits=limits) as program:
        for mailbox in boxes:
            fill(program, mailbox, 100)
            logged_in(program, mailbox).quit()  # each has been listed once
        title(
            "POP3: a session of a mailbox with 100 messages, from login to QUIT: processor time",
            "m365proxy",
            f"{counts[0]} sessions",
        )
        found = by_turns({count: count for count in counts}, 1, lambda count: _crowd(program, boxes[:count]))
        for count, rounds in found.items():
            cost, others, kilobytes, threads = rounds[-1]
            reference = [found[counts[0]][-1][0]]
            note = f"{kilobytes:.0f} KB each, {threads:.2f} threads each"
            line(f"{count} sessions at once", [cost], reference, form="{:.2f} ms", others=[others], note=note)


def _crowd(program: Program, boxes: Sequence[str]) -> Tuple[float, float, float, float]:
    """(milliseconds of processor time, percent that others used, KB and threads of each session)."""
    tree = Tree(program.process.pid)
    memory, threads = tree.memory(), tree.threads()
    machine, before = Machine(), tree.processor()
    with _sessions(program, boxes):
        kilobytes = 1024 * (tree.memory() - memory) / len(boxes)
        threads = (tree.threads() - threads) / len(boxes)
    spent = tree.processor() - before
    return 1000 * spent / len(boxes), machine.others(spent), kilobytes, threads


PARTS = (retr, login, drops)
