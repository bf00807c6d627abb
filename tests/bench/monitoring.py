"""What history and figures cost: with and without event log, counters and status port, by turns in one run.

The real program, twice, against a stand-in tenant each; smtp-source of Postfix is its client.  "Neither" has no event
log and no status port, and what follows the steps of messages is taken out of it, which no config can do.  Processor
time is compared and not the rate, which goes up and down with everything else on the machine.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import sys
import tempfile
import time
from typing import Dict, Iterator, Sequence

import program as harness
from bench.accept import source
from bench.deliver import delivery_cost
from bench.measuring import Bench, Tree, by_turns, line, sample, title
from bench.servers import running
from program import ROOT, Program
from waiting import wait_until

from m365proxy.monitoring.counterfile import CounterFile
from m365proxy.monitoring.counters import Counters

NOW = 1_800_000_000.0
STEPS = {
    "accepted": {"event": "accepted", "id": "x", "mailbox": "alerts@contoso.com", "size": 4096},
    "delivered": {"event": "delivered", "id": "x", "mailbox": "alerts@contoso.com", "seconds": 1.5},
}


# A program in which nothing follows the steps of messages.
_BARE = """
import sys
from m365proxy.system import events
events.Followers.emit = lambda self, record: None
from m365proxy.cli import main
sys.exit(main())
"""


WITHOUT, WITH = "neither", "event log, counters and status port"


@contextlib.contextmanager
def both(bench: Bench, signed_in: bool) -> Iterator[Dict[str, Program]]:
    """Both programs, running; the status port was asked once."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for -c
    with contextlib.ExitStack() as stack:
        usual, harness.COMMAND = harness.COMMAND, [sys.executable, "-c", _BARE]
        try:
            without = running(bench.place("without"), signed_in=signed_in, logging={"events_mb": 0})
            programs = {WITHOUT: stack.enter_context(without)}
        finally:
            harness.COMMAND = usual
        programs[WITH] = stack.enter_context(running(bench.place("with"), signed_in=signed_in, status_port=0))
        yield programs


def _tree(program: Program) -> Tree:
    return Tree(program.process.pid)


def _compare(what: str, found: Dict[str, Sequence[float]], form: str, note: str, others: Sequence[float] = ()) -> None:
    line(what, found[WITH], found[WITHOUT], form=form, note=note, others=others)


def _scrape(program: Program) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", program.port("status"), timeout=20)
    connection.request("GET", "/metrics")
    assert connection.getresponse().read()
    connection.close()


def _accept(bench: Bench, messages: int) -> None:
    """Nobody is signed in: all stays queued."""

    def work(program: Program):
        return sample(_tree(program), messages, lambda: source(program.port("smtp"), messages, one_each=False))

    with both(bench, signed_in=False) as programs:
        _scrape(programs[WITH])
        found = by_turns(programs, bench.rounds, work)
        costs = {name: [one.cost for one in samples] for name, samples in found.items()}
        others = [one.others for samples in found.values() for one in samples]
        _compare("processor time to accept a message", costs, "{:.3f} ms", "budget 1.02", others)
        count = bench.choose(50, 20)
        scrapes = sample(_tree(programs[WITH]), count, lambda: [_scrape(programs[WITH]) for _ in range(count)])
        queued = len(programs[WITH].queue())
        line("processor time of one scrape", [scrapes.cost], form="{:.1f} ms", note=f"{queued} messages are queued")
        memory = {name: [_tree(program).memory()] for name, program in programs.items()}
        _compare(f"resident memory, {queued} queued", memory, "{:.1f} MB", "budget 2 MB more")


def _deliver(bench: Bench, messages: int) -> None:
    with both(bench, signed_in=True) as programs:
        _scrape(programs[WITH])
        found = by_turns(programs, bench.rounds, lambda program: delivery_cost(program, messages))
        costs = {name: [cost for cost, _ in samples] for name, samples in found.items()}
        others = [load for samples in found.values() for _, load in samples]
        _compare("processor time to deliver a message", costs, "{:.3f} ms", "budget 1.02", others)


def _idle(bench: Bench) -> None:
    """Resident memory, signed in, after the libraries were loaded for some messages."""
    with both(bench, signed_in=True) as programs:
        for program in programs.values():
            source(program.port("smtp"), 20, one_each=False)
            wait_until(lambda: not program.queue(), 60, "an empty queue")  # noqa: B023
        time.sleep(15)  # memory is given back
        for when in ("idle", "idle, after the first scrape"):
            memory = {name: [_tree(program).memory()] for name, program in programs.items()}
            _compare(f"resident memory, {when}", memory, "{:.1f} MB", "budget 2 MB more")
            _scrape(programs[WITH])


def _count(boxes: int = 500) -> None:
    """What counting a step costs, and what 500 mailboxes do."""
    counters = Counters()
    for event, step in STEPS.items():
        begun, times = time.process_time(), 100_000
        for _ in range(times):
            counters.note(NOW, step)
        line(f"counting one step: {event}", [1e6 * (time.process_time() - begun) / times], form="{:.1f} us")
    for number in range(boxes):
        for hour in range(24):
            counters.note(NOW - 3600 * hour, {**STEPS["delivered"], "mailbox": f"mailbox-{number}@contoso.com"})
    with tempfile.TemporaryDirectory() as directory:
        begun = time.process_time()
        CounterFile(directory, counters).save(counters.content(), None)
        spent = 1000 * (time.process_time() - begun)
        size = (pathlib.Path(directory) / "counters.json").stat().st_size
        line(f"counters.json of {boxes} mailboxes, written", [spent], form="{:.0f} ms", note=f"{size / 1000:.0f} kB")


def monitoring(bench: Bench) -> None:
    """what event log, counters and status port cost a message, and how much memory"""
    title("Monitoring", "with all", "with neither")
    _count()
    _idle(bench)
    _accept(bench, bench.choose(1000, 600))
    _deliver(bench, bench.choose(200, 100))


PARTS = (monitoring,)
