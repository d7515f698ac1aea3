"""Periods that were ticked: each once, whoever ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._moment import Moment
from .._moves import WRONG_CLOCK_SECONDS
from .._records import NewJob
from ..errors import AlreadyEnqueued
from .damage import reads
from .enqueueing import insert

if TYPE_CHECKING:
    import apsw

__all__ = ["last_tick", "tick"]


def tick(connection: apsw.Connection, schedule: str, at: float, job: NewJob | None, now: Moment) -> int | None:
    """Note a period, and enqueue its job, unless it or a later one was noted."""
    last = last_tick(connection, schedule)
    if last is not None and at <= last <= now.wall + WRONG_CLOCK_SECONDS:
        return None
    connection.execute("INSERT OR REPLACE INTO schedules VALUES (?, ?)", (schedule, at))
    if job is None:
        return None
    try:
        return insert(connection, [job], now)[0]
    except AlreadyEnqueued:
        return None


@reads
def last_tick(connection: apsw.Connection, schedule: str) -> float | None:
    """Return the last period that was noted."""
    last: float | None = connection.execute("SELECT last_at FROM schedules WHERE name = ?", (schedule,)).get
    return last
