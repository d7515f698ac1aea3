"""Stopping an engine: refuse, drain, cancel, wait out the grace, kill.

Guarantees
    Runs as one asyncio task on the home loop, whoever asked and however often; later callers can only make it faster.
    Each phase is bounded: the drain by ``timeout``, the cancelled attempts by ``grace``, the killed ones by a second.
    ``ended`` is set once, by ``finish``, however the engine ended; any thread and any loop may wait for it.
    Whoever cancels the asyncio task (a second Ctrl-C, code that cancels all tasks) forces the stop and does not end it.
    design/0005-stopping.md has the interleavings.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _current, _sigint
from ._latch import Latch
from ._states import Lane, TaskState

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["ShutdownReport", "Stopper"]

log = logging.getLogger("engine")


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


class Ending:
    """The end of one engine, for any thread and any loop that waits for it.

    Guarantees: ``_callbacks`` and ``report`` are guarded by ``_lock``, held for one list operation; a callback is
    called once, outside it, by whoever ends the engine, or at once.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the collector and signal handlers may call us from inside
        self._latch = Latch()
        self._callbacks: list[Callable[[], object]] = []
        self.report: ShutdownReport | None = None

    def done(self) -> bool:
        """Say whether the engine has ended."""
        return self.report is not None

    def result(self) -> ShutdownReport:
        """Return the report of an engine that has ended."""
        assert self.report is not None
        return self.report

    def set(self, report: ShutdownReport) -> None:
        """Record the end and tell everybody. Idempotent: the first report stays."""
        with self._lock:
            if self.report is not None:
                return
            self.report = report
            callbacks, self._callbacks = self._callbacks, []
        self._latch.set()
        for fn in callbacks:
            fn()

    def add_done_callback(self, fn: Callable[[], object]) -> None:
        """Have ``fn()`` called at the end."""
        with self._lock:
            if self.report is None:
                self._callbacks.append(fn)
                return
        fn()

    def remove_done_callback(self, fn: Callable[[], object]) -> None:
        """Forget ``fn``, if it is still remembered."""
        with self._lock:
            if fn in self._callbacks:
                self._callbacks.remove(fn)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait on this thread; False if the engine has not ended after ``seconds``."""
        return self._latch.wait(seconds)

    async def wait_here(self) -> ShutdownReport:
        """Wait on the running loop."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # that loop is closed, and nobody waits there any more
                loop.call_soon_threadsafe(_set, future)

        self.add_done_callback(tell)
        try:
            await future
        finally:
            self.remove_done_callback(tell)
        return self.result()


