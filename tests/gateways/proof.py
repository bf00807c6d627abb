"""Ten minutes in which everything dies, and the count afterwards: nothing accepted is lost, nothing is sent twice.

`.ci/gateways` starts it in namespaces of its own, as root.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from typing import Any, Dict, List

from gateways.events import Events
from gateways.site import Site
from waiting import wait_until

# The promise: no device that tries again waits longer (seconds).
LIMIT = 10.0

# Seconds within which the queues run out afterwards: what may have been sent is looked for during minutes.
_SETTLING = 400

_HELD = ("held", "failed", "told")


def main() -> int:
    parser = argparse.ArgumentParser(prog=".ci/gateways", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="how long mail is sent while things happen (%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory with all logs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="m365proxy-gateways-"))
    is_well = False
    try:
        is_well = prove(directory, arguments.seconds)
    finally:
        if is_well and not arguments.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"The logs are in {directory}", flush=True)
    return 0 if is_well else 1


def prove(directory: pathlib.Path, seconds: float) -> bool:
    site = Site(directory)
    site.start()
    log = directory / "devices.jsonl"
    log.touch()
    devices = site.start_devices(log)
    events = Events(site, seconds)
    began = time.monotonic()
    events.run()
    devices.send(signal.SIGTERM)
    devices.wait(_SETTLING)
    sent = time.monotonic() - began
    events.say("devices have ended")
    settle(site)
    events.say("queues have run out")
    count = Count(site, log)
    print(count.table(sent, events.counts), flush=True)
    for error in events.errors():
        print(error, file=sys.stderr)
    return count.is_well() and not events.errors()


def settle(site: Site) -> None:
    """Until each message is sent or held."""

    def is_settled() -> bool:
        phases = [phase for gateway in site.all_gateways() for phase in gateway.queue().values()]
        time.sleep(0.5)
        return all(phase in _HELD for phase in phases)

    wait_until(is_settled, _SETTLING, "empty queues")


class Count:
    """What devices were told, and what the tenant has delivered; by token, the first word of a subject."""

    def __init__(self, site: Site, log: pathlib.Path):
        lines: List[Dict[str, Any]] = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        self._accepted = {line["token"]: line for line in lines if "accepted" in line}
        self._failed = {line["token"]: line for line in lines if "failed" in line}
        with site.sandbox.tenant.lock:
            heads = [sent.raw.partition(b"\r\n\r\n")[0] for sent in site.sandbox.tenant.delivered]
        self._delivered = Counter(
            re.search(rb"(?im)^subject: (\S+)", head).group(1).decode()
            for head in heads  # type: ignore[union-attr]
        )
        self._held = {token for gateway in site.all_gateways() for token in gateway.tokens(list(gateway.queue()))}
        self._refused = sum(request.status == 429 for request in site.sandbox.requests)
        self._peak = max(site.sandbox.peak_concurrency.values())

    @property
    def lost(self) -> List[str]:
        return sorted(set(self._accepted) - set(self._delivered) - self._held)

    @property
    def doubled(self) -> List[str]:
        return sorted(token for token, number in self._delivered.items() if number > 1)

    @property
    def waits(self) -> List[float]:
        return sorted(line["wait"] for line in self._accepted.values())

    def is_well(self) -> bool:
        return bool(self._accepted) and not self.lost and not self.doubled and self.waits[-1] < LIMIT

    def table(self, seconds: float, events: "Counter[str]") -> str:
        waits = self.waits
        unsure = len(set(self._failed) & set(self._delivered))
        rows = [
            ("mails accepted", f"{len(self._accepted)} in {seconds:.0f} s"),
            ("delivered once", sum(self._delivered[token] == 1 for token in self._accepted)),
            ("lost", _few(self.lost)),
            ("delivered twice", _few(self.doubled)),
            ("held, for an administrator to decide", len(self._held & set(self._accepted))),
            ("tries that ended without a 250", len(self._failed)),
            ("of these, delivered all the same: the device sent again what had been accepted", unsure),
            ("longest wait of a device until its 250", f"{waits[-1]:.1f} s"),
            ("99 of 100 waited less than", f"{waits[len(waits) * 99 // 100]:.1f} s"),
            ("half of them less than", f"{waits[len(waits) // 2]:.2f} s"),
            ("requests at a time for one mailbox, at the most", self._peak),
            ("requests that the tenant refused because there were more than four", self._refused),
            *((name, number) for name, number in events.items()),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"| {name:{width}} | {value} |" for name, value in rows)


def _few(tokens: List[str]) -> str:
    return f"{len(tokens)}" + (f" ({' '.join(tokens[:10])})" if tokens else "")


if __name__ == "__main__":
    sys.exit(main())
