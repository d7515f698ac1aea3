"""What is wrong with a configuration before anything has run, and what a store has that nobody here works on."""

from __future__ import annotations

import inspect
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine import Lane, TaskState

from ._book import Book
from ._moment import Moment
from ._records import Filter
from .errors import ConfigurationError, StoreClosed, StoreError

if TYPE_CHECKING:
    from ._jobs import Jobs
    from ._tasks.job_task import JobTask

__all__ = ["Finding", "check", "check_or_raise", "check_store", "log_check_of_store"]

#: Jobs that wait whose names are looked at: there may be millions.
_LOOKED_AT = 1000

_LOGGED_MOST = 20  #: findings of one look; a queue for each user would be a flood

_logger = logging.getLogger("engine.jobs")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found."""

    level: str  #: "error": it cannot work; "warning": it may be meant, or not
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.what}; {self.remedy}"


def check(jobs: Jobs, served: Collection[str] | None = None) -> tuple[Finding, ...]:
    """Return what is wrong with the tasks, routes, queues and schedules of ``jobs``, errors first; no store is asked.

    ``served`` are the queues of a worker, None for one that serves all.
    """
    found = [*_of_tasks(jobs), *_of_schedules(jobs), *_of_routes(jobs), *_of_queues(jobs, served)]
    return tuple(sorted(found, key=lambda finding: finding.level))


def check_store(book: Book, now: Moment, jobs: Jobs) -> tuple[Finding, ...]:
    """Return what waits in a store and is not run by anybody who has this ``jobs``."""
    return (*_of_rows(book, jobs), *_of_waiting_queues(book, now, jobs))


def check_or_raise(jobs: Jobs, served: Collection[str] | None) -> None:
    """Check for a worker that starts: log the warnings.

    Raises:
        ConfigurationError: there are errors; the message has all of them.
    """
    found = check(jobs, served)
    errors = [finding for finding in found if finding.level == "error"]
    if errors:
        listed = "".join(f"\n  - {finding.what}; {finding.remedy}" for finding in errors)
        raise ConfigurationError(f"expected a configuration that can work, but:{listed}", findings=found)
    _log(jobs, found)


async def log_check_of_store(jobs: Jobs) -> None:
    """Log what ``check_store`` finds. With a million rows it takes a second, for which no worker should wait."""
    try:
        _log(jobs, await jobs.check_store())
    except StoreClosed:
        pass
    except StoreError as error:
        _logger.warning("%s could not be checked: %s", jobs.name, error)


def _log(jobs: Jobs, found: Sequence[Finding]) -> None:
    for finding in found[:_LOGGED_MOST]:
        _logger.warning("%s: %s; %s", jobs.name, finding.what, finding.remedy)
    if len(found) > _LOGGED_MOST:
        more = len(found) - _LOGGED_MOST
        _logger.warning("%s: %d findings more; check() and check_store() have all", jobs.name, more)


# -- tasks and schedules ----------------------------------------------------------------------------------------------


def _of_tasks(jobs: Jobs) -> Iterator[Finding]:
    if not jobs.tasks:
        yield Finding(
            "warning", "no task is registered, so no job can run",
            "import the modules that define them where the Jobs is made, or name a module that does",
        )  # fmt: skip
    for task in jobs.tasks.values():
        yield from _of_lane(task)


def _of_lane(task: JobTask[..., object]) -> Iterator[Finding]:
    is_coroutine = inspect.iscoroutinefunction(task.fn)
    if is_coroutine and task.lane in (Lane.THREAD, Lane.PROCESS):
        yield Finding(
            "error", f"task {task.name!r} is a coroutine function on the lane {task.lane.value!r}",
            "leave lane out, or make it a plain function",
        )  # fmt: skip
    if not is_coroutine and task.lane is Lane.LOOP:
        yield Finding(
            "error", f"task {task.name!r} is a plain function on the lane 'loop', which it would hold up",
            "say lane='thread', or make it a coroutine function",
        )  # fmt: skip


def _of_schedules(jobs: Jobs) -> Iterator[Finding]:
    now = time.time()
    for schedule in jobs.schedules.values():
        if schedule.timetable.next_after(now) is None:
            yield Finding(
                "error", f"schedule {schedule.name!r} ({schedule.timetable}) is due never again",
                "mend its cron expression, or remove it",
            )  # fmt: skip


# -- routes and queues ------------------------------------------------------------------------------------------------


def _of_routes(jobs: Jobs) -> Iterator[Finding]:
    taken = {jobs.catalog.route_of(name) for name in jobs.tasks}
    for pattern in jobs.catalog.routes:
        if pattern not in taken:
            yield Finding(
                "warning", f"the route {pattern!r} is taken by no task",
                "import the modules that define its tasks, put it before those that match them first, or remove it",
            )  # fmt: skip


def _of_queues(jobs: Jobs, served: Collection[str] | None) -> Iterator[Finding]:
    used = {task.queue for task in jobs.tasks.values()}
    used |= {schedule.queue for schedule in jobs.schedules.values()}
    meant = {"default"} if served is None else set()  # declared for tasks to come: what says no queue is in it
    for queue in jobs.queues if served is None else served:
        if queue not in used | meant:
            yield Finding(
                "warning", f"the queue {queue!r} is that of no task",
                "mend its name, or import the modules that define its tasks; it is meant if options(queue=...) name it",
            )  # fmt: skip


# -- the store --------------------------------------------------------------------------------------------------------


def _of_rows(book: Book, jobs: Jobs) -> Iterator[Finding]:
    waiting = book.find(Filter(states=(TaskState.PENDING,), limit=_LOOKED_AT))
    unknown = Counter(job.name for job in waiting if job.name not in jobs.tasks)
    if unknown:
        counted = ", ".join(f"{name!r} ({number})" for name, number in unknown.most_common(10))
        share = f"of the {len(waiting):,} jobs that wait and were enqueued last, {unknown.total():,}"
        yield Finding(
            "warning", f"{share} are of tasks that nobody has registered here: {counted}",
            "import the modules that define them, or have another worker run them from a queue of their own",
        )  # fmt: skip


def _of_waiting_queues(book: Book, now: Moment, jobs: Jobs) -> Iterator[Finding]:
    for queue in book.statistics(now).queues:
        waiting = queue.ready + queue.later + queue.locked + queue.suspects
        if queue.paused and waiting:
            yield Finding("warning", f"the queue {queue.queue!r} is paused, and {waiting:,} jobs wait in it",
                          f"jobs.resume({queue.queue!r})")  # fmt: skip
        elif waiting and queue.queue not in jobs.queues:
            yield Finding(
                "warning", f"{waiting:,} jobs wait in the queue {queue.queue!r}, which is that of no task here",
                "serve it: jobs.worker(queues=...), or say Jobs(queues=...)",
            )  # fmt: skip
