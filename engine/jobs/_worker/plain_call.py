"""A plain function's run, on the thread or in the worker process where the engine has it."""

from typing import Any

from .._current_job import CurrentJob, Snoozed, running
from .._json.codec import encode_result
from .._tasks.job_task import JobTask

__all__ = ["PlainCall"]


class PlainCall:
    """Calls the function of ``task`` as a job, and brings home what needs no rebuilding there.

    That is the result as JSON (a str), or the seconds of a snooze (a float): so a result that is not JSON is found out
    where it is, and nothing of a user's class comes back.
    """

    __slots__ = ("_max_result_bytes", "_task")

    def __init__(self, task: JobTask[..., Any], max_result_bytes: int) -> None:
        self._task = task
        self._max_result_bytes = max_result_bytes

    def __call__(self, job: CurrentJob) -> str | float:
        """Run it."""
        token = running.set(_Here(job))
        try:
            return encode_result(self._task.fn(**job.args), self._max_result_bytes)
        except Snoozed as snoozed:
            return snoozed.seconds
        finally:
            running.reset(token)


class _Here:
    """The run of a call, where the ``Run`` itself is elsewhere."""

    __slots__ = ("_job",)

    def __init__(self, job: CurrentJob) -> None:
        self._job = job

    def __str__(self) -> str:
        return f"job {self._job.id}"

    def current(self) -> CurrentJob:
        return self._job
