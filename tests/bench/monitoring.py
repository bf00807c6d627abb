"""What history and figures cost: with and without event log, counters and status port, by turns in one run.

    python tests/bench/monitoring.py [--messages N] [--deliveries N] [--rounds N] [--directory DIR]

The real program as a child process, twice, against a stand-in tenant each; smtp-source of Postfix is its client.
"Neither" has no event log and no status port, and what follows the steps of messages is taken out of it, which no
config can do.  Processor time is compared and not the rate, which goes up and down with everything else on the machine.
Linux only.
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

import program as harness  # noqa: E402
from bench.smtp import memory, row, running, source  # noqa: E402
from program import ROOT, wait_until  # noqa: E402

from m365proxy.monitoring.counterfile import CounterFile  # noqa: E402
from m365proxy.monitoring.counters import Counters  # noqa: E402

NOW = 1_800_000_000.0
BOXES, SCRAPES = 500, 50
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


@contextlib.contextmanager
def both(directory, signed_in):
    """(without all of it, with all of it), both running."""
    directory.mkdir()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for -c
    with contextlib.ExitStack() as stack:
        usual, harness.COMMAND = harness.COMMAND, [sys.executable, "-c", _BARE]
        try:
            without = stack.enter_context(running(directory / "without", signed_in=signed_in, logging={"events_mb": 0}))
        finally:
            harness.COMMAND = usual
        yield without, stack.enter_context(running(directory / "with", signed_in=signed_in, status_port=0))


def by_turns(programs, rounds, work):
    """Processor time of `work(program)`, a list for each; the order changes each round, the first round is left out."""
    found = [[] for _ in programs]
    for number in range(rounds + 1):
        for index in sorted(range(len(programs)), reverse=bool(number % 2)):
            spent = work(programs[index])
            if number:  # all is loaded and known
                found[index].append(spent)
    return found


def compare(what, costs):
    plain, full = map(statistics.median, costs)
    ratio = statistics.median(more / less for less, more in zip(*costs))  # a round's two had the same conditions
    row(f"processor time to {what} one, neither", f"{plain:.3f} ms")
    row("... event log, counters and status port", f"{full:.3f} ms", f"{100 * (ratio - 1):+.1f} % (budget +2 %)")


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

    def work(program):
        before = processor_time(program.process.pid)
        source(program.port("smtp"), messages, one_each=False)
        return 1000 * (processor_time(program.process.pid) - before) / messages

    with both(directory / "accept", signed_in=False) as (without, with_all):
        scrape(with_all)
        compare("accept", by_turns((without, with_all), rounds, work))
        before = processor_time(with_all.process.pid)
        for _ in range(SCRAPES):
            scrape(with_all)
        spent = 1000 * (processor_time(with_all.process.pid) - before) / SCRAPES
        row("processor time of one scrape", f"{spent:.1f} ms", f"{len(with_all.queue())} messages are queued")
        plain, full = (memory(program.process.pid) for program in (without, with_all))
        row(f"resident memory, {len(with_all.queue())} queued, neither", f"{plain:.1f} MB")
        row("... event log, status port, scraped", f"{full:.1f} MB", f"{full - plain:+.1f} MB (budget +2 MB)")


def deliver(directory, messages, rounds):
    """Milliseconds of processor time for a message from the queue to a tenant that answers at once."""

    def work(program):
        delivered = program.sandbox.tenant.delivered
        total = len(delivered) + messages
        program.sandbox.offline()
        source(program.port("smtp"), messages, one_each=False)
        wait_until(lambda: program.status()["paused"], 60, "the pause")
        before = processor_time(program.process.pid)
        program.sandbox.online()
        wait_until(lambda: len(delivered) == total, 600, "the deliveries")
        wait_until(lambda: not program.queue(), 60, "an empty queue")
        return 1000 * (processor_time(program.process.pid) - before) / messages

    with both(directory / "deliver", signed_in=True) as (without, with_all):
        scrape(with_all)
        compare("deliver", by_turns((without, with_all), rounds, work))


def idle(directory):
    """Resident memory, signed in, after the libraries were loaded for some messages."""
    with both(directory / "idle", signed_in=True) as programs:
        for program in programs:
            source(program.port("smtp"), 20, one_each=False)
            wait_until(lambda: not program.queue(), 60, "an empty queue")  # noqa: B023
        time.sleep(15)  # memory is given back
        plain, full = (memory(program.process.pid) for program in programs)
        row("resident memory, idle, neither", f"{plain:.1f} MB")
        row("... event log, counters and status port", f"{full:.1f} MB", f"{full - plain:+.1f} MB (budget +2 MB)")
        scrape(programs[1])
        full = memory(programs[1].process.pid)
        row("... after the first scrape", f"{full:.1f} MB", f"{full - plain:+.1f} MB (budget +2 MB)")


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
    options.add_argument("--deliveries", type=int, default=200, help="of one round")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--directory", help="where the queues are to be")
    chosen = options.parse_args()
    count()
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-", dir=chosen.directory) as name:
        directory = pathlib.Path(name)
        idle(directory)
        accept(directory, chosen.messages, chosen.rounds)
        deliver(directory, chosen.deliveries, chosen.rounds)


if __name__ == "__main__":
    main()
