"""Stopping an engine: refuse, drain, cancel, wait out the grace, kill.

Guarantees
    Runs as one asyncio task on the home loop, whoever asked and however often; later callers can only make it faster.
    Each phase is bounded: the drain by ``timeout``, the cancelled attempts by ``grace``, the killed ones by a second.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _current
from ._clock import now
from ._states import Lane, TaskState

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["ShutdownReport", "Stopper"]


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How an engine ended. ``submitted == completed + failed + cancelled + stopping``, whatever happened."""

    submitted: int  #: tasks accepted in the engine's life
    completed: int
    failed: int
    cancelled: int  #: all cancelled tasks, those that the stop cancelled included
    stopping: int  #: tasks that asked for the stop themselves, and so could not end before it
    cancelled_by_stop: int
    abandoned: int  #: attempts that could not be stopped; their threads end when their functions return
    killed: int  #: worker processes that were killed during the stop, because their task did not end within its grace
    seconds: float  #: how long the stop took

    @property
    def clean(self) -> bool:
        """Say whether everything accepted could end by itself."""
        return not (self.cancelled_by_stop or self.killed)


class Stopper:
    """The one stop of one engine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._began: float | None = None
        self._deadline: float | None = None
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[ShutdownReport] | None = None
        self._by_stop = 0

    async def stop(self, timeout: float | None, cancel_pending: bool) -> ShutdownReport:
        """Stop within ``timeout + grace + 1`` seconds; None waits for all accepted work. Home loop only."""
        core = self._core
        self._began = self._began or now()
        running = _current.running.get()
        with core.registry.lock:
            if core.scheduler.phase == "running":
                core.scheduler.phase = "draining"
            if running is not None and running.front is core.scheduler:
                core.registry.exempt.add(running.id)  # it cannot end while it waits for us
        self._refuse_who_waits_for_room()
        if timeout is not None and (self._deadline is None or now() + timeout < self._deadline):
            self._deadline = now() + timeout
            self._hurry.set()
        if cancel_pending:
            self._cancel(TaskState.PENDING)
        if self._task is None:
            self._task = core.loop.create_task(self._run(), name=f"stop of {core.settings.name}")
        return await asyncio.shield(self._task)

    async def _run(self) -> ShutdownReport:
        core = self._core
        killed_before = core.processes.counters.killed
        try:
            await self._drain()
            grace = core.settings.grace
            while not self._close_if_quiet():
                if self._is_late():
                    ends = now() + grace
                    await self._end_the_rest()
                    grace = max(0.1, ends - now())
                else:
                    await self._drain()
            for lane in core.lanes.values():
                await lane.close(grace)
        except BaseException:
            self._close_phase()
            for lane in core.lanes.values():
                lane.kill()
            raise
        finally:
            core.forget()
        return self._report(core.processes.counters.killed - killed_before)

    def _is_late(self) -> bool:
        return self._deadline is not None and now() >= self._deadline

    async def _end_the_rest(self) -> None:
        """Refuse everybody and cancel all; wait out the grace, then force."""
        self._close_phase()
        if not await self._until_quiet(self._core.settings.grace + 0.1):
            self._force()
            await self._until_quiet(0.5)

    def _close_if_quiet(self) -> bool:
        """Close in the critical section that finds all quiet: an abandoned attempt may submit until then."""
        with self._core.registry.lock:
            if self._core.registry.is_quiet_locked():
                self._core.scheduler.phase = "closed"
            return self._core.scheduler.phase == "closed"

    def _close_phase(self) -> None:
        with self._core.registry.lock:
            self._core.scheduler.phase = "closed"
        self._cancel(TaskState.PENDING, TaskState.RUNNING)
        self._refuse_who_waits_for_room()

    def _refuse_who_waits_for_room(self) -> None:
        """Wake all who wait for room: they submit again, and are refused, unless they are inside while we drain."""
        registry = self._core.registry
        with registry.lock:
            waiters = list(registry.room_waiters)
            registry.room_waiters.clear()
        for opened in waiters:
            opened()

    async def _drain(self) -> None:
        while not self._quiet():
            left = None if self._deadline is None else self._deadline - now()
            if left is not None and left <= 0:
                return
            await self._until_quiet(left)

    async def _until_quiet(self, seconds: float | None) -> bool:
        """Wait until nothing is live, ``seconds`` are over, or somebody is in a hurry; True if nothing is live."""
        core = self._core
        quiet = core.loop.create_future()
        with core.registry.lock:
            if core.registry.is_quiet_locked():
                return True
            core.registry.quiet_waiters.append(lambda: core.scheduler.home.post(_set, quiet))
        self._hurry.clear()
        hurry = core.loop.create_task(self._hurry.wait())
        try:
            await asyncio.wait([quiet, hurry], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
        return self._quiet()

    def _quiet(self) -> bool:
        with self._core.registry.lock:
            return self._core.registry.is_quiet_locked()

    def _cancel(self, *states: TaskState) -> None:
        registry = self._core.registry
        with registry.lock:
            tasks = [task for number, task in registry.live.items() if number not in registry.exempt]
        for task in tasks:
            if task.state in states:
                self._by_stop += task.cancel("the engine was stopped")

    def _force(self) -> None:
        """Give up on coroutines and threads, kill worker processes."""
        core = self._core
        with core.registry.lock:
            attempts = [a for a in core.registry.attempts if a.task_id not in core.registry.exempt]
        for attempt in attempts:
            if attempt.lane is not Lane.PROCESS:
                core.scheduler.abandon(attempt)
        if any(attempt.lane is Lane.PROCESS for attempt in attempts):
            core.processes.kill()

    def _report(self, killed: int) -> ShutdownReport:
        core = self._core
        with core.registry.lock:
            totals = {state: sum(core.registry.counts[lane][state] for lane in Lane) for state in TaskState}
            return ShutdownReport(
                submitted=core.registry.last_id,
                completed=totals[TaskState.COMPLETED],
                failed=totals[TaskState.FAILED],
                cancelled=totals[TaskState.CANCELLED],
                stopping=totals[TaskState.PENDING] + totals[TaskState.RUNNING],
                cancelled_by_stop=self._by_stop,
                abandoned=core.scheduler.counters.abandoned,
                killed=killed,
                seconds=now() - (self._began or now()),
            )


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
