"""Enqueues what schedules ask for, while a worker runs.

Guarantees
    Belongs to one loop. Any number of tickers, in any number of processes, enqueue one job for one period: the book's
    ``tick`` only goes forward, in the transaction that enqueues (design/0014, 9).
    A period is enqueued within ``LOOK`` seconds of its instant, also after the clock of the wall was moved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from .._records import NewJob
from .._store import Store
from ..errors import StoreClosed
from .periods import Period, Periods, first_looks, tick
from .schedule import Schedule

__all__ = ["LOOK", "Ticker"]

LOOK = 5.0  #: seconds; somebody may move the wall's clock, and nothing tells of it

_logger = logging.getLogger("engine.jobs")


class Ticker:
    """Looks at ``schedules()`` until it is cancelled; ``run`` is its one coroutine."""

    def __init__(self, store: Store, schedules: Callable[[], Mapping[str, Schedule]]) -> None:
        self._store = store
        self._periods = Periods(schedules)

    async def run(self) -> None:
        """Enqueue a job for each period. Ends when the store is closed."""
        is_well = True
        while True:
            try:
                next_in, was_well, is_well = await self.look(), is_well, True
                wait = LOOK if next_in is None else min(LOOK, next_in)
                if not was_well:
                    _logger.warning("schedules go on: the store takes their jobs again")
            except StoreClosed:
                return
            except Exception as error:
                if is_well:
                    _logger.error("no job could be enqueued for a schedule; trying again", exc_info=error)
                wait, is_well = LOOK, False
            await asyncio.sleep(wait)

    async def look(self) -> float | None:
        """Enqueue what is due; return for how many seconds nothing will be, None if nothing ever will."""
        periods = self._periods
        unseen = periods.unseen()
        if unseen:
            periods.begin(await self._store.write(lambda book, now: first_looks(book, unseen, now)))
        wall = self._store.now().wall
        due = periods.due(wall)
        if due:
            await self._enqueue(due)
        periods.done(wall)
        next_at = periods.next_at()
        return None if next_at is None else max(0.0, next_at - self._store.now().wall)

    async def _enqueue(self, due: list[Period]) -> None:
        jobs = [(period, job) for period in due if (job := _job_of(period)) is not None]
        await self._store.write(lambda book, now: tick(book, jobs, now))


def _job_of(period: Period) -> NewJob | None:
    """Return the job of a period; what keeps one from being made keeps no other."""
    try:
        return period.schedule.job_of(period.at)
    except Exception:
        _logger.exception("the schedule %s leaves out a period", period.schedule)
        return None
