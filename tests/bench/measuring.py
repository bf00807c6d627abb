"""What all measurements share: processor time and memory of a server's processes, rounds, and lines of figures.

Linux only: everything is read from /proc.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from waiting import wait_until

MEGABYTE = 1024 * 1024
_TICKS = os.sysconf("SC_CLK_TCK")
PAUSE = 1.0  # seconds between two turns: what the one before has left to the kernel is done then


class Skipped(Exception):
    """Something that a part needs is not here; the text says what."""


@dataclass(frozen=True)
class Bench:
    """What every part is given: where the queues are to be, and whether it must be quick."""

    directory: pathlib.Path
    quick: bool

    def choose(self, full: Any, quick: Any) -> Any:
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        return self.choose(7, 3)

    def place(self, name: str) -> pathlib.Path:
        """A new directory that other users, such as Postfix's, may enter."""
        path = pathlib.Path(tempfile.mkdtemp(prefix=name + "-", dir=self.directory))
        path.chmod(0o755)
        return path


class Tree:
    """A process and all that it started, now or earlier."""

    def __init__(self, root: int):
        self.root = root

    def pids(self) -> List[int]:
        found, waiting = [], [self.root]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):  # it has just ended
                for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting += map(int, children.read_text().split())
        return found

    def processor(self) -> float:
        """Seconds of processor time in user and system mode, those of ended children included."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += sum(map(int, _stat(pid)[11:15]))
        return total / _TICKS

    def memory(self) -> float:
        """MB: what is resident of the root, and what the others have of their own beside it."""
        own = sum(Tree(pid).private() for pid in self.pids() if pid != self.root)
        return _kilobytes(f"/proc/{self.root}/status", "VmRSS:") / 1024 + own

    def private(self) -> float:
        """MB that the root has in common with no other process."""
        return _kilobytes(f"/proc/{self.root}/smaps_rollup", "Private_") / 1024

    def peak(self) -> float:
        """MB that were resident of the root at most since `forget_peak`, or since it was started."""
        return _kilobytes(f"/proc/{self.root}/status", "VmHWM:") / 1024

    def forget_peak(self) -> None:
        pathlib.Path(f"/proc/{self.root}/clear_refs").write_text("5")

    def threads(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/task")) for pid in self.pids())

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def signal(self, number: int) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _stat(pid: int) -> List[str]:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _kilobytes(path: str, field: str) -> int:
    with contextlib.suppress(OSError):
        return sum(
            int(line.split()[1]) for line in pathlib.Path(path).read_text().splitlines() if line.startswith(field)
        )
    return 0


class Machine:
    """How busy the machine is with others, from now on."""

    def __init__(self) -> None:
        self._before = self._now()

    @staticmethod
    def _now() -> Tuple[float, float, float]:
        """(seconds of all processors, those that were busy, those of this process and its ended children)."""
        ticks = list(map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
        return sum(ticks) / _TICKS, (sum(ticks) - ticks[3] - ticks[4]) / _TICKS, sum(os.times()[:4])

    def others(self, spent: float) -> float:
        """Percent of the machine that neither the server, which took `spent` seconds, nor its client has used."""
        total, busy, own = (now - before for now, before in zip(self._now(), self._before))
        return 100 * max(0.0, busy - own - spent) / total if total else 0.0


@dataclass(frozen=True)
class Sample:
    """One turn of one server."""

    rate: float  # messages a second
    cost: float  # milliseconds of the server's processor time for each
    others: float  # percent of the machine that others used


def sample(tree: Tree, count: int, work: Callable[[], object]) -> Sample:
    """`work` makes the server handle `count` messages."""
    machine, before, begun = Machine(), tree.processor(), time.monotonic()
    work()
    seconds, spent = time.monotonic() - begun, tree.processor() - before
    return Sample(count / seconds, 1000 * spent / count, machine.others(spent))


def by_turns(subjects: Mapping[Any, Any], rounds: int, work: Callable[[Any], Any]) -> Dict[Any, List[Any]]:
    """What `work(subject)` returned in each round, by name; the order changes, and a round before them is left out."""
    found: Dict[str, List[Any]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name in sorted(subjects, reverse=bool(number % 2)):
            result = work(subjects[name])
            if number:  # all is loaded and known
                found[name].append(result)
            time.sleep(PAUSE)
    return found


def title(text: str, figure: str = "", reference: str = "") -> None:
    """The head of a part's table."""
    print(f"\n{text}", flush=True)
    print(f"  {'':<52} {figure:>12} {reference:>12} {'ratio':>6} {'others':>7}", flush=True)


def line(
    what: str,
    figures: Sequence[float],
    references: Sequence[float] = (),
    *,
    form: str = "{:.0f}/s",
    others: Optional[Sequence[float]] = None,
    note: str = "",
) -> None:
    """Medians; the ratio is the median of the rounds' ratios: the two of a round had the same conditions."""
    figure, reference, ratio, load = form.format(statistics.median(figures)), "", "", ""
    if references:
        reference = form.format(statistics.median(references))
        pairs = [one / other for one, other in zip(figures, references) if other]
        ratio = f"{statistics.median(pairs):.2f}" if pairs else ""
    if others:
        load = f"{statistics.median(others):.0f} %"
    print(f"  {what:<52} {figure:>12} {reference:>12} {ratio:>6} {load:>7}  {note}".rstrip(), flush=True)


def say(text: str) -> None:
    print("  " + text, flush=True)


def context_switches(tree: Tree, words: Sequence[str]) -> int:
    """How often the server's threads were switched off while the command ran; perf counts the new ones too."""
    pids = ",".join(map(str, tree.pids()))
    done = subprocess.run(
        ["perf", "stat", "-x", ";", "-e", "context-switches", "-p", pids, "--", *words], capture_output=True, text=True
    )
    found = re.search(r"^(\d+);[^;]*;context-switches", done.stderr, re.MULTILINE)
    if not found:
        raise Skipped("perf counts no context switches here: " + done.stderr.strip()[:80])
    return int(found[1])


@contextlib.contextmanager
def system_calls(tree: Tree):
    """The system calls of the server during the block, by name, in a dictionary that is filled at its end."""
    found: Dict[str, int] = {}
    pids = tree.pids()
    with tempfile.TemporaryDirectory() as directory:
        counts, said = (pathlib.Path(directory) / name for name in ("counts", "said"))
        words = ["strace", "-f", "-c", "-o", str(counts), *(word for pid in pids for word in ("-p", str(pid)))]
        with open(said, "wb") as errors:
            tracer = subprocess.Popen(words, stderr=errors)
        try:
            wait_until(lambda: all(f"Process {pid} attached" in said.read_text() for pid in pids), what="strace")
            yield found
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        for text in counts.read_text().splitlines():
            fields = text.split()
            if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
                found[fields[-1]] = int(fields[3])
