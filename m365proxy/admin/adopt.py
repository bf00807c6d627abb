"""`adopt`: what is another machine's becomes this one's."""

from __future__ import annotations

import os
from typing import Mapping, Optional

from ..config.sections import Config
from ..system import files, machines
from ..system.machineid import this_machine


def adopt_machine(config: Config, environ: Mapping[str, str]) -> Optional[int]:
    """Let this machine use the state directory, whosever it was; InUse (75) while a program runs on it."""
    machine = this_machine(environ)
    files.make_directory(config.state_dir)
    with files.locked(os.path.join(config.state_dir, "lock"), seconds=0.0):
        machines.note(config.state_dir, machine)
    print(
        f"{config.state_dir} belongs to this machine ({machine.host}) now. Start m365proxy here, and never again on a "
        "machine that has a copy of it."
    )
    return None
