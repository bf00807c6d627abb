"""What history and figures cost: with and without event log and status port, by turns in one run.

    python tests/bench/monitoring.py [--messages N] [--rounds N] [--directory DIR]

The real program as a child process; smtp-source of Postfix is its client.  Processor time is compared and not the rate,
which goes up and down with everything else on the machine.  Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from bench.smtp import memory, row, running, source  # noqa: E402

from m365proxy.monitoring.counterfile import CounterFile  # noqa: E402
from m365proxy.monitoring.counters import Counters  # noqa: E402

NOW = 1_800_000_000.0
BOXES, SCRAPES = 500, 50
STEPS = {
    "accepted": {"event": "accepted", "id": "x", "mailbox": "alerts@contoso.com", "size": 4096},
    "delivered": {"event": "delivered", "id": "x", "mailbox": "alerts@contoso.com", "seconds": 1.5},
}


def processor_time(pid):
    """Seconds that a process and its threads have used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def scrape(program):
    connection = http.client.HTTPConnection("127.0.0.1", program.port("status"), timeout=20)
    connection.request("GET", "/metrics")
    assert connection.getresponse().read()
    connection.close()


def accept(directory, messages, rounds):
    """Milliseconds of processor time for a message, each way by turns.  Nobody is signed in: all stays queued."""
    with contextlib.ExitStack() as stack:
        without = stack.enter_context(running(directory / "without", signed_in=False, logging={"events_mb": 0}))
        with_all = stack.enter_context(running(directory / "with", signed_in=False, status_port=0))
        found = {without: [], with_all: []}
        for program in found:
            source(program.port("smtp"), messages, one_each=False)  # all is loaded and known
        scrape(with_all)
        for _ in range(rounds):
            for program, costs in found.items():
                before = processor_time(program.process.pid)
                source(program.port("smtp"), messages, one_each=False)
                costs.append(1000 * (processor_time(program.process.pid) - before) / messages)
        plain, full = (statistics.median(costs) for costs in found.values())
        row("processor time to accept one, neither", f"{plain:.3f} ms")
        row("... event log and status port", f"{full:.3f} ms", f"{100 * (full / plain - 1):+.1f} % (budget +2 %)")
        before = processor_time(with_all.process.pid)
        for _ in range(SCRAPES):
            scrape(with_all)
        spent = 1000 * (processor_time(with_all.process.pid) - before) / SCRAPES
        row("processor time of one scrape", f"{spent:.1f} ms", f"{len(with_all.queue())} messages are queued")
        plain, full = (memory(program.process.pid) for program in found)
        row("resident memory, neither", f"{plain:.1f} MB")
        row("... event log, status port, scraped", f"{full:.1f} MB", f"{full - plain:+.1f} MB (budget +2 MB)")


def count():
    """What counting a step costs, and what 500 mailboxes do."""
    counters = Counters()
    for event, step in STEPS.items():
        begun, times = time.process_time(), 100_000
        for _ in range(times):
            counters.note(NOW, step)
        row(f"counting one step: {event}", f"{1e6 * (time.process_time() - begun) / times:.1f} us")
    for number in range(BOXES):
        for hour in range(24):
            counters.note(NOW - 3600 * hour, {**STEPS["delivered"], "mailbox": f"mailbox-{number}@contoso.com"})
    with tempfile.TemporaryDirectory() as directory:
        begun = time.process_time()
        CounterFile(directory, counters).save(counters.content(), None)
        spent = 1000 * (time.process_time() - begun)
        size = (pathlib.Path(directory) / "counters.json").stat().st_size
        row(f"counters.json of {BOXES} mailboxes", f"{size / 1000:.0f} kB", f"{spent:.0f} ms of the processor a minute")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=1000, help="of one round")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--directory", help="where the queues are to be")
    chosen = options.parse_args()
    count()
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-", dir=chosen.directory) as name:
        accept(pathlib.Path(name), chosen.messages, chosen.rounds)


if __name__ == "__main__":
    main()
