"""All measurements, one command; each line is a figure, its reference in the same run, the ratio, and how busy the
machine was with others.

    python tests/bench/all.py [--list] [--quick] [--directory DIR] [PART ...]

Figures are medians of rounds in which the compared programs take turns, with pauses between.  DIR is where the queues
are to be, else the system's place for temporary files.  Nothing is asserted.  Linux only; beside Postfix as root only.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from bench import accept, deliver, growth, memory, monitoring, pop3  # noqa: E402
from bench.measuring import Bench, Skipped  # noqa: E402

_MODULES = (accept, deliver, pop3, memory, growth, monitoring)
PARTS = {part.__name__: part for module in _MODULES for part in module.PARTS}


def run(names, bench):
    """The parts of these names, one after another."""
    for name in names:
        begun = time.monotonic()
        try:
            PARTS[name](bench)
        except Skipped as reason:
            print(f"{name}: left out: {reason}", flush=True)
        print(f"  ({name}: {time.monotonic() - begun:.0f} s)", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help="else all of them")
    options.add_argument("--list", action="store_true", help="the parts, and what each measures")
    options.add_argument("--quick", action="store_true", help="fewer rounds and messages")
    options.add_argument("--directory", help="where the queues are to be")
    chosen = options.parse_args()
    if chosen.list:
        for name, part in PARTS.items():
            print(f"{name:<12} {part.__doc__.partition(chr(10))[0]}")
        return
    unknown = [name for name in chosen.parts if name not in PARTS]
    if unknown:
        options.error(f"no such part: {', '.join(unknown)}; --list names them")
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-", dir=chosen.directory) as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # Postfix's processes are other users
        run(chosen.parts or PARTS, Bench(directory, chosen.quick))


if __name__ == "__main__":
    main()
