"""The BackgroundTaskManager: named background tasks, never more than a limit at once.

Guarantees
    The state is the ledger's, guarded by its lock; see there for the limit and the door. ``start``, ``stop`` and the
    waits may be called on any loop, ``get_*`` on any thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from engine import Task

from .. import _checks
from ._callables import check_callable
from ._home import on_loop
from ._ledger import Ledger
from ._records import BackgroundTask, TaskStatus
from ._runner import Runner, inside

__all__ = ["BackgroundTaskManager"]

MONITOR_INTERVAL = 30.0  #: seconds between two looks for records that are too old
KEEP_SECONDS = 3600.0  #: how long the record of an ended task is kept
CANCEL_PATIENCE = 0.5  #: seconds that ``cancel_task`` waits for the task to end, and ``stop`` at least


class BackgroundTaskManager:
    """Runs named coroutines and functions in the background, never more than ``max_concurrent_tasks`` at once.

    It works before ``start``, which adds the monitor that forgets old records. Tasks run on the loop that used the
    manager first; when that loop is closed, what was left there is CANCELLED, and the next loop takes its place.
    A plain function runs in a thread. Cancelled there, it is CANCELLED at once, but keeps its place until it returns.
    """

    def __init__(self, max_concurrent_tasks: int = 10) -> None:
        self.logger = logging.getLogger("engine.manager")
        self._ledger = Ledger(_checks.positive_int("max_concurrent_tasks", max_concurrent_tasks))
        self._runner = Runner(self._ledger, self.logger)
        self._monitor_task: asyncio.Task[None] | None = None
        self._shutdown_event = asyncio.Event()
        self._stops = 0  #: calls of ``stop`` under way; guarded by the ledger's lock

    @property
    def max_concurrent_tasks(self) -> int:
        """Give the limit."""
        return self._ledger.limit

    @property
    def tasks(self) -> dict[str, BackgroundTask]:
        """Give the remembered records by name, oldest first. It is the manager's own: look, but do not change it."""
        self._runner.notice_closed_loops()
        return self._ledger.tasks

    @property
    def running_tasks(self) -> dict[str, Task[Any]]:
        """Give the engine's Task of each RUNNING one by name. It is the manager's own, as ``tasks``."""
        self._runner.notice_closed_loops()
        return self._ledger.running

    # -- start and stop -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the monitor on the running loop; after ``stop``, open the manager again. Idempotent; never suspends.

        Raises:
            RuntimeError: the manager is being stopped.
        """
        with self._ledger.lock:
            if self._stops:
                raise RuntimeError("expected a manager that is not being stopped, got one that is; await stop() first")
            self._ledger.is_open, self._ledger.is_halted = True, False
        await self._runner.settle_in()
        monitor = self._monitor_task
        if monitor is None or monitor.done() or monitor.get_loop().is_closed():
            self._shutdown_event = asyncio.Event()  # the last one may be tied to another loop
            self._monitor_task = asyncio.create_task(self._monitor(self._shutdown_event), name="background monitor")
            self.logger.info("background task manager started")

    async def stop(self, timeout: float | None = 30.0, *, drain: bool = False) -> None:
        """Refuse new tasks, cancel the others and let them end, stop the monitor. Idempotent.

        Args:
            timeout: seconds that cancelled tasks have to end (at least half a second); what still runs then is given
                up, reported and CANCELLED, within another second. None waits for as long as they take.
            drain: let everything that was accepted end by itself; cancel only what has not within ``timeout``.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait without end")
        _checks.flag("drain", drain)
        end = None if timeout is None else time.monotonic() + timeout
        runner, ledger = self._runner, self._ledger
        runner.notice_closed_loops()
        with ledger.lock:
            self._stops += 1
            ledger.is_open = False
        if not drain:
            ledger.halt()
        try:
            jobs = [job for job in ledger.unfinished() if job is not inside.get()]
            if drain:
                await runner.until_left(jobs, end)
                ledger.halt()
            for job in jobs:
                runner.cancel(job)
            await runner.until_left(jobs, None if end is None else max(end, time.monotonic() + CANCEL_PATIENCE))
            runner.give_up(jobs)
            await runner.close()
            await self._stop_monitor()
        finally:
            with ledger.lock:
                self._stops -= 1
        self.logger.info("background task manager stopped")

    # -- tasks --------------------------------------------------------------------------------------------------

    async def submit_task(self, /, task_id: str, coroutine: Callable[..., Any], **kwargs: Any) -> str:
        """Accept ``coroutine(**kwargs)`` under the name ``task_id``, and return the name. Never suspends.

        A burst may be larger than the limit as long as fewer than ``max_concurrent_tasks`` run: the rest waits, first
        come, first served.

        Args:
            coroutine: a coroutine function, or another callable that returns an awaitable, or a plain function. The
                last two are called in a thread.

        Raises:
            ValueError: the name is taken, or ``max_concurrent_tasks`` tasks are RUNNING.
            TypeError: ``coroutine`` is not callable.
            EngineClosed: the manager was stopped.
            RuntimeError: no loop runs here, and the manager was not used on one before.
        """
        _checks.instance("task_id", task_id, str, "a string")
        check_callable(coroutine)
        await self._runner.submit(task_id, coroutine, kwargs)
        return task_id

    def get_task_status(self, task_id: str) -> BackgroundTask | None:
        """Return the record of a task, which goes on changing; None if there is none or it is forgotten."""
        return self.tasks.get(task_id)

    def get_running_tasks(self) -> list[str]:
        """Return the names of the RUNNING tasks."""
        running = self.running_tasks
        with self._ledger.lock:
            return list(running)

    def get_task_count(self) -> dict[str, int]:
        """Return how many of the remembered tasks are in each of the five states."""
        self._runner.notice_closed_loops()
        return {status.value: number for status, number in self._ledger.count().items()}

    def get_queue_size(self) -> int:
        """Return how many tasks are PENDING or RUNNING."""
        self._runner.notice_closed_loops()
        counts = self._ledger.count()
        return counts[TaskStatus.PENDING] + counts[TaskStatus.RUNNING]

    async def cancel_task(self, task_id: str) -> bool:
        """Cancel a task. True: it will not complete; False: it is over, or there is none.

        Gives it half a second to end. One that takes longer to clean up stays RUNNING until it has.
        """
        self._runner.notice_closed_loops()
        job = self._ledger.get(task_id)
        if job is None or not self._runner.cancel(job):
            return False
        if job is not inside.get():
            await job.settled.wait(CANCEL_PATIENCE)
        return True

    async def wait_for_task(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait for a task and return its result. A wait that times out or is cancelled leaves the task running.

        Args:
            timeout: seconds; zero asks how it is now, None waits for as long as it takes.

        Raises:
            ValueError: there is no such task, or it is forgotten.
            asyncio.TimeoutError: it did not end in time.
            Exception: it failed; what it raised is the ``__cause__``.
            asyncio.CancelledError: it was cancelled.
        """
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True, remedy="use timeout=None to wait without end")
        self._runner.notice_closed_loops()
        job = self._ledger.get(task_id)
        if job is None:
            raise ValueError(f"Task {task_id} not found")
        if not await job.settled.wait(timeout):
            raise TimeoutError(f"Task {task_id} did not end within {timeout} s")
        record = job.record
        if record.status is TaskStatus.FAILED:
            raise Exception(f"Task {task_id} failed: {record.error}") from job.cause
        if record.status is TaskStatus.CANCELLED:
            raise asyncio.CancelledError(f"Task {task_id} was cancelled")
        return record.result

    # -- the monitor --------------------------------------------------------------------------------------------

    async def _monitor(self, shutdown: asyncio.Event) -> None:
        while not shutdown.is_set():
            try:
                await asyncio.wait_for(shutdown.wait(), MONITOR_INTERVAL)
            except TimeoutError:
                self._ledger.forget_old(KEEP_SECONDS)

    async def _stop_monitor(self) -> None:
        monitor, shutdown = self._monitor_task, self._shutdown_event
        if monitor is None or monitor.get_loop().is_closed():
            shutdown.set()
            return

        async def end() -> None:
            shutdown.set()
            await asyncio.wait([monitor])

        await on_loop(monitor.get_loop(), end)
