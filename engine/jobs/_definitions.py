"""What decorators of a Jobs define: tasks and hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, overload

from engine import Lane, Priority, Retry

from .. import _checks
from ._catalog import Catalog, H
from ._job_task import JobTask, make_job_task
from ._settings import checked_settings

if TYPE_CHECKING:
    from typing import Unpack

    from ._jobs import Jobs

__all__ = ["Definitions", "Settings"]

P = ParamSpec("P")
R = TypeVar("R")


class Settings(TypedDict, total=False):
    """What ``@jobs.task`` may say; None as if it said nothing."""

    name: str | None  #: by default ``module.qualname``, also where the module is run as a script
    queue: str | None  #: by default "default"; ``routes`` win over it, ``options(queue=...)`` over both
    lane: Lane | str | None
    timeout: float | None  #: seconds of one run
    retry: Retry | None  #: by default one attempt
    priority: int | Priority | str | None
    max_crashes: int | None  #: deaths of what runs it until it is FAILED; 3
    lock: str | None  #: may have arguments in it: ``"user-{user}"``
    expires: float | None  #: seconds from the enqueue after which it is not started any more


class Definitions:
    """The decorators."""

    catalog: Catalog

    @property
    def tasks(self) -> Mapping[str, JobTask[..., Any]]:
        """Give the registered tasks by name."""
        return self.catalog.tasks

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
            raise TypeError(f"expected a function to register, got {_checks.shown(function)}; wrap it in a def")
        jobs: Jobs = self
        settings = jobs.catalog.routed(checked_settings(function, given))
        return jobs.catalog.add(make_job_task(function, settings, jobs))

    def before_run(self, hook: H) -> H:
        """Have ``hook(job)`` called before each run.

        ``job`` is a CurrentJob, as for all hooks. They are plain or coroutine functions, which the worker's engine
        calls, and a run keeps its room until they are through. What one raises is logged, and changes nothing.
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
