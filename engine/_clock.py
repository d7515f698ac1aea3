"""Time: monotonic inside, UTC where people see it."""

import math
import time
from collections.abc import Callable

__all__ = ["Monotonic", "now", "ordered_after", "wall_time"]

Monotonic = Callable[[], float]

#: Seconds on the clock that every process of this machine shares; all deadlines and start pages are on it.
now: Monotonic = time.monotonic


def wall_time(anchor_wall: float, anchor_monotonic: float, instant: float) -> float:
    """Translate a monotonic ``instant`` to wall time through one anchor, so that clock jumps cannot reorder events."""
    return anchor_wall + (instant - anchor_monotonic)


def ordered_after(instant: float, earlier: float) -> float:
    """Return ``instant``, or the next float after ``earlier`` when it is not later: timestamps never tie."""
    return instant if instant > earlier else math.nextafter(earlier, math.inf)
