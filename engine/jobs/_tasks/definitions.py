"""What decorators of a Jobs define: tasks, schedules and hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, overload

from engine import Lane, Priority, Retry

from ... import _checks
from .._schedules.periodic import checked_timetable, make_schedule
from .catalog import Catalog, H
from .job_task import JobTask, make_job_task
from .settings import checked_settings

if TYPE_CHECKING:
    from typing import Unpack

    from .._calls.options import Options
    from .._jobs import Jobs
    from .._schedules.schedule import Schedule

__all__ = ["Definitions", "Settings"]

P = ParamSpec("P")
R = TypeVar("R")


class Settings(TypedDict, total=False):
    """What ``@jobs.task`` may say; None as if it said nothing."""

    name: str | None  #: by default ``module.qualname``, also where the module is run as a script
    queue: str | None  #: by default "default"; ``routes`` win over it, ``options(queue=...)`` over both
    lane: Lane | str | None
    timeout: float | timedelta | None  #: seconds of one run
    retry: Retry | None  #: by default one attempt
    priority: int | Priority | str | None
    max_crashes: int | None  #: deaths of what runs it until it is FAILED; 3
    lock: str | None  #: may have arguments in it: ``"user-{user}"``
    expires: float | timedelta | None  #: seconds from the enqueue after which it is not started any more


def _names(function: Callable[..., Any]) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount]


def _is_method(function: Callable[..., Any]) -> bool:
    """Say whether ``function`` was defined in a class, and is given its object or class."""
    is_in_class = "." in function.__qualname__.rpartition("<locals>.")[2]
    return is_in_class and _names(function)[:1] in (("self",), ("cls",))


class Definitions:
    """The decorators."""

    catalog: Catalog

    @property
    def tasks(self) -> Mapping[str, JobTask[..., Any]]:
        """Give the registered tasks by name."""
        return self.catalog.tasks

    @property
    def schedules(self) -> Mapping[str, Schedule]:
        """Give the schedules by name."""
        return self.catalog.schedules

    @property
    def queues(self) -> Mapping[str, int | None]:
        """Give each queue with how many of its jobs a worker runs at once (None: as many as it can)."""
        return self.catalog.queues

    @overload
    def task(self, fn: Callable[P, R], /) -> JobTask[P, R]: ...
    @overload
    def task(self, /, **given: Unpack[Settings]) -> Callable[[Callable[P, R]], JobTask[P, R]]: ...
    def task(self, fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
        """Register a function, plain or coroutine, so that its calls can be enqueued: ``@jobs.task(queue="mail")``.

        What ``@cpu``, ``@io`` or ``@engine.task`` below it says of lane, timeout, retry and priority counts where this
        says nothing.

        Raises:
            ValueError: a setting is out of range, or another function has the name.
            TypeError: it is no function whose arguments have names, or there is no such setting.
        """

        def register(function: Callable[P, R]) -> JobTask[P, R]:
            return self._register(function, given)

        return register if fn is None else register(fn)

    def _register(self: Any, function: Callable[P, R], given: dict[str, Any]) -> JobTask[P, R]:
        if not inspect.isfunction(function):
            remedy = "say name=... or queue=..." if _checks.is_a(function, str) else "wrap it in a def"
            raise TypeError(f"expected a function to register, got {_checks.shown(function)}; {remedy}")
        if _is_method(function):
            first = _names(function)[0]
            raise TypeError(
                f"expected a function, got the method {_checks.shown(function)}, whose {first} no job can keep; "
                "register a function that finds or makes the object"
            )
        jobs: Jobs = self
        settings = jobs.catalog.routed(checked_settings(function, given))
        return jobs.catalog.add(make_job_task(function, settings, jobs))

    def periodic(
        self: Any, cron: str | None = None, /, *, every: float | timedelta | None = None, tz: str | None = None,
        catch_up: str = "none", name: str | None = None, args: Mapping[str, Any] | None = None,
        period_as: str | None = None, **options: Unpack[Options],
    ) -> Callable[[Callable[P, R]], JobTask[P, R]]:  # fmt: skip
        """Enqueue a function, or a task, once for each period while any worker runs: ``@jobs.periodic("0 3 * * *")``.

        Args:
            cron: five fields, minute hour day-of-month month day-of-week, in the zone ``tz`` (UTC).
            every: seconds or a timedelta, at least 1, in place of that: at the multiples of it since 1970 in UTC.
            catch_up: what becomes of periods at which nobody was there, nor within a minute: "none" leaves them out,
                "last" enqueues the latest of them. What was never seen before has missed nothing.
            name: unique; by default that of the task.
            args: the arguments of each call.
            period_as: the argument that is given the period: its instant as ISO 8601 in ``tz``.
            options: as ``options`` of a task has them: queue, priority, lock, expires, then. With ``queueing_lock`` a
                period is left out while the job of an earlier one waits for its first run.

        A zone's clock is put forward and back. An expression of which neither minute nor hour begins with ``*`` names
        times of day, each once a day: those that are skipped come at the change, of two that are alike the first one.
        Any other names a rhythm, which goes on as time does.

        Raises:
            ValueError: it never fires, another schedule has the name, or the arguments are no whole call.
            TypeError: there is no such option.
        """
        timetable = checked_timetable(cron, every, tz)
        jobs: Jobs = self

        def register(function: Callable[P, R]) -> JobTask[P, R]:
            task = function if isinstance(function, JobTask) else jobs.task(function)
            if task.jobs is not jobs:
                raise ValueError(f"expected a task of {jobs!r}, got {task!r} of {task.jobs!r}")
            schedule = make_schedule(
                task, timetable, name=name, catch_up=catch_up, args=args, period_as=period_as, options=options
            )
            jobs.catalog.add_schedule(schedule)
            return task

        return register

    def before_run(self, hook: H) -> H:
        """Have ``hook(job)`` called before each run.

        ``job`` is a CurrentJob, as for all hooks. They are plain or coroutine functions, which the worker's engine
        calls, and a run keeps its room until they are through. What one raises is logged, and changes nothing.

        Raises:
            TypeError: it cannot be called so; that of the other three too.
        """
        return self.catalog.add_hook("before_run", hook)

    def after_run(self, hook: H) -> H:
        """Have ``hook(job, result)`` called after each run that completed."""
        return self.catalog.add_hook("after_run", hook)

    def on_attempt_failed(self, hook: H) -> H:
        """Have ``hook(job, error)`` called after each run that failed."""
        return self.catalog.add_hook("on_attempt_failed", hook)

    def on_failed(self, hook: H) -> H:
        """Have ``hook(job, error)`` called when a job has failed for good."""
        return self.catalog.add_hook("on_failed", hook)
