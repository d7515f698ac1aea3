"""A period of so many seconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ... import _checks
from .._duration import duration

__all__ = ["Interval", "check_interval"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The whole multiples of ``every`` seconds since 1970 began in UTC: the same for all that know the schedule.

    So 3600 is each full hour, and 86400 midnight in UTC; no transition of any zone is known here.
    """

    every: float

    def next_after(self, instant: float) -> float:
        """Return the first instant after ``instant``, both UTC, in seconds."""
        number = instant // self.every
        while (found := number * self.every) <= instant:  # twice at most: the quotient may be rounded
            number += 1
        return found

    def __str__(self) -> str:
        return f"every {self.every:g} s"


def check_interval(value: Any) -> Interval:
    """Return what ``value`` says.

    Raises:
        ValueError: it is no number of seconds from 1 to a year.
    """
    every = duration("every", value)
    if not 1 <= every <= 366 * 86_400:
        raise _checks.wrong("every", "a number of seconds from 1 to a year", value)
    return Interval(every)
