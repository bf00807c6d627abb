"""Acceptance: messages that are safely on disk before their 250, beside Postfix with its queue on the same disk.

The client of all is smtp-source of Postfix, or for TLS and a login one in Python.  Postfix puts everything on hold, so
that it delivers nothing meanwhile; a second one relays, for a line like with like where this program delivers.  The
other m365proxy of PyPI, 2.2.6, is not compared: it does not start without a sign-in at Microsoft itself.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
from typing import Dict, Iterator, List

from bench.measuring import Bench, Sample, Skipped, by_turns, context_switches, line, sample, say, system_calls, title
from bench.servers import Server, aiosmtpd, ours, postfix, relaying_postfix
from program import ALERTS, PASSWORD, SCANS

SESSIONS, SIZE = 20, 4096
FORMS = {"a connection each": True, "kept": False}
OURS, DELIVERING, POSTFIX = "m365proxy", "m365proxy, delivering", "Postfix"
RELAYING, AIOSMTPD = "Postfix, relaying", "aiosmtpd"

# What a line compares, what with, and what it says of that.
COMPARISONS = (
    (OURS, POSTFIX, ""),
    (DELIVERING, POSTFIX, ", delivering"),
    (DELIVERING, RELAYING, ", delivering; Postfix relays"),
    (OURS, AIOSMTPD, "; aiosmtpd with a Maildir"),
)


def source_words(port: int, messages: int, one_each: bool, sessions: int = SESSIONS, size: int = SIZE) -> List[str]:
    """smtp-source that gets rid of messages; one connection for each, or the same ones for all."""
    words = ["smtp-source", "-s", str(sessions), "-l", str(size), "-m", str(messages), "-f", ALERTS, "-t", SCANS]
    return [*words, *([] if one_each else ["-d"]), f"127.0.0.1:{port}"]


def source(port: int, messages: int, one_each: bool, sessions: int = SESSIONS, size: int = SIZE) -> None:
    subprocess.run(source_words(port, messages, one_each, sessions, size), check=True, timeout=600)


@contextlib.contextmanager
def compared(bench: Bench, more: bool = False) -> Iterator[Dict[str, Server]]:
    """This program without a sign-in, and Postfix if it is here; `more`: both delivering, too, and aiosmtpd."""
    if not shutil.which("smtp-source"):
        raise Skipped("smtp-source is not installed (apt install postfix)")
    with contextlib.ExitStack() as stack:
        servers = {OURS: stack.enter_context(ours(bench.place("ours"), delivering=False))}
        references = {POSTFIX: postfix}
        if more:
            servers[DELIVERING] = stack.enter_context(ours(bench.place("delivering"), delivering=True))
            references.update({RELAYING: relaying_postfix, AIOSMTPD: aiosmtpd})
        for name, reference in references.items():
            try:
                servers[name] = stack.enter_context(reference(bench.place("reference")))
            except Skipped as reason:
                say(str(reason))
        yield servers


def _turn(messages: int, *form):
    """What a server does in its turn: take `messages` from smtp-source."""

    def work(server: Server) -> Sample:
        with server.turn():
            return sample(server.tree, messages, lambda: source(server.port, messages, *form))

    return work


def report(what: str, found: Dict[str, List[Sample]]) -> None:
    """Rate and processor time of this program, beside each server that it is compared with."""
    for name, reference, said in COMPARISONS:
        if name in found and (reference == POSTFIX or reference in found):
            samples, against = found[name], found.get(reference, [])
            others = [one.others for one in [*samples, *against]]
            line(what + said, [one.rate for one in samples], [one.rate for one in against], others=others)
            costs = [[one.cost for one in samples], [one.cost for one in against]]
            line("  processor time a message", *costs, form="{:.2f} ms")


def accept(bench: Bench) -> None:
    """4 KB, 20 sessions: a connection each and kept, with delivery running and without; beside aiosmtpd, too"""
    messages = bench.choose(1000, 600)
    with compared(bench, more=True) as servers:
        title(f"Acceptance: {messages} messages of 4 KB, {SESSIONS} sessions at once", OURS, "reference")
        for form, one_each in FORMS.items():
            report(form, by_turns(servers, bench.rounds, _turn(messages, one_each)))


def sessions(bench: Bench) -> None:
    """4 KB with 1 and with 100 sessions"""
    with compared(bench) as servers:
        title("Acceptance: 4 KB, other numbers of sessions", OURS, POSTFIX)
        for count in (1, 100):
            messages = bench.choose(800, 400)
            for form, one_each in FORMS.items():
                report(f"sessions: {count}, {form}", by_turns(servers, bench.rounds, _turn(messages, one_each, count)))


@contextlib.contextmanager
def _bound() -> Iterator[None]:
    """What is started in the with block runs on one core only; this program has no receivers then."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [max(usual)])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def onecore(bench: Bench) -> None:
    """4 KB, 20 sessions, each server started on one core: the processor time a message is what it needs"""
    messages = bench.choose(1000, 600)
    with contextlib.ExitStack() as stack:
        with _bound():
            servers = stack.enter_context(compared(bench))
        title("Acceptance: 4 KB, 20 sessions, the server started on one core", OURS, POSTFIX)
        for form, one_each in FORMS.items():
            report(form, by_turns(servers, bench.rounds, _turn(messages, one_each)))


