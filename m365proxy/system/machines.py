"""Which machines may run on a state directory: machines.json.  docs/internals.md has the table.

A copy of the directory has the installation's id, by which drafts in mailboxes
are known.  Two programs with one id would delete each other's.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Optional

from ..errors import OtherMachine
from . import adopted, files, jsontext, log
from .machineid import UNKNOWN, Machine

logger = log.get("machines")

_NAME = "machines.json"


def check(state_dir: str, machine: Machine) -> None:
    """OtherMachine if this machine may not run on the directory.  Writes nothing."""
    known = _read(state_dir)
    if _is_free(known, machine) or _entry_of(known, machine) is not None:
        return
    cloned = next((entry for entry in known if entry["id"] == machine.id), None)
    raise OtherMachine(_refusal(state_dir, cloned or known[-1], cloned is not None))


def note(state_dir: str, machine: Machine) -> None:
    """Write this machine down, with the directory's lock held: it runs here, or somebody has decided so.

    OtherMachine if the directory was given up: nobody may take it.
    """
    adopted.check_not_retired(state_dir)
    known = _read(state_dir)
    if _is_free(known, machine):
        known = []
    mine = _entry_of(known, machine)
    now = {
        "id": machine.id,
        "adapters": sorted(machine.adapters or (mine or {}).get("adapters", ())),
        "host": machine.host,
        "since": (mine or {}).get("since") or time.strftime("%Y-%m-%d", time.gmtime()),
    }
    if mine != now:
        # The latest is last: it is named in a refusal.
        others = [entry for entry in known if entry is not mine]
        files.replace(os.path.join(state_dir, _NAME), json.dumps([*others, now], indent=1).encode() + b"\n")
        if mine is None and known:
            logger.info("%s belongs to this machine (%s) from now on.", state_dir, machine.host)


def _is_free(known: List[Dict[str, Any]], machine: Machine) -> bool:
    """Whether the directory is nobody's yet, as far as can be told."""
    return all(entry["id"] == UNKNOWN for entry in known) and machine.id != UNKNOWN or not known


def _entry_of(known: List[Dict[str, Any]], machine: Machine) -> Optional[Dict[str, Any]]:
    for entry in known:
        adapters = set(entry["adapters"])
        # An adapter more or less, or another one beside it, is no other machine.
        if entry["id"] == machine.id and (not adapters or not machine.adapters or adapters & machine.adapters):
            return entry
    return None


def _read(state_dir: str) -> List[Dict[str, Any]]:
    """The machines; none if there is no list, or if it is damaged: mail is worth more than a doubt."""
    try:
        found = jsontext.parse(files.read(os.path.join(state_dir, _NAME)) or b"[]")
        if not isinstance(found, list):
            raise ValueError("not a list")
        return [
            {
                "id": str(entry["id"]),
                "adapters": sorted(map(str, entry["adapters"])),
                "host": str(entry["host"]),
                "since": str(entry["since"]),
            }
            for entry in found
        ]
    except (ValueError, KeyError, TypeError, files.NoFile):
        logger.error("machines.json cannot be read; this machine is written into a new one")
        return []


def _refusal(state_dir: str, entry: Dict[str, Any], is_clone: bool) -> str:
    host, day = log.clean(entry["host"]), log.clean(entry["since"])
    found = f"{state_dir} belongs to the machine {host}, and not to this one"
    if is_clone:
        found = f"{state_dir} belongs to the machine {host}, of which this one seems to be a copy"
    return (
        f"{found}. It was first used there on {day}. If that machine never runs again, or its disk is "
        "in this one, run `m365proxy adopt` once, then start again. If this is a copy, let it have a state directory "
        "of its own: move this one away, then run `m365proxy login`."
    )
