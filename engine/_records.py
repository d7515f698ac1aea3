"""Values about tasks: what a call is, how far it is, what it looks like at one instant."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._states import Lane, Priority, TaskState
from .retry import Retry

__all__ = [
    "Call",
    "Complaint",
    "Progress",
    "TaskInfo",
    "describe_error",
    "function_name",
    "named",
    "one_line",
    "type_name",
]


class Call:
    """What all tasks of one function with the same options share, so that a pending task stays small."""

    __slots__ = ("fn", "grace", "lane", "name", "priority", "retry", "timeout", "total_timeout")

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        lane: Lane,
        timeout: float | None = None,
        total_timeout: float | None = None,
        retry: Retry | None = None,
        priority: int = Priority.NORMAL,
        grace: float = 0.5,
    ) -> None:
        self.fn = fn
        self.name = name
        self.lane = lane
        self.timeout = timeout
        self.total_timeout = total_timeout
        self.retry = retry
        self.priority = priority
        self.grace = grace


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task says it is."""

    done: float  #: in the task's own unit
    total: float | None = None  #: in the same unit; None where unknown
    message: str = ""


class Complaint:
    """A failure that nobody has asked for yet; it says so when its task is collected.

    Not ``Task.__del__``: a Ctrl-C that comes in a ``__del__`` is lost, and every task would have one.
    """

    __slots__ = ("_error", "_name", "_report", "_task_id", "is_due")

    def __init__(
        self, report: Callable[[int, str, BaseException], None], task_id: int, name: str, error: BaseException
    ) -> None:
        self._report = report
        self._task_id = task_id
        self._name = name
        self._error = error
        self.is_due = True

    def __del__(self) -> None:
        if self.is_due:
            self._report(self._task_id, self._name, self._error)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """One task at one instant; what ``Engine.tasks`` and ``Engine.get`` return. It holds no argument and no result."""

    id: int
    name: str
    lane: Lane
    state: TaskState
    attempt: int  #: attempts started so far
    created_at: float  #: seconds since the epoch, UTC, as the next two
    started_at: float | None  #: of the last attempt; None if none started
    completed_at: float | None
    worker: str | None  #: who ran the last attempt
    error: str | None = None  #: type and message of the failure, at most 200 characters
    progress: Progress | None = None
    last_error: str | None = None  #: the same of the last attempt that failed, though others followed; None if none did


def function_name(fn: object) -> str:
    """Return the full name of a function (of the one in a partial): "pkg.mod.load"; never raises."""
    try:
        for _ in range(100):
            if not isinstance(fn, functools.partial):
                break
            fn = fn.func
        named = fn if hasattr(fn, "__qualname__") else type(fn)
        return f"{named.__module__}.{named.__qualname__}"
    except Exception:  # code of its own
        return type_name(type(fn))


def describe_error(error: BaseException | None) -> str | None:
    """Return type and message of ``error`` on one line of at most 200 characters; never raises. None gives None."""
    if error is None:
        return None
    name = type_name(type(error))
    try:
        text = str.__str__(str(error))[:400]  # its str may be a subclass's that fights back
    except BaseException as broken:  # user code, which may even exit; the description must still be made
        text = f"<its str() raised {type_name(type(broken))}>"
    return one_line(named(name, text), 200)


def named(name: str, text: str) -> str:
    """Return the type's name and the message of an exception as Python prints them: without a colon before nothing."""
    return f"{name}: {text}" if text else name


def one_line(text: str, most: int) -> str:
    """Return ``text`` on one line of at most ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def type_name(kind: type) -> str:
    """Return the name of ``kind``, past whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(kind)
    return name
