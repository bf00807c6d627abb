"""A replicated volume: MooseFS, whose master and two chunkservers have machines of their own; each file is on both."""

from __future__ import annotations

import pathlib
from typing import Iterable

from gateways.machines import Machine, Running, Switch
from waiting import wait_until

MASTER, CHUNKS = "10.77.3.1", ("10.77.3.2", "10.77.3.3")

# Seconds for which the master keeps the locks of a machine that it cannot reach any more.  It is the least that MooseFS
# takes.
SUSTAINED = 60


class Storage:
    """Started by start(); it stays switched on."""

    def __init__(self, directory: pathlib.Path, switch: Switch):
        self._directory = directory
        self.master = Machine("mfs0", {"eth0": (switch, f"{MASTER}/24")})
        self._chunks = [
            Machine(f"mfs{number}", {"eth0": (switch, f"{address}/24")}) for number, address in enumerate(CHUNKS, 1)
        ]
        self.mounted = directory / "volume"  # where machines that use it have it
        self.mounted.mkdir(parents=True)
        self._running: "list[Running]" = []

    def start(self) -> None:
        place = self._make_place("master")
        (place / "metadata.mfs").write_bytes(b"MFSM NEW")
        (place / "exports").write_text("* / rw,alldirs,maproot=0\n")
        settings = {"EXPORTS_FILENAME": place / "exports", "SESSION_SUSTAIN_TIME": SUSTAINED, "ATIME_MODE": 4}
        self._start(self.master, "mfsmaster", place, settings)
        for number, machine in enumerate(self._chunks, 1):
            place = self._make_place(f"chunks{number}")
            (place / "disk").mkdir()
            (place / "disks").write_text(f"{place / 'disk'}\n")
            settings = {"HDD_CONF_FILENAME": place / "disks", "MASTER_HOST": MASTER, "HDD_LEAVE_SPACE_DEFAULT": "1MiB"}
            self._start(machine, "mfschunkserver", place, settings)

    def mount(self, machine: Machine) -> None:
        """Returns as soon as the volume is there."""
        place = self._directory / f"mount-{machine.name}"
        words = ["mfsmount", "-f", "-H", MASTER, "-o", "mfsioretries=9999", self.mounted]
        self._running.append(machine.start(words, place))

        def is_mounted() -> bool:
            return f" {self.mounted} " in machine.run("cat", "/proc/mounts")

        wait_until(is_mounted, what=f"the volume on {machine.name}")

    def replicate(self, machine: Machine) -> None:
        """Each file of the volume is on both chunkservers."""
        machine.run("mfssetgoal", "-r", str(len(CHUNKS)), self.mounted)

    def said(self) -> Iterable[str]:
        for path in sorted(self._directory.iterdir()):
            if path.is_file():
                yield f"{path.name}: {path.read_text(errors='replace')}"

    def _make_place(self, name: str) -> pathlib.Path:
        place = self._directory / name
        place.mkdir(parents=True)
        return place

    def _start(self, machine: Machine, program: str, place: pathlib.Path, settings: "dict[str, object]") -> None:
        settings = {"WORKING_USER": "root", "WORKING_GROUP": "root", "DATA_PATH": place, **settings}
        (place / "config").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        machine.boot()
        self._running.append(machine.start([program, "-f", "-c", place / "config", "start"], place / "log"))
