"""Which periods are due: what is known of each schedule between one look and the next. No thread, no clock, no wait.

A look is two operations of a book with a decision between them: ``first_looks`` for schedules that are new here, then
``due`` decides, and ``tick`` enqueues. Whoever looks says ``done`` when that is durable, and not before: so a look that
failed is repeated.

The wall's clock may be moved between two looks. Forward, periods have been missed; back, they come again, and the book
refuses those that it has (and forgets what a clock that was wrong by more than a day has left there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .._book import Book
from .._moment import Moment
from .._records import NewJob
from .schedule import Schedule

__all__ = ["Period", "Periods", "first_looks", "tick"]


@dataclass(frozen=True, slots=True)
class Period:
    """One period of one schedule."""

    schedule: Schedule
    at: float  #: UTC


@dataclass(slots=True)
class _Look:
    """The last look at one schedule."""

    schedule: Schedule
    seen: float  #: of its periods, those up to here have been dealt with
    next_at: float | None  #: the first one after that


class Periods:
    """What is due of ``schedules()``. One owner, who calls from one thread."""

    def __init__(self, schedules: Callable[[], Mapping[str, Schedule]]) -> None:
        self._schedules = schedules
        self._looks: dict[str, _Look] = {}
        self._looked_at = float("-inf")

    def unseen(self) -> list[str]:
        """Return the schedules whose ``first_looks`` nobody has told yet."""
        return [name for name in self._schedules() if name not in self._looks]

    def begin(self, seen: Mapping[str, float]) -> None:
        """Note what ``first_looks`` answered."""
        for name, schedule in self._schedules().items():
            if name in seen:
                self._note(schedule, seen[name])

    def due(self, now: float) -> list[Period]:
        """Return the periods that are to be enqueued, at most one of each schedule."""
        if now < self._looked_at:
            self._set_back(now)
        found = []
        for schedule in self._schedules().values():
            look = self._looks.get(schedule.name)
            if look is None:
                continue
            if look.schedule is not schedule:  # its module was run again
                look = self._note(schedule, look.seen)
            if look.next_at is not None and look.next_at <= now:
                at = schedule.due(look.seen, now)
                if at is not None:
                    found.append(Period(schedule, at))
        return found

    def done(self, now: float) -> None:
        """Note that what ``due(now)`` returned is enqueued."""
        self._looked_at = now
        for look in self._looks.values():
            if look.next_at is not None and look.next_at <= now:
                self._note(look.schedule, now)

    def next_at(self) -> float | None:
        """Return when the next period begins."""
        return min((look.next_at for look in self._looks.values() if look.next_at is not None), default=None)

    def _note(self, schedule: Schedule, seen: float) -> _Look:
        look = self._looks[schedule.name] = _Look(schedule, seen, schedule.timetable.next_after(seen))
        return look

    def _set_back(self, now: float) -> None:
        for look in list(self._looks.values()):
            self._note(look.schedule, now)
        self._looked_at = now


def first_looks(book: Book, names: Iterable[str], now: Moment) -> dict[str, float]:
    """Return up to when the periods of each schedule have been dealt with, by whoever did; begin now with new ones."""
    seen = {}
    for name in names:
        last = book.last_tick(name)
        if last is None:
            book.tick(name, now.wall, None, now)
        seen[name] = now.wall if last is None else min(last, now.wall)
    return seen


def tick(book: Book, jobs: Iterable[tuple[Period, NewJob]], now: Moment) -> list[int]:
    """Enqueue the job of each period that nobody else has; return the ids."""
    ids = [book.tick(period.schedule.name, period.at, job, now) for period, job in jobs]
    return [each for each in ids if each is not None]