class Stopper:
    """The one stop of one engine. Home loop only, but for ``ended``, ``finish`` and ``report_so_far``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._began: float | None = None
        self._deadline: float | None = None
        self._grace = core.settings.grace
        self._awake: asyncio.Future[None] | None = None  #: what the run waits for, if it waits
        self.task: asyncio.Task[None] | None = None  #: the run, once it has begun
        self._is_forced = False
        self._killed_before = 0
        self.by_stop = 0  #: tasks that it cancelled
        self.ended = Ending()

    async def stop(self, timeout: float | None, cancel_pending: bool) -> ShutdownReport:
        """Stop within ``timeout + grace + 1`` seconds; None waits for all accepted work."""
        self.begin(timeout, cancel_pending)
        return await self.ended.wait_here()

    def begin(self, timeout: float | None, cancel_pending: bool = False, *, grace: float | None = None) -> None:
        """Begin to stop, or make it faster; ``grace`` can only make the engine's shorter."""
        core = self._core
        if self.ended.done():
            return
        if self._began is None:
            self._began = self._core.scheduler.now()
            self._killed_before = core.processes.counters.killed
        running = _current.running.get()
        with core.registry.lock:
            if core.scheduler.phase == "running":
                core.scheduler.phase = "draining"
            if running is not None and running.front is core.scheduler:
                core.registry.exempt.add(running.id)  # it cannot end while it waits for us
        self._refuse_who_waits_for_room()
        if grace is not None and grace < self._grace:
            self._grace = grace
            _set(self._awake)
        if timeout is not None and (self._deadline is None or self._core.scheduler.now() + timeout < self._deadline):
            self._deadline = self._core.scheduler.now() + timeout
            _set(self._awake)
        if cancel_pending:
            self._cancel(TaskState.PENDING)
        if self.task is None:
            self._start()

    def _start(self) -> None:
        self.task = self._core.loop.create_task(self._run(), name=f"stop of {self._core.settings.name}")
        self.task._log_destroy_pending = False  # type: ignore[attr-defined]  # typeshed has it not; ``abort`` ends us
        self.task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        """Begin anew, in a hurry, if the task was cancelled before its first step; mend what broke off its last."""
        if task.cancelled() and not self.ended.done():
            self._deadline, self._grace = self._core.scheduler.now(), 0.0
            self._start()
        elif not task.cancelled() and task.exception() is not None:
            self._core.abort("the engine was stopped")

    def hurry(self, then: Callable[[], object] | None) -> bool:
        """End by force, if a stop is under way, and call ``then``; False: there is none."""
        if self.task is None or self.ended.done():
            return False
        if not self._is_forced:
            self._is_forced = True
            self.task.cancel()
        if then is not None:
            self.ended.add_done_callback(then)
        return True

    async def _run(self) -> None:
        try:
            try:
                await self._end()
            except asyncio.CancelledError:
                await self._end_by_force()
            self.finish()
        except GeneratorExit:  # the loop was closed over us by a Ctrl-C in asyncio's clean-up: nothing turns any more
            self._core.abort("the engine was stopped")
            raise
        except BaseException as error:  # a Ctrl-C in our own step, or what one left half done
            self._break_off(error)

    def _break_off(self, error: BaseException) -> None:
        """End by force after ``error``; a KeyboardInterrupt goes on from a callback: a task would keep it."""
        if isinstance(error, Exception):
            log.exception("the engine could not be stopped in order, and was ended by force")
        try:
            self._core.abort("the engine was stopped")
        except KeyboardInterrupt as another:
            error = another
        if not isinstance(error, (Exception, asyncio.CancelledError)):
            self._core.loop.call_soon(_raise, error)

    async def _end(self) -> None:
        await self._drain()
        grace = self._grace
        while not self._close_if_quiet():
            if self._is_late():
                ends = self._core.scheduler.now() + self._grace
                await self._end_the_rest()
                grace = max(0.1, ends - self._core.scheduler.now())
            else:
                await self._drain()
        for lane in self._core.lanes.values():
            await lane.close(grace)

    async def _end_by_force(self) -> None:
        """Wait for nobody any more, but see to it that what is killed is also buried."""
        self._is_forced = True
        self._close_phase()
        self._force()
        self._core.processes.kill()
        await self._until_quiet(0.5)
        for lane in self._core.lanes.values():
            await lane.close(0.05)

    def _is_late(self) -> bool:
        return self._deadline is not None and self._core.scheduler.now() >= self._deadline

    async def _end_the_rest(self) -> None:
        """Refuse everybody and cancel all; wait out the grace, then force."""
        self._close_phase()
        if not await self._until_quiet(self._grace + 0.1):
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
        self._core.processes.refuse()  # what is cancelled leaves cleared slots, but nobody to fill them
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
            left = None if self._deadline is None else self._deadline - self._core.scheduler.now()
            if left is not None and left <= 0:
                return
            await self._until_quiet(left)

    async def _until_quiet(self, seconds: float | None) -> bool:
        """Wait until nothing is live, ``seconds`` are over, or ``begin`` hurries us; True if nothing is live."""
        core = self._core
        self._awake = awake = core.loop.create_future()
        with core.registry.lock:
            if core.registry.is_quiet_locked():
                return True
            core.registry.quiet_waiters.append(tell := functools.partial(core.scheduler.home.post, _set, awake))
        try:
            await asyncio.wait([awake], timeout=seconds)
        finally:
            with core.registry.lock:
                core.registry.quiet_waiters.remove(tell)
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
                self.by_stop += task.cancel("the engine was stopped")

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

    # -- the end, from any thread ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Record that the engine has ended, and tell who waits for it. Idempotent."""
        with _sigint.deferred():
            self._core.forget()
            self.ended.set(self.report_so_far())

    def report_so_far(self) -> ShutdownReport:
        """Account for every task as it is now."""
        core = self._core
        with core.registry.lock:
            totals = {state: sum(core.registry.counts[lane][state] for lane in Lane) for state in TaskState}
            return ShutdownReport(
                submitted=core.registry.last_id,
                completed=totals[TaskState.COMPLETED],
                failed=totals[TaskState.FAILED],
                cancelled=totals[TaskState.CANCELLED],
                stopping=totals[TaskState.PENDING] + totals[TaskState.RUNNING],
                cancelled_by_stop=self.by_stop,
                abandoned=core.scheduler.counters.abandoned,
                killed=core.processes.counters.killed - self._killed_before,
                seconds=0.0 if self._began is None else self._core.scheduler.now() - self._began,
            )


def _set(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _raise(error: BaseException) -> None:
    raise error
