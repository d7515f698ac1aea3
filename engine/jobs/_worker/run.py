"""One run of a job: from its claim to its ending."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from engine import Engine, Lane, RemoteError, Retry, Task, TaskState

from ... import _checks
from .._current_job import CurrentJob, Snoozed
from .._json.codec import encode_result
from .._records import Claimed
from .._tasks.job_task import JobTask
from .plain_call import PlainCall
from .told_of_job import told_of_job
from .verdict import NO_RETRY, Outcome, Stop

__all__ = ["Binding", "Run"]


class Binding:
    """How the jobs of one task are submitted to one engine."""

    def __init__(self, task: JobTask[..., Any], engine: Engine, max_result_bytes: int) -> None:
        self.task = task
        self.is_coroutine = inspect.iscoroutinefunction(task.fn)
        self.retry: Retry = task.retry or NO_RETRY
        #: Where its runs go: unless it says so, only an engine knows, from the first run on.
        self.lane: Lane = task.lane or (Lane.LOOP if self.is_coroutine else Lane.PROCESS)
        self._max_result_bytes = max_result_bytes
        self._engine = engine.options(lane=task.lane, timeout=task.timeout, retry=None, priority=None, name=task.name)
        self._submit: Callable[..., Task[Any]] | None = None  #: from the first run on

    def submit(self, run: Run, told: Callable[[Task[Any]], object]) -> Task[Any]:
        """Submit ``run``, in a context in which its job is the current one; ``told`` hears of its end at once."""
        if self._submit is None:
            fn = self.task.fn if self.is_coroutine else PlainCall(self.task, self._max_result_bytes)
            self._submit = self._engine._submitting(fn)
        if self.is_coroutine:
            return self._submit(told, (), run.args)
        return self._submit(told, (run.current(),), {})

    def outcome(self, task: Task[Any], run: Run) -> Outcome:
        """Return how ``run`` ended, whose ``task`` is done."""
        if task.state is TaskState.COMPLETED:
            return self._returned(task.result())
        if task.cancelled():
            return Outcome(stop=run.stop, has_begun=task.started_at is not None)
        error = task.exception()
        assert error is not None
        cause = error.__cause__ if type(error) is RemoteError else None
        if type(cause) is Snoozed:
            return Outcome(snooze=cause.seconds)
        error = told_of_job(error, task.id, self.task.name, run.job.id)
        has_begun = task.started_at is not None
        # The function was called; only where that failed is it worth asking whether it takes such arguments at all.
        if _checks.is_a(error, TypeError) and not self.task.parameters.fits(run.args):
            return Outcome(error=error, kind="arguments", is_hopeless=True, stop=run.stop, has_begun=has_begun)
        return Outcome(error=error, stop=run.stop, has_begun=has_begun)

    def _returned(self, value: Any) -> Outcome:
        if not self.is_coroutine:
            return Outcome(snooze=value) if type(value) is float else Outcome(result=value)
        try:
            return Outcome(encode_result(value, self._max_result_bytes))
        except Exception as error:  # not JSON, or too large
            return Outcome(error=error, is_hopeless=True)


class Run:
    """One claimed job while we have it."""

    __slots__ = ("_current", "args", "binding", "job", "lane", "progress_told", "stop", "task")

    def __init__(self, job: Claimed, binding: Binding | None, lane: Lane | None) -> None:
        self.job = job
        self.binding = binding  #: None where nobody has registered its name
        self.lane = lane  #: which it is counted for
        self.args: dict[str, Any] = {}  #: what the function is called with; empty where they could not be read
        self.task: Task[Any] | None = None  #: from its submit on
        self.stop: Stop | None = None  #: why it was asked to, before it had ended
        self.progress_told: Any = None
        self._current: CurrentJob | None = None

    def __str__(self) -> str:
        return f"job {self.job.id}"

    def current(self) -> CurrentJob:
        """Return what the job may know of itself, and what hooks are given; made when somebody asks."""
        if self._current is None:
            job = self.job
            self._current = CurrentJob(
                job.id, job.token, job.attempt, job.name, job.queue, job.priority, job.created_at, self.args
            )
        return self._current

    def ask_to_stop(self, why: Stop) -> None:
        """Have it end soon, unless it has ended or was asked already."""
        if self.stop is None and (self.task is None or self.task.cancel()):
            self.stop = why
