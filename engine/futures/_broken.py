"""The engine's errors as users of ``concurrent.futures`` catch them.

A crash there is a ``BrokenProcessPool``; so it is here, although nothing but the one call is lost.
"""

from concurrent.futures.process import BrokenProcessPool

from .. import errors

__all__ = ["ResultDecodeError", "TaskDecodeError", "WorkerCrashed", "WorkerMemoryExceeded", "WorkerStartupError",
           "as_broken", "as_raised", "is_breaking"]  # fmt: skip


class WorkerCrashed(errors.WorkerCrashed, BrokenProcessPool):
    """The worker process died while it ran this call; the others go on."""


class WorkerMemoryExceeded(errors.WorkerMemoryExceeded, WorkerCrashed):
    """The call was killed because it took more memory than worker_memory_limit leaves; the others go on."""


class WorkerStartupError(errors.WorkerStartupError, BrokenProcessPool):
    """No worker process can start."""


class TaskDecodeError(errors.TaskDecodeError, BrokenProcessPool):
    """The function or its arguments could not be rebuilt in the worker, so it was not called; the others go on."""


class ResultDecodeError(errors.ResultDecodeError, BrokenProcessPool):
    """The call ended, but its result could not be rebuilt here; the others go on."""


_TRANSLATIONS: dict[type[BaseException], type[BaseException]] = {
    errors.WorkerCrashed: WorkerCrashed,
    errors.WorkerMemoryExceeded: WorkerMemoryExceeded,
    errors.WorkerStartupError: WorkerStartupError,
    errors.TaskDecodeError: TaskDecodeError,
    errors.ResultDecodeError: ResultDecodeError,
}
#: What a future holds as it was raised. Not StopIteration: asyncio before Python 3.12 never ends an await of it.
_AS_RAISED = (SystemExit, KeyboardInterrupt, GeneratorExit)


def as_raised(error: BaseException) -> BaseException:
    """Return the exit that ``error`` carries, which the standard executors give as it is; else ``error``."""
    cause = error.__cause__
    if type(error) is errors.RemoteError and cause is not None and type(cause) in _AS_RAISED:
        return cause
    return error


def as_broken(error: BaseException) -> BaseException:
    """Return the ``error`` of a process task as the standard pool would have it, with all its evidence."""
    cls = _TRANSLATIONS.get(type(error))
    if cls is None:
        return error
    other = cls.__new__(cls, *error.args)
    other.args = error.args
    other.__dict__.update(error.__dict__)
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    other.__suppress_context__ = error.__suppress_context__
    return other


def is_breaking(error: BaseException) -> bool:
    """Say whether a standard process pool would be broken for good by the ``error`` of a task.

    Not by one that the call itself has raised, also where that is a BrokenProcessPool: of a pool of its own.
    """
    return type(error) in _TRANSLATIONS
