"""Whose queue was taken over by whom: `retired` in the directory that was given up, `adopted.json` in the other."""

from __future__ import annotations

import json
import os
from typing import Dict, FrozenSet

from ..errors import OtherMachine
from . import files, jsontext, log
from .choices import Word

logger = log.get("adoption")

_RETIRED, _ADOPTED = "retired", "adopted.json"


class Progress(Word):
    """How far an adoption is."""

    BEGUN = "begun"  # its drafts may be needed by messages that are still in the other queue
    DONE = "done"


def retire(state_dir: str, by: str) -> None:
    """Nothing runs on the directory from now on; `by`: the id of the installation that takes its queue."""
    files.replace(os.path.join(state_dir, _RETIRED), by.encode() + b"\n")


def retired_by(state_dir: str) -> str:
    """The installation that took the queue; "" if the directory is in use."""
    return (files.read(os.path.join(state_dir, _RETIRED)) or b"").decode("ascii", "replace").strip()


def check_not_retired(state_dir: str) -> None:
    """OtherMachine if another installation has taken the queue: what is sent from here might be sent twice."""
    if retired_by(state_dir):
        raise OtherMachine(
            f"{state_dir} was given up: `m365proxy adopt` has taken its queue to another gateway. To begin anew here, "
            "move the directory away, then run `m365proxy login`."
        )


def note(state_dir: str, installation: str, progress: Progress) -> None:
    """How far the adoption of an installation's queue is.  Once it is done, it stays so."""
    known = adopted(state_dir)
    if known.get(installation) is not Progress.DONE and known.get(installation) is not progress:
        known[installation] = progress
        content = {id: word.value for id, word in known.items()}
        files.replace(os.path.join(state_dir, _ADOPTED), json.dumps(content, indent=1).encode() + b"\n")


def adopted(state_dir: str) -> Dict[str, Progress]:
    """The installations whose queues were taken over, by their ids."""
    try:
        found = jsontext.parse(files.read(os.path.join(state_dir, _ADOPTED)) or b"{}")
        return {str(id): Progress(word) for id, word in found.items()}
    except (ValueError, AttributeError, files.NoFile):
        logger.error("adopted.json cannot be read; drafts of adopted gateways may stay in mailboxes")
        return {}


def settled(state_dir: str) -> FrozenSet[str]:
    """Those of them whose whole queue is here: what else has their marker is nobody's."""
    return frozenset(id for id, progress in adopted(state_dir).items() if progress is Progress.DONE)
