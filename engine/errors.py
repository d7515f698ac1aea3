"""Everything that can go wrong, in one place.

Each class's docstring is its default message. Evidence (task id, lane, attempt, pid, exit code, ...) is kept in
attributes, so that a handler need not parse a text.
"""

import pickle
from concurrent.futures import BrokenExecutor
from typing import Any

__all__ = [
    "DependencyFailed",
    "EngineClosed",
    "EngineError",
    "EngineForked",
    "EngineFull",
    "NestedDeadlock",
    "PayloadTooLarge",
    "PickleError",
    "RemoteError",
    "RemoteTraceback",
    "ResultDecodeError",
    "ShareError",
    "TaskCancelled",
    "TaskDecodeError",
    "TaskTimeout",
    "WorkerCrashed",
    "WorkerMemoryExceeded",
    "WorkerStartupError",
]


class EngineError(Exception):
    """Something went wrong in the engine."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else (type(self).__doc__ or "").split("\n")[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # Rebuilt without __init__, so that a subclass may have any signature and still travel between processes.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class EngineFull(EngineError):
    """The engine holds max_pending tasks that have not started; wait, or use run or map, which wait for room."""

    def __init__(self, message: str | None = None, *, max_pending: int | None = None) -> None:
        super().__init__(message)
        self.max_pending = max_pending


class EngineClosed(EngineError, RuntimeError):
    """The engine is not running: cannot schedule new futures after shutdown, or before the start."""


class EngineForked(EngineError, RuntimeError):
    """This process is a fork of the one that made the engine; create an engine of its own here."""


class TaskTimeout(EngineError, TimeoutError):
    """The task did not end in time.

    ``timeout`` is the limit in seconds, ``scope`` is "attempt" or "total".
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        task_id: int | None = None,
        lane: str | None = None,
        attempt: int | None = None,
        timeout: float | None = None,
        scope: str = "attempt",
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.lane = lane
        self.attempt = attempt
        self.timeout = timeout
        self.scope = scope


class WorkerCrashed(EngineError, BrokenExecutor):
    """The worker process died while it ran this task.

    ``exit_code`` is None when a signal ended it or when nobody can know; ``signal_name`` is like "SIGKILL".
    ``may_have_run`` says whether the task had begun. ``stderr`` is the last of what the worker printed there.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        task_id: int | None = None,
        attempt: int | None = None,
        pid: int | None = None,
        exit_code: int | None = None,
        signal_name: str | None = None,
        may_have_run: bool = True,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.attempt = attempt
        self.pid = pid
        self.exit_code = exit_code
        self.signal_name = signal_name
        self.may_have_run = may_have_run
        self.stderr = stderr


class WorkerMemoryExceeded(WorkerCrashed):
    """The task was killed because it took more memory than worker_memory_limit leaves.

    ``rss_bytes`` is what the worker held for itself (RssAnon) when it was seen, ``limit_bytes`` the limit.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        rss_bytes: int | None = None,
        limit_bytes: int | None = None,
        **evidence: Any,
    ) -> None:
        super().__init__(message, **evidence)
        self.rss_bytes = rss_bytes
        self.limit_bytes = limit_bytes


class WorkerStartupError(EngineError, BrokenExecutor):
    """No worker process can start.

    ``exit_code`` and ``signal_name`` say how the last one ended (both None where its initializer raised, or where there
    was none), ``stderr`` is the last of what it printed there; the cause, where known, is in ``__cause__``.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        pid: int | None = None,
        exit_code: int | None = None,
        signal_name: str | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exit_code = exit_code
        self.signal_name = signal_name
        self.stderr = stderr


class PickleError(EngineError, pickle.PicklingError):
    """An object cannot travel between processes.

    ``what`` is "function", "arguments", "result" or "shared object"; ``where`` is "parent" or "worker".
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        what: str = "arguments",
        where: str = "parent",
        task_id: int | None = None,
    ) -> None:
        super().__init__(message)
        self.what = what
        self.where = where
        self.task_id = task_id


class PayloadTooLarge(PickleError):
    """Arguments or a result are larger than may travel; send a path, or send them in parts.

    ``size_bytes`` is what had been counted when it was refused, ``limit_bytes`` what may travel.
    """

    def __init__(
        self, message: str | None = None, *, size_bytes: int | None = None, limit_bytes: int | None = None,
        what: str = "arguments", where: str = "parent", task_id: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, what=what, where=where, task_id=task_id)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class TaskDecodeError(PickleError):
    """The function or its arguments could not be rebuilt in the worker, so the task did not run."""


class ShareError(PickleError):
    """An object cannot be shared, or a shared one cannot be opened where it is needed.

    ``reason`` is the end of the message: what was found, and the remedy.
    """

    def __init__(
        self, message: str | None = None, *, reason: str = "", where: str = "parent", task_id: int | None = None
    ) -> None:
        super().__init__(message, what="shared object", where=where, task_id=task_id)
        self.reason = reason


class ResultDecodeError(EngineError):
    """The task ended, but its result could not be rebuilt in the parent."""

    def __init__(self, message: str | None = None, *, task_id: int | None = None) -> None:
        super().__init__(message)
        self.task_id = task_id


class RemoteError(EngineError, RuntimeError):
    """A task raised something that cannot be raised here as it is.

    ``type_name`` is its class, ``text`` its message, ``traceback`` the formatted traceback from where it was raised,
    ``type_names`` its class and the bases of that. The original is the ``__cause__`` where it could travel; else a note
    says why it could not. ``except`` does not see the original class, ``stands_for`` and ``Retry`` do.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        type_name: str = "",
        text: str = "",
        traceback: str = "",
        type_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback
        self.type_names = type_names

    def stands_for(self, kind: type[BaseException]) -> bool:
        """Say whether the original was a ``kind``, by its full name."""
        return full_name(kind) in self.type_names


class RemoteTraceback(Exception):
    """Carries the traceback of a worker process as text; the ``__cause__`` of what a process task raised."""

    def __init__(self, traceback: str) -> None:
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return f'\n"""\n{self.traceback}"""'


class NestedDeadlock(EngineError):
    """Too many tasks of this engine wait for other tasks of it; waiting once more could never end."""


class DependencyFailed(EngineError):
    """A task that this one needs did not complete.

    Nothing raises it yet: a task cannot name what it needs. The name is kept for when it can.
    """


class TaskCancelled(BaseException):
    """Cancellation or a timeout was asked for; raised only inside a task's own function in a thread or worker."""


def full_name(kind: type) -> str:
    """Return the name of a class with its module, but for built-in ones; past whatever its metaclass says."""
    module, name = _MODULE.__get__(kind), _QUALNAME.__get__(kind)
    return "".join([name] if type(module) is not str or module == "builtins" else [module, ".", name])


_MODULE: Any = type.__dict__["__module__"]
_QUALNAME: Any = type.__dict__["__qualname__"]
