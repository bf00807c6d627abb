"""Spans of time, as they are typed: 90s, 30m, 2h, 7d."""

from __future__ import annotations

import re

from ..errors import UsageError
from ..system import log

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(span: str, option: str) -> float:
    """The seconds of a span; UsageError, which names the option, if it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", span.strip().lower())
    if found is None:
        raise UsageError(f"{option} takes a time such as 30m, 2h or 7d, not {log.quote(span, 40)}.")
    return float(int(found.group(1)) * _UNITS[found.group(2)])
