"""Running the jobs: each is one coroutine in the loop lane of its home's engine.

That coroutine (``_drive``) waits for its turn. Then it awaits a coroutine function where it is, and has any other
callable called in the thread lane; an awaitable that comes back from there is awaited on the loop.

Guarantees
    Shared: ``_home``, ``_homes``.  Guarded by: the ledger's lock.  Callers: any thread, but for what says home loop.
    A job that was claimed ends, whatever becomes of its engine task: ``_engine_ended`` sees the one that never ran our
    coroutine, ``notice_closed_loops`` the one whose loop went away under it.
"""

import asyncio
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from engine import EngineClosed, Task, TaskCancelled, current_task

from ._callables import is_async, text_of
from ._home import Home, on_loop
from ._job import Job
from ._ledger import Ledger
from ._records import BackgroundTask, TaskStatus

__all__ = ["Runner", "inside"]

T = TypeVar("T")

#: The job whose code runs here: what it calls does not wait for it.
inside: contextvars.ContextVar[Job | None] = contextvars.ContextVar("engine_manager_job", default=None)


class Runner:
    """Brings the jobs of one ledger to the engine, and tells the ledger what became of them."""

    def __init__(self, ledger: Ledger, logger: logging.Logger) -> None:
        self._ledger = ledger
        self._logger = logger
        self._home: Home | None = None  #: where new jobs go
        self._homes: list[Home] = []  #: all that are not known to be closed

    # -- homes --------------------------------------------------------------------------------------------------

    async def settle_in(self) -> None:
        """Make the running loop the home, unless there is one. Never suspends."""
        await self._with_home(lambda home: None)

    async def submit(self, task_id: str, coroutine: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        """Accept one task; see ``BackgroundTaskManager.submit_task``. Never suspends."""

        def admit(home: Home) -> tuple[Job, list[Job]]:
            job = Job(BackgroundTask(task_id, coroutine), kwargs, home)
            return job, self._ledger.admit_locked(job)

        job, claimed = await self._with_home(admit)
        self.launch(claimed)
        self._send_home(job)

    async def _with_home(self, step: Callable[[Home], T]) -> T:
        """Take ``step`` under the lock with the home; a new home is kept only if the step was taken."""
        self.notice_closed_loops()
        while True:
            # Made outside the lock, in case it is needed; it costs nothing until it is opened.
            has_loop = asyncio._get_running_loop() is not None
            candidate = Home(self._ledger.limit, self._home_ends) if self._home is None and has_loop else None
            with self._ledger.lock:
                self._ledger.check_open_locked()
                home = self._home or candidate
                answer = (step(home),) if home is not None else None
                if home is not None and home is candidate:
                    self._home = home
                    self._homes.append(home)
            if home is None or answer is None:
                asyncio.get_running_loop()  # raises; if a loop runs here, another thread's ended since we looked
                continue
            if home is candidate:
                await home.open()
            return answer[0]

    def _home_ends(self, home: Home) -> None:
        """Start nothing more at ``home``: its loop is about to end, or its manager stops."""
        with self._ledger.lock:
            if self._home is home:
                self._home = None
        waiting = self._ledger.waiting_at(home)
        for job in waiting:
            self._finish(job, TaskStatus.CANCELLED, error="its event loop ended before it started")
        for job in waiting:
            self.launch(self._ledger.leave_driver(job))

    def notice_closed_loops(self) -> None:
        """End what is left of the jobs whose loop is closed: no coroutine of theirs can go on."""
        if not any(home.is_closed for home in self._homes):  # the list is replaced or appended to, never shortened
            return
        with self._ledger.lock:
            closed = [home for home in self._homes if home.is_closed]
            self._homes = [home for home in self._homes if home not in closed]
            if self._home in closed:
                self._home = None
        lost = [job for job in self._ledger.unfinished() if job.home in closed]
        for job in lost:
            self._finish(job, TaskStatus.CANCELLED, error="its event loop was closed")
        for job in lost:
            self.launch(self._ledger.leave_driver(job))

    async def close(self) -> None:
        """Stop every engine that can be reached, and forget them."""
        for home in list(self._homes):
            await on_loop(home.loop, home.close)
        busy = {job.home for job in self._ledger.unfinished()}
        with self._ledger.lock:
            self._home = None
            self._homes = [home for home in self._homes if home in busy]

    # -- to the engine ------------------------------------------------------------------------------------------

    @staticmethod
    def launch(jobs: Iterable[Job]) -> None:
        """Let go what was claimed: their coroutines wait for their turn. Any thread."""
        for job in jobs:
            job.turn.set()

    def _send_home(self, job: Job) -> None:
        """Have ``job`` handed to the engine at its home: at once if that is the loop that runs here."""
        if asyncio._get_running_loop() is job.home.loop:
            self._hand_over(job)
            return
        try:
            job.home.loop.call_soon_threadsafe(self._hand_over, job)
        except RuntimeError:
            self.notice_closed_loops()

    def _hand_over(self, job: Job) -> None:
        """Hand ``job`` to the engine, unless it was cancelled. Home loop only."""
        context = job.context
        if context is None:
            return
        try:
            task = context.run(job.home.submit, self._drive, job, job.record.task_id)
        except EngineClosed:  # its loop ends this instant, and with it what had not started
            self._finish(job, TaskStatus.CANCELLED)
            self.launch(self._ledger.leave_driver(job))
            return
        except Exception as error:  # the job must end, whatever it is
            self._finish(job, TaskStatus.FAILED, cause=error)
            self.launch(self._ledger.leave_driver(job))
            return
        with self._ledger.lock:
            job.record.asyncio_task = task
            is_live = job.is_live
        task.add_done_callback(functools.partial(self._engine_ended, job))
        if not is_live:
            task.cancel()

    def _engine_ended(self, job: Job, task: Task[Any]) -> None:
        """See to it that ``job`` is over now that its engine task is. Home loop only."""
        cause = None if task.cancelled() else task.exception()
        self._finish(job, TaskStatus.CANCELLED if cause is None else TaskStatus.FAILED, cause=cause)
        if job.driver is None:  # it ended before our coroutine had its turn
            self.launch(self._ledger.leave_driver(job))

    # -- running ------------------------------------------------------------------------------------------------

    async def _drive(self, job: Job) -> Any:
        """Wait for the turn of ``job`` and run it. Home loop only, in the loop lane."""
        await job.turn.wait()
        task = job.record.asyncio_task
        if task is None or not self._ledger.start(job, task):
            raise asyncio.CancelledError
        job.driver = asyncio.current_task()
        inside.set(job)
        try:
            value = await self._call(job)
            self._finish(job, TaskStatus.COMPLETED, result=value, is_asked=current_task().cancel_requested)
        except BaseException as error:
            if _is_destroyed(job, error):
                raise  # the collector runs us at any point of any thread: take no lock, the closed loop will be noticed
            if isinstance(error, (asyncio.CancelledError, TaskCancelled)):
                self._finish(job, TaskStatus.CANCELLED)
            else:
                self._finish(job, TaskStatus.FAILED, cause=error)
            self.launch(self._ledger.leave_driver(job))
            raise
        self.launch(self._ledger.leave_driver(job))
        return value

    async def _call(self, job: Job) -> Any:
        function, kwargs = job.record.coroutine, job.kwargs
        if is_async(function):
            return await function(**kwargs)
        call = functools.partial(self._call_in_thread, function, kwargs)
        try:
            task = job.home.submit(call, job, job.record.task_id)
        except EngineClosed as error:  # as in _hand_over
            raise asyncio.CancelledError from error
        (value,) = await task
        return await value if inspect.isawaitable(value) else value

    def _call_in_thread(self, function: Callable[..., Any], kwargs: dict[str, Any], job: Job) -> tuple[Any]:
        """Call the plain function of ``job``, and hold its slot meanwhile: it may outlive the job.

        What it returns comes wrapped: the thread lane refuses a coroutine that nobody would await, and here we do.
        """
        if not self._ledger.enter_thread(job):
            return (None,)
        try:
            return (function(**kwargs),)
        finally:
            self.launch(self._ledger.leave_thread(job))

    # -- ending -------------------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> bool:
        """Cancel ``job``; False: it is over."""
        was_live, task, claimed = self._ledger.ask(job)
        if task is not None:
            task.cancel()
        self.launch(claimed)
        return was_live

    async def until_left(self, jobs: Iterable[Job], end: float | None) -> None:
        """Wait until none of the code of ``jobs`` runs, or monotonic ``end`` has come."""
        for job in jobs:
            await job.left.wait(None if end is None else end - time.monotonic())

    def give_up(self, jobs: Iterable[Job]) -> None:
        """Let go of ``jobs``, whose time is over: each that still runs is reported, and is CANCELLED."""
        for job in jobs:
            if job.has_slot:
                self._logger.warning("task %s did not end in time and still runs", job.record.task_id)
            self._finish(job, TaskStatus.CANCELLED, error="it did not end in time and was given up")
            self._ledger.tell_left(job)

    def _finish(
        self, job: Job, status: TaskStatus, *, result: Any = None, cause: BaseException | None = None,
        error: str | None = None, is_asked: bool = False,
    ) -> None:  # fmt: skip
        if cause is not None:
            error = text_of(cause)
        if self._ledger.finish(job, status, result=result, cause=cause, error=error, is_asked=is_asked):
            if status is TaskStatus.FAILED:
                self._logger.error("task %s failed: %s", job.record.task_id, error, exc_info=cause)
            self._ledger.tell_left(job)


def _is_destroyed(job: Job, error: BaseException) -> bool:
    """Say whether the coroutine is being closed from outside its task, rather than raising GeneratorExit itself."""
    if not isinstance(error, GeneratorExit):
        return False
    return asyncio._get_running_loop() is None or asyncio.current_task() is not job.driver
