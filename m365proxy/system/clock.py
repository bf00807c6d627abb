"""Whether the machine's clock can be right (many small devices start in 1970), and ages for people."""

from __future__ import annotations

# Our clock is believed after this moment: a board without a clock boots in 1970.
_PLAUSIBLE = 1_750_000_000.0


def clock_is_plausible(now: float) -> bool:
    """Whether a wall-clock time can be true."""
    return now > _PLAUSIBLE


def ago(seconds: float) -> str:
    """A span of time in a fitting unit: "45 s", "12 min", "3 h", "2 days"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
