"""What is enqueued again and again, and when. Pure: time is an argument."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Protocol

from ... import _checks
from ..._options import value_of
from .._calls.job_call import JobCall
from .._calls.rows import row_of
from .._json.codec import splice
from .._records import NewJob
from .cron import Cron
from .interval import Interval

__all__ = ["CATCH_UP", "ON_TIME", "Schedule", "last_in"]

#: What becomes of periods that passed while nobody looked: they are left out, or the latest of them is enqueued.
CATCH_UP = ("none", "last")
ON_TIME = 60.0  #: seconds after which a period counts as missed: a restart of the one worker is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Enqueues ``call`` once for each period."""

    name: str  #: unique in a Jobs; what the store remembers the last period by
    timetable: Cron | Interval
    call: JobCall
    catch_up: str = "none"
    period_as: str | None = None  #: the parameter that is given the instant at which the period began

    @property
    def zone(self) -> tzinfo:
        """Give the zone in which its periods are told."""
        return self.timetable.zone if isinstance(self.timetable, Cron) else UTC

    @property
    def queue(self) -> str:
        """Give where its jobs wait."""
        return value_of(self.call.said.queue) or self.call.task.queue

    def upcoming(self, after: datetime | None = None) -> Iterator[datetime]:
        """Give the periods after an aware ``after``, by default from now on, in the schedule's own zone.

        Raises:
            ValueError: ``after`` has no time zone; it would be taken for local time.
        """
        if after is not None and after.utcoffset() is None:
            remedy = "use datetime.now(timezone.utc), or .astimezone() if it is local time"
            raise _checks.wrong("after", "a datetime with a time zone", after, remedy)
        instant: float | None = (after if after is not None else datetime.now(UTC)).timestamp()
        while instant is not None and (instant := self.timetable.next_after(instant)) is not None:
            yield datetime.fromtimestamp(instant, self.zone)

    def due(self, seen: float, now: float) -> float | None:
        """Return the period to enqueue of those in (seen, now]: the latest or none, so that they come in no flood."""
        at = last_in(self.timetable, seen, now)
        return at if at is not None and (self.catch_up == "last" or now - at <= ON_TIME) else None

    def job_of(self, at: float) -> NewJob:
        """Return what is enqueued for the period ``at``.

        Raises:
            JobRefused: the instant is part of the lock, and does not fit into it.
        """
        call = self.call
        if self.period_as is not None:
            told = datetime.fromtimestamp(at, self.zone).isoformat()
            call = replace(call, text=splice(call.text, self.period_as, json.dumps(told)), is_whole=True)
        return replace(row_of(call, call.task.jobs.max_args_bytes), schedule=self.name)

    def __str__(self) -> str:
        return f"{self.name}: {self.timetable}"


class Timetable(Protocol):
    """Instants in ascending order."""

    def next_after(self, instant: float) -> float | None:
        """Return the first instant after ``instant``; None if there is none."""


def last_in(timetable: Timetable, after: float, until: float) -> float | None:
    """Return the last instant of ``timetable`` in (after, until], in about as many steps as its number has digits."""
    found = timetable.next_after(after)
    if found is None or found > until:
        return None
    early, late = found, until  # the answer is in [early, late], and ``early`` is an instant of the timetable
    while (following := timetable.next_after(early)) is not None and following <= late:
        early = following
        middle = (early + late) / 2
        beyond = timetable.next_after(middle)
        if beyond is not None and beyond <= until:
            early = beyond
        else:
            late = middle
    return early
