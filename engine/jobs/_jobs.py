"""Durable jobs: the face."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from engine import Lane, Retry

from .. import _checks
from ._catalog import Catalog, H
from ._job_task import JobTask, make_job_task
from ._settings import checked_settings
from ._store import Store
from .errors import StoreError

__all__ = ["Jobs"]

P = ParamSpec("P")
R = TypeVar("R")


class Jobs:
    """Calls that a store keeps until they are done. Any thread, with or without a loop.

    ``store`` is the path of a file of SQLite, or a Store. A lease lasts ``lease`` seconds and is renewed three times
    in each; ``synchronous`` is what a commit waits for: "full" survives the loss of power, "normal" may lose the last
    of the commits then, and neither loses anything when processes die.
    """

    def __init__(
        self, store: Store | str | os.PathLike[str], *, lease: float = 30.0, synchronous: str | None = None,
        max_args_bytes: int = 1 << 20, max_result_bytes: int = 1 << 20, routes: Mapping[str, str] | None = None,
        queues: Iterable[str] | Mapping[str, int | None] | None = None,
    ) -> None:  # fmt: skip
        self.lease = _checks.seconds("lease", lease)
        self.max_args_bytes = _checks.size_bytes("max_args_bytes", max_args_bytes)
        self.max_result_bytes = _checks.size_bytes("max_result_bytes", max_result_bytes)
        self.catalog = Catalog(routes=routes, queues=queues)
        self.store = store if not isinstance(store, (str, os.PathLike)) else _store_at(store, synchronous)

    # -- tasks and hooks

    @property
    def name(self) -> str:
        """Give what people see: the path of the file, or "memory"."""
        return self.store.name

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
    def task(
        self, /, *, name: str | None = ..., queue: str = ..., lane: Lane | str | None = ...,
        timeout: float | None = ..., retry: Retry | None = ..., priority: int | str = ..., max_crashes: int = ...,
        lock: str | None = ..., expires: float | None = ...,
    ) -> Callable[[Callable[P, R]], JobTask[P, R]]: ...  # fmt: skip
    def task(self, fn: Callable[..., Any] | None = None, /, **given: Any) -> Any:
        """Register a function, plain or coroutine, so that its calls can be enqueued: ``@jobs.task(queue="mail")``.

        Raises:
            ValueError: an option is out of range, or another function has the name.
            TypeError: it is no function whose arguments JSON can name.
        """

        def register(function: Callable[P, R]) -> JobTask[P, R]:
            if not inspect.isfunction(function):
                raise TypeError(f"expected a function to register, got {_checks.shown(function)}; wrap it in a def")
            return self.catalog.add(make_job_task(function, checked_settings(function, given), self))

        return register if fn is None else register(fn)

    def before_run(self, hook: H) -> H:
        """Have ``hook(job)`` called before each run; what it raises fails the attempt."""
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

    def __reduce__(self) -> Any:
        raise TypeError(
            f"expected what travels to another process not to hold {self!r}; have the function find it in its own "
            "module, where the other process imports it and opens the store itself"
        )

    def __repr__(self) -> str:
        return f"<Jobs {self.name!r}, {len(self.tasks)} tasks>"


def _store_at(place: str | os.PathLike[str], synchronous: str | None) -> Store:
    """Make the store that ``place`` names."""
    path = os.fspath(place)
    if path.startswith(("postgresql:", "postgres:")):
        raise StoreError("expected the path of a file, got the address of a PostgreSQL server, which needs the extra "
                         "`distributed`, and that is not made yet; use Jobs('jobs.db')", path=path)  # fmt: skip
    raise StoreError(f"expected a Store, got {_checks.shown(path)}: the store of files is not here yet", path=path)
