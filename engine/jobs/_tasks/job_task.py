"""A function whose calls can be enqueued."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from ... import _checks
from ..._options import DEFAULT, mark, merge_options
from .._calls.enqueuing import Enqueuing
from .._calls.options import PLAIN
from .._json.codec import decode_args
from ..errors import JobsError
from .lock_name import LockName
from .parameters import Parameters

if TYPE_CHECKING:
    from .._jobs import Jobs
    from .settings import TaskSettings

__all__ = ["JobTask", "make_job_task"]

P = ParamSpec("P")
R = TypeVar("R")


class JobTask(Enqueuing[P, R]):
    """What ``@jobs.task`` makes of a function: called, it still is that function; ``enqueue`` keeps a call for later.

    It travels to worker processes: by its name where it is a module's, else with the function in it, and then it can
    only be called there.
    """

    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable[P, R], settings: TaskSettings, jobs: Jobs | None) -> None:
        functools.update_wrapper(self, fn, updated=())
        said = {name: getattr(settings, name) for name in ("lane", "timeout", "retry", "priority")}
        mark(self, merge_options(DEFAULT, said))  # given to an engine by hand it runs alike
        self.fn: Final = fn
        self.parameters: Final = Parameters(fn)
        self.signature: Final = self.parameters.signature
        self.settings: Final = settings
        self.name: Final = settings.name
        self.queue: Final = settings.queue
        self.lane: Final = settings.lane
        self.timeout: Final = settings.timeout
        self.retry: Final = settings.retry
        self.priority: Final = settings.priority
        self.max_crashes: Final = settings.max_crashes
        self.lock: Final = settings.lock
        self.expires: Final = settings.expires
        self.lock_name: Final = None if settings.lock is None else LockName(settings.lock, self.parameters)
        self._jobs = jobs
        self._task = self
        self._said = PLAIN

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    @property
    def jobs(self) -> Jobs:
        """Give the Jobs that it belongs to.

        Raises:
            JobsError: it travelled to a worker process together with its function, and has none there.
        """
        if self._jobs is None:
            raise JobsError(
                f"expected {self.name!r} to be enqueued where its Jobs is, got a worker process, to which the function "
                "travelled by value; define it in a module that the worker can import, not in __main__ or a function"
            )
        return self._jobs

    def lock_of(self, text: str) -> str | None:
        """Return the lock of a call with the arguments in ``text``; None if its jobs have none.

        Raises:
            JobRefused: an argument that is part of the lock is not fit for it.
        """
        name = self.lock_name
        return name if name is None else name.fixed or name.of(decode_args(text))

    def __reduce__(self) -> Any:
        if self.__module__ != "__main__" and _found(self.__module__, self.__qualname__) is self:
            return self.__qualname__
        return _travelled, (type(self), self.fn, self.settings)

    def __repr__(self) -> str:
        return f"<JobTask {self.name!r} queue={self.queue!r}>"


class _CoroutineJobTask(JobTask[P, R]):
    """A JobTask of a coroutine function, which engines and others know by its ``__call__``."""

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:  # type: ignore[override]  # R is a coroutine
        return await self.fn(*args, **kwargs)  # type: ignore[misc]  # R is a coroutine: made for those alone


def make_job_task(fn: Callable[P, R], settings: TaskSettings, jobs: Jobs) -> JobTask[P, R]:
    """Make the task of ``fn``.

    Raises:
        TypeError: ``fn`` is a generator function, or has parameters that have no names.
        ValueError: the lock in ``settings`` names what is no parameter.
    """
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"expected a plain or coroutine function, got the generator function {_checks.shown(fn)}")
    return (_CoroutineJobTask if inspect.iscoroutinefunction(fn) else JobTask)(fn, settings, jobs)


def _found(module: str, qualname: str) -> object:
    """Return what other processes will find under this name."""
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _travelled(kind: type[JobTask[P, R]], fn: Callable[P, R], settings: TaskSettings) -> JobTask[P, R]:
    return kind(fn, settings, None)
