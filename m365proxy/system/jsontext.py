"""JSON that others wrote, or that a failing disk may have damaged."""

from __future__ import annotations

import json
from typing import Any, Union


def parse(content: Union[str, bytes]) -> Any:
    """The value of a JSON text; ValueError if it is none, or is nested more deeply than Python reads (about 1,000)."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
