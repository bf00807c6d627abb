"""Whether the machine's clock can be right: many small devices start in 1970."""

from __future__ import annotations

# Our clock is believed after this moment: a board without a clock boots in 1970.
_PLAUSIBLE = 1_750_000_000.0


def clock_is_plausible(now: float) -> bool:
    """Whether a wall-clock time can be true."""
    return now > _PLAUSIBLE
