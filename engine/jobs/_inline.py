"""Runs jobs on the caller's thread, without a worker: for tests of what they do.

The steps of a run, and what becomes of it, are the worker's own (``Runner``); only the engine below is one of virtual
time. Where the store has a virtual clock, that is the engine's too, and hours of retries pass in no time.

Guarantees
    One thread, the caller's, and one run at a time: of the job that a worker would claim first.
    Time goes on where a run takes some, and else only when nothing is due, to the next instant at which something is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from engine import Engine, Task
from engine.testing import InlineEngine, VirtualClock

from .. import _checks
from ._book import Book
from ._moment import Moment
from ._records import Claim, Claimed, Claims, Ending
from ._schedules.ticker import Ticker
from ._worker.holding import Holding
from ._worker.recorder import Recorder
from ._worker.run import Run
from ._worker.runner import Runner
from ._worker.verdict import Outcome
from ._worker.watcher import fresh_progress

if TYPE_CHECKING:
    from ._jobs import Jobs

__all__ = ["run_inline"]


def run_inline(jobs: Jobs, within: float, limit: int | None) -> int:
    """Do what ``Jobs.run_inline`` says."""
    within = _checks.seconds("within", within, zero=True)
    limit = None if limit is None else _checks.positive_int("limit", limit)
    clock = getattr(jobs.store, "clock", None)
    if not isinstance(clock, VirtualClock):
        clock = None
    if clock is None and within:
        raise ValueError(
            f"expected a store in virtual time, to run what comes due within {within:g} s, got {jobs.store!r}; use "
            "Jobs(MemoryStore(clock=VirtualClock())), from engine.testing"
        )
    jobs.store.open()
    with InlineEngine(clock=clock) as engine:
        return engine.run(_Inline(jobs, engine, limit).run, within)


class _Inline:
    """One call of ``run_inline``; lives on the loop of its engine."""

    def __init__(self, jobs: Jobs, engine: InlineEngine, limit: int | None) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._engine = engine
        self._limit = limit
        self._runs = 0

    async def run(self, within: float) -> int:
        """Run what comes due ``within`` seconds; return how many runs there were."""
        name = f"inline:{os.getpid()}"
        self._ticker = Ticker(self._store, lambda: self._jobs.schedules)
        face = cast("Engine", _Face(self._engine))
        self._runner = Runner(self._jobs, face, name, self._on_ended, rng=_no_jitter)
        self._recorder = Recorder(self._store, name, lambda ending, what: None)
        self._holding = Holding(self._store, name, self._jobs.lease, on_lost=_do_nothing, on_held=_do_nothing)
        await self._holding.begin()
        try:
            await self._run_until(asyncio.get_running_loop().time() + within)
        finally:
            self._recorder.close()
            if (reply := self._holding.end()) is not None:
                await reply
        return self._runs

    async def _run_until(self, end: float) -> None:
        now = asyncio.get_running_loop().time
        while self._limit is None or self._runs < self._limit:
            period_in = await self._ticker.look()
            job, due_in = await self._claim()
            if job is not None:
                await self._run(job)
                continue
            waits = [each for each in (period_in, due_in) if each is not None]
            left = end - now()
            if not waits or min(waits) > left:
                await asyncio.sleep(left)
                break
            await asyncio.sleep(min(waits))

    async def _claim(self) -> tuple[Claimed | None, float | None]:
        """Claim the most urgent job that is due; without one, return in how many seconds there may be one."""
        if (holder := self._holding.id) is None:
            return None, None
        claim = Claim(holder=holder, queues=dict.fromkeys(self._jobs.queues, 1), limit=1)

        def claim_one(book: Book, now: Moment) -> Claims:
            claims = book.claim(claim, now)
            return book.claim(replace(claim, alone=True), now) if claims.suspects and not claims.jobs else claims

        claims = await self._store.write(claim_one)
        return (claims.jobs[0] if claims.jobs else None), claims.next_due

    async def _run(self, job: Claimed) -> None:
        self._is_over = asyncio.Event()
        self._runs += 1
        self._runner.start(self._runner.run_of(job))
        await self._is_over.wait()
        await self._recorder.settled()

    def _on_ended(self, run: Run, ending: Ending, outcome: Outcome) -> None:
        job = run.job
        if progress := fresh_progress(run):
            self._store.write(lambda book, now: book.report(job.id, job.token, progress))
        self._recorder.add(ending)
        self._is_over.set()


class _Face:
    """An InlineEngine as a Runner sees an engine: whoever waits for it does so on its loop."""

    def __init__(self, engine: InlineEngine, view: Any = None) -> None:
        self._engine = engine
        self._view: Any = engine if view is None else view
        self.snapshot = engine.snapshot
        self.submit: Callable[..., Task[Any]] = self._view.submit
        self._submitting = self._view._inner._submitting

    def options(self, **given: Any) -> _Face:
        return _Face(self._engine, self._view.options(**given))

    async def run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return await self.submit(fn, *args, **kwargs)


def _no_jitter() -> float:
    return 0.5


def _do_nothing() -> None:
    pass
