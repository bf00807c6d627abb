"""JSON that others wrote, or that a failing disk may have damaged."""

from __future__ import annotations

import json
import math
from typing import Any, Union


def parse(content: Union[str, bytes]) -> Any:
    """The value of a JSON text; ValueError if it is none, or is nested more deeply than Python reads (about 1,000)."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def number(value: Any) -> float:
    """A number of a JSON text as float; ValueError, TypeError or OverflowError if it is none, or infinite."""
    found = float(value)
    if not math.isfinite(found):
        raise ValueError("not a number")
    return found
