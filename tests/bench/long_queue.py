"""A long queue in figures: start to listening, memory and the cost of a message with 100 and 100,000 waiting.

    python tests/bench/long_queue.py [--messages N] [--directory DIR]

The real program as a child process.  The waiting messages belong to a mailbox
that the stand-in tenant throttles, so that they wait and others can be sent.
Linux only.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import smtplib
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from backlog import fill  # noqa: E402
from program import ALERTS, PASSWORD, SCANS, Program, wait_until  # noqa: E402

SENT = 200


def memory(pid, what="VmRSS"):
    """MB, of a process."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":")) / 1024


def processor(pid):
    """Seconds of processor time a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def submit(program, count):
    with smtplib.SMTP("127.0.0.1", program.port("smtp")) as smtp:
        smtp.login(SCANS, PASSWORD)
        for number in range(count):
            smtp.sendmail(SCANS, [ALERTS], f"From: {SCANS}\r\nSubject: {number}\r\n\r\nx\r\n")


def measure(directory, waiting):
    """(seconds to listening, MB then, MB at most, ms of processor time for each message sent)."""
    directory.mkdir()
    program = Program(directory).sign_in()
    try:
        for name in ("tmp", "new", "cur", "failed", "state"):
            (directory / "state" / "queue" / name).mkdir(parents=True)
        fill(directory / "state" / "queue", waiting, ALERTS)
        os.sync()
        program.sandbox.faults.add("answer", mailbox=ALERTS, status=429, retry_after=600, times=None)
        begun = time.monotonic()
        program.start()
        started = time.monotonic() - begun
        pid = program.process.pid
        submit(program, 1)  # the libraries are loaded, the way is learnt
        wait_until(lambda: len(program.sandbox.tenant.delivered) == 1, 60)
        resident = memory(pid)
        used = processor(pid)
        submit(program, SENT)
        wait_until(lambda: len(program.sandbox.tenant.delivered) == SENT + 1, 300)
        cost = 1000 * (processor(pid) - used) / SENT
        return started, resident, memory(pid, "VmHWM"), cost
    finally:
        program.close()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=100_000, help="waiting")
    options.add_argument("--directory", help="where the queues are to be")
    chosen = options.parse_args()
    print(f"{'waiting':>8}  {'start':>8}  {'resident':>9}  {'peak':>9}  {'accept and send one':>19}")
    figures = {}
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-", dir=chosen.directory) as name:
        for waiting in (100, chosen.messages):
            figures[waiting] = measure(pathlib.Path(name) / str(waiting), waiting)
            started, resident, peak, cost = figures[waiting]
            line = f"{waiting:>8}  {started:>6.2f} s  {resident:>6.1f} MB  {peak:>6.1f} MB  {cost:>11.1f} ms (CPU)"
            print(line, flush=True)
    more = figures[chosen.messages][2] - figures[100][2]
    print(f"budget: start at most 5 s; at most 64 MB more (here {more:.1f} MB at the peak); the same cost")


if __name__ == "__main__":
    main()
