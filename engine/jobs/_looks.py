"""What can be asked about jobs."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from engine import TaskState

from .. import _checks
from ._job import Job, make_job
from ._records import Failure, Filter, JobInfo, Statistics
from ._reply import Reply
from ._store import Store
from ._tasks.job_task import JobTask
from ._watch import Watch, not_found

if TYPE_CHECKING:
    from ._jobs import Jobs

__all__ = ["Looks", "job_id_of", "states_of"]


class Looks:
    """The questions. Each gives a Reply: ``await`` it, or ``.result()`` on a thread without a loop."""

    store: Store
    _watches: dict[int, Watch]

    def get(self, job_id: int) -> Reply[Job]:
        """Give one job as it is now.

        Raises:
            JobNotFound: there is none of this id (in the reply).
        """
        exact = job_id_of(job_id)
        reply = self.store.read(lambda book, now: book.find(Filter(ids=(exact,), limit=1)))
        return reply.convert(partial(self._only, exact))

    def list(
        self, *, states: TaskState | str | Iterable[TaskState | str] | None = None,
        queues: str | Iterable[str] | None = None,
        names: str | JobTask[..., Any] | Iterable[str | JobTask[..., Any]] | None = None, limit: int = 100,
        below: int | None = None,
    ) -> Reply[builtins.list[Job]]:  # fmt: skip
        """Give jobs, the newest first: at most ``limit``, with ids below ``below`` (the last of the page before).

        ``names`` are those of tasks, or the tasks themselves.
        """
        wanted = Filter(
            states=states_of(states), queues=_texts("queues", queues), names=_texts("names", _names_of(names)),
            limit=_checks.positive_int("limit", limit), below=None if below is None else job_id_of(below),
        )  # fmt: skip
        return self._find(wanted)

    def follow_ups(self, job_id: int) -> Reply[builtins.list[Job]]:
        """Give the jobs that were enqueued with the completion of this one, the newest first."""
        return self._find(Filter(parent=job_id_of(job_id)))

    def failures(self, job_id: int) -> Reply[tuple[Failure, ...]]:
        """Give why runs of a job did not complete, oldest first, with tracebacks; the last hundred are kept."""
        exact = job_id_of(job_id)
        return self.store.read(lambda book, now: book.failures(exact)).convert(tuple)

    def wait(self, job_id: int, timeout: float | None = None) -> Reply[Job]:
        """Give a job as it is when it has ended, whichever process runs it. All waits of a process cost one look.

        Raises:
            TimeoutError: it has not ended ``timeout`` seconds after somebody began to wait (in the reply).
            JobNotFound: there is none of this id, or it was pruned meanwhile (in the reply).
        """
        pid = os.getpid()
        watch = self._watches.get(pid) or self._watches.setdefault(pid, Watch(self.store))
        exact = job_id_of(job_id)
        return watch.wait(exact).convert(self._job).within(timeout, partial(_late, self.store, exact))

    def statistics(self) -> Reply[Statistics]:
        """Count jobs by queue and state, and who holds some."""
        return self.store.read(lambda book, now: book.statistics(now))

    def query(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> Reply[builtins.list[dict[str, Any]]]:
        """Run one reading statement of SQL on the store's tables; the tables are ours to change with a version.

        Raises:
            StoreError: this store has no SQL (in the reply: the statement is wrong, or writes).
            ValueError: ``parameters`` are text, whose letters would be the values.
        """
        if _checks.is_a(parameters, str):
            raise _checks.wrong("parameters", "a sequence or mapping of values", parameters, "for one say (value,)")
        return self.store.query(_checks.text("sql", sql, most=1_000_000), parameters)

    def connect(self) -> Any:
        """Open a connection to the store's database for transactions of your own: ``options(connection=...)``.

        Raises:
            StoreError: this store has no such thing.
        """
        return self.store.connect()

    # -- from rows to jobs

    def _job(self: Any, info: JobInfo) -> Job:
        jobs: Jobs = self
        return make_job(info, jobs)

    def _jobs(self, infos: builtins.list[JobInfo]) -> builtins.list[Job]:
        return [self._job(info) for info in infos]

    def _only(self, job_id: int, infos: builtins.list[JobInfo]) -> Job:
        if not infos:
            raise not_found(job_id)
        return self._job(infos[0])

    def _find(self, wanted: Filter) -> Reply[builtins.list[Job]]:
        return self.store.read(lambda book, now: book.find(wanted)).convert(self._jobs)


def job_id_of(value: Any) -> int:
    """Return ``value`` if it may be the id of a job."""
    exact = _checks.integer(value)
    if exact is None:
        remedy = "say job.id, or ask the job itself: it has cancel(), wait(), refresh(), ..."
        raise _checks.wrong("job_id", "an integer", value, remedy if _checks.is_a(value, (Job, Reply)) else "")
    return exact


def _late(store: Store, job_id: int, seconds: float) -> Reply[str]:
    """Give what to tell whoever waited ``seconds`` for the end of a job."""
    look = store.read(lambda book, now: book.find(Filter(ids=(job_id,), limit=1)))
    return look.convert(partial(_told_late, job_id, seconds))


def _told_late(job_id: int, seconds: float, found: Sequence[JobInfo]) -> str:
    name, state = next(((f" ({each.name})", each.state.value) for each in found), ("", "none of this id any more"))
    return f"expected job {job_id}{name} to end within {seconds:g} s, got {state}; it goes on"


def states_of(value: Any) -> tuple[TaskState, ...]:
    """Return states, which may be given by their names."""
    names = tuple(state.value for state in TaskState)
    return tuple(TaskState(_checks.member("a state", each, names)) for each in _some("states", value))


def _texts(what: str, value: Any) -> tuple[str, ...]:
    return tuple(_checks.text(what, each, most=1000) for each in _some(what, value))


def _names_of(value: Any) -> Any:
    """Return the names of tasks where the tasks themselves are given."""
    if _checks.is_a(value, JobTask):
        return value.name
    if _checks.is_a(value, (list, tuple, set, frozenset)):
        return [_names_of(each) if _checks.is_a(each, JobTask) else each for each in value]
    return value


def _some(what: str, value: Any) -> tuple[Any, ...]:
    """Return what a filter names: one or several; nothing where it leaves all."""
    if value is None or _checks.is_a(value, str):
        return () if value is None else (value,)
    many = tuple(value) if isinstance(value, Iterable) else ()
    if not many:
        raise _checks.wrong(what, "one or several", value, f"use {what}=None for all")
    return many