def large(bench: Bench) -> None:
    """1 MB, 20 sessions"""
    messages = bench.choose(100, 40)
    with compared(bench) as servers:
        title(f"Acceptance: {messages} messages of 1 MB, {SESSIONS} sessions at once", OURS, POSTFIX)
        report("a connection each", by_turns(servers, bench.rounds, _turn(messages, True, SESSIONS, 1_000_000)))


def _submit_over_tls(port: int, messages: int) -> None:
    """Two processes of clients: one would be slower than the servers."""
    script = pathlib.Path(__file__).with_name("clients.py")
    response = base64.b64encode(f"\0{ALERTS}\0{PASSWORD}".encode()).decode()
    words = [sys.executable, str(script), port, SESSIONS // 2, messages // 2, response, ALERTS, SCANS]
    for client in [subprocess.Popen(list(map(str, words))) for _ in range(2)]:
        assert client.wait() == 0, "a client has failed"


def starttls(bench: Bench) -> None:
    """4 KB, 20 sessions, each message in a connection of its own with STARTTLS and a login"""
    messages = bench.choose(600, 300)

    def work(server: Server) -> Sample:
        return sample(server.tree, messages, lambda: _submit_over_tls(server.port, messages))

    with compared(bench) as servers:
        title(f"Acceptance: STARTTLS and a login, {messages} messages of 4 KB, {SESSIONS} sessions", OURS, POSTFIX)
        report("a connection each", by_turns(servers, bench.rounds, work))


def calls(bench: Bench) -> None:
    """system calls (strace) and context switches (perf) for a message, apart from the timed rounds"""
    messages = bench.choose(1000, 400)
    with compared(bench) as servers:
        title("Acceptance: system calls and context switches a message, 4 KB, 20 sessions", OURS, POSTFIX)
        for form, one_each in FORMS.items():
            for what, count in (("context switches", _switches), ("system calls", _calls)):
                _print_counts(f"{what}, {form}", servers, lambda server: count(server, messages, one_each))  # noqa: B023


def _print_counts(what: str, servers: Dict[str, Server], count) -> None:
    """`count(server)` is (a figure, a note) for a message."""
    try:
        found = {name: count(server) for name, server in servers.items()}
    except (Skipped, FileNotFoundError) as reason:
        say(f"{what}: left out: {reason}")
        return
    figure, note = found.pop(OURS)
    line(what, [figure], [other for other, _ in found.values()], form="{:.1f}", note=note)


def _switches(server: Server, messages: int, one_each: bool):
    source(server.port, 50, one_each)
    return context_switches(server.tree, source_words(server.port, messages, one_each)) / messages, ""


def _calls(server: Server, messages: int, one_each: bool):
    with system_calls(server.tree) as found:
        source(server.port, messages, one_each)
    futex = found.pop("futex", 0) / messages
    most = sorted(found.items(), key=lambda item: -item[1])[:6]
    names = ", ".join(f"{name} {count / messages:.1f}" for name, count in most)
    return sum(found.values()) / messages, f"and {futex:.1f} futex; {names}"


PARTS = (accept, sessions, onecore, starttls, large, calls)
