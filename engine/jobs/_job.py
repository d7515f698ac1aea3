"""A job as it was when it was looked at, and what can be done with it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine import Progress, TaskState

from ._json.codec import decode_args, decode_value
from ._moment import Moment
from ._records import Cancelled, Failure, Gate, JobInfo, NewJob
from .errors import JobCancelled, JobFailed, JobsError, PayloadRefused

if TYPE_CHECKING:
    from ._jobs import Jobs
    from ._reply import Reply

__all__ = ["Job", "fresh_job", "make_job"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Job:
    """One durable job at one instant: it does not change, ``refresh`` gives another. Instants are in UTC."""

    id: int
    name: str  #: of its task
    queue: str
    state: TaskState
    waits_for: Gate | None  #: of a PENDING one
    attempt: int  #: attempts begun, but those given back
    priority: int
    crashes: int  #: deaths of what ran it
    max_crashes: int
    lock: str | None
    queueing_lock: str | None
    created_at: datetime.datetime
    due_at: datetime.datetime | None  #: from when it may run; None for at once
    started_at: datetime.datetime | None  #: its last run
    completed_at: datetime.datetime | None  #: of one that has ended, however
    expires_at: datetime.datetime | None
    holder: str | None  #: the worker that runs it
    lease_until: datetime.datetime | None  #: until when the holder has it, unless it renews
    cancel_requested: bool
    parent: int | None  #: the job that it follows
    schedule: str | None  #: the period that enqueued it
    error: str | None  #: of its last failure, on one line
    args_text: str  #: the arguments as JSON
    result_text: str | None  #: the same of the result
    progress_text: str | None
    _jobs: Jobs

    # -- what it has

    @property
    def args(self) -> dict[str, Any]:
        """Give the arguments.

        Raises:
            PayloadRefused: the row has something that no enqueue wrote.
        """
        return decode_args(self.args_text)

    @property
    def progress(self) -> Progress | None:
        """Give how far the function said it is, if it did."""
        try:
            return None if self.progress_text is None else Progress(**decode_args(self.progress_text))
        except (PayloadRefused, TypeError):  # of another version, or nobody's of ours
            return None

    def done(self) -> bool:
        """Say whether it had ended."""
        return self.state in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)

    def result(self) -> Any:
        """Return what the function returned.

        Raises:
            JobFailed: it failed for good.
            JobCancelled: it was cancelled, or expired.
            JobsError: it had not ended.
        """
        if self.state is TaskState.COMPLETED:
            return None if self.result_text is None else decode_value(self.result_text)
        what = f"expected job {self.id} ({self.name}) to have completed, got one that "
        if self.state is TaskState.FAILED:
            raise JobFailed(f"{what}failed in attempt {self.attempt}: {self.error or 'nobody knows why'}", job=self)
        if self.state is TaskState.CANCELLED:
            raise JobCancelled(f"{what}was cancelled{f': {self.error}' if self.error else ''}", job=self)
        raise JobsError(f"{what}is {self.state.value}; wait for it: (await job.wait()).result()")

    # -- what it is now

    def refresh(self) -> Reply[Job]:
        """Give the job as it is now, or JobNotFound."""
        return self._jobs.get(self.id)

    def wait(self, timeout: float | None = None) -> Reply[Job]:
        """Give the job as it is when it has ended, whichever process runs it.

        Raises:
            TimeoutError: it has not ended after ``timeout`` seconds (in the reply); it goes on.
            JobNotFound: it was pruned (in the reply).
        """
        return self._jobs.wait(self.id, timeout)

    def failures(self) -> Reply[tuple[Failure, ...]]:
        """Give why its runs did not complete, oldest first, with tracebacks; the last hundred are kept."""
        return self._jobs.failures(self.id)

    def follow_ups(self) -> Reply[list[Job]]:
        """Give the jobs that were enqueued with its completion."""
        return self._jobs.follow_ups(self.id)

    # -- what becomes of it

    def cancel(self) -> Reply[Cancelled]:
        """Cancel it if it waits; ask its worker to stop it if it runs."""
        return self._jobs.cancel(self.id)

    def requeue(self) -> Reply[bool]:
        """Have it run anew if it has ended, with all its attempts; False if it has not."""
        return self._jobs.requeue(self.id)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r} {self.state.value}>"

    def _repr_html_(self) -> str:
        from ._job_html import html_of_job

        return html_of_job(self)


def make_job(info: JobInfo, jobs: Jobs) -> Job:
    """Make the job of a row."""
    return Job(
        id=info.id, name=info.name, queue=info.queue, state=info.state, waits_for=info.gate, attempt=info.attempt,
        priority=info.priority, crashes=info.crashes, max_crashes=info.max_crashes, lock=info.lock,
        queueing_lock=info.queueing_lock, created_at=_instant(info.created_at), due_at=_maybe(info.due_at),
        started_at=_maybe(info.started_at), completed_at=_maybe(info.completed_at), expires_at=_maybe(info.expires_at),
        holder=info.holder, lease_until=_maybe(info.lease_until), cancel_requested=info.cancel_requested,
        parent=info.parent, schedule=info.schedule, error=info.error, args_text=info.args, result_text=info.result,
        progress_text=info.progress, _jobs=jobs,
    )  # fmt: skip


def fresh_job(row: NewJob, job_id: int, now: Moment, jobs: Jobs) -> Job:
    """Make the job that ``row`` became at ``now``: as it is in the store, without a look there."""
    due_at = row.at if row.delay is None else now.wall + row.delay
    expires_at = row.expires_at if row.expires_in is None else now.wall + row.expires_in
    is_later = due_at is not None and due_at > now.wall
    return Job(
        id=job_id, name=row.name, queue=row.queue, state=TaskState.PENDING,
        waits_for=Gate.LATER if is_later else Gate.READY, attempt=0, priority=row.priority, crashes=0,
        max_crashes=row.max_crashes, lock=row.lock, queueing_lock=row.queueing_lock, created_at=_instant(now.wall),
        due_at=_maybe(due_at) if is_later else None, started_at=None, completed_at=None, expires_at=_maybe(expires_at),
        holder=None, lease_until=None, cancel_requested=False, parent=row.parent, schedule=row.schedule, error=None,
        args_text=row.args, result_text=None, progress_text=None, _jobs=jobs,
    )  # fmt: skip


_LAST = datetime.datetime.max.replace(tzinfo=datetime.UTC)


def _instant(seconds: float) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (OverflowError, ValueError, OSError):  # what a row has may be no year at all
        return _LAST


def _maybe(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else _instant(seconds)
