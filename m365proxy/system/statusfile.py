"""status.json: what the running program reports to the `status` command."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Mapping

from . import files, jsontext

_NAME = "status.json"


def write(state_dir: str, status: Mapping[str, object]) -> None:
    """Exchange status.json in one step.  Not synced: after a power cut it would be out of date anyway."""
    files.replace(os.path.join(state_dir, _NAME), json.dumps(status, indent=1).encode(), durable=False)


def read(state_dir: str) -> Dict[str, Any]:
    """What the program last wrote; {} if it never ran."""
    content = files.read(os.path.join(state_dir, _NAME))
    try:
        value = jsontext.parse(content or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
