"""What a task may know of itself, in any lane: ``current_task()`` and ``checkpoint()``.

Outside a task both do nothing, so that a function which reports progress can still be called and tested as a plain
function. This module is imported by worker processes: it imports nothing that they do not need.

Guarantees
    ``running`` is a context variable: set inside the copied context of one attempt, so no attempt sees another's.
    ``worker_task`` is set by a worker process's main thread only, around each task it runs.
"""

import contextvars
from typing import Any, Protocol

from . import _checks
from .errors import TaskCancelled

__all__ = ["CurrentTask", "checkpoint", "current_task", "report", "running", "subject", "worker_task"]


class CurrentTask(Protocol):
    """The task that runs here: what it is, until when, and whether it should stop."""

    @property
    def id(self) -> int | None:
        """Give the task's id; None outside a task."""

    @property
    def name(self) -> str:
        """Give the task's name; empty outside a task."""

    @property
    def attempt(self) -> int:
        """Give the number of this try, from 1."""

    @property
    def deadline(self) -> float | None:
        """Give the instant at which this attempt times out, on ``time.monotonic``'s clock; None for never."""

    @property
    def cancel_requested(self) -> bool:
        """Say whether the task was cancelled or timed out and should end soon."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the task is; seen in ``Task.progress``, ``Engine.tasks`` and ``Engine.get``.

        Raises:
            ValueError: ``done`` or ``total`` is no number (NumPy's are).
        """


class _Nobody:
    """What ``current_task()`` answers outside a task."""

    id = None
    name = ""
    attempt = 1
    deadline = None
    cancel_requested = False

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Do nothing: nobody watches."""

    def __repr__(self) -> str:
        return "<no task runs here>"


#: The view of the running attempt in the loop and thread lanes (a ``_lanes.running.RunningTask``).
running: contextvars.ContextVar[Any] = contextvars.ContextVar("engine_running", default=None)

#: What the tasks that are submitted here work for, where that is no task: a durable job. The log names it by its str.
subject: contextvars.ContextVar[Any] = contextvars.ContextVar("engine_subject", default=None)

#: The view of the running attempt in a worker process; set by its main thread.
worker_task: Any = None

_nobody = _Nobody()


def report(done: Any, total: Any, message: Any) -> tuple[float, float | None, str]:
    """Return what a task says of its progress as plain numbers and a text: NumPy's numbers are none of JSON's.

    Raises:
        ValueError: ``done`` or ``total`` is no number.
    """
    told = None if total is None else _checks.number("total", total)
    return _checks.number("done", done), told, str(message)[:200]


def current_task() -> CurrentTask:
    """Return the task that runs here; outside a task, an inert one whose ``id`` is None."""
    task: CurrentTask = running.get() or worker_task or _nobody
    return task


def checkpoint() -> None:
    """Return at once, or raise ``TaskCancelled`` if this task was cancelled or timed out.

    A thread task ends early only here; a process task that meets its cancellation here keeps its worker.
    In a coroutine use ``await``: asyncio's own cancellation reaches it there.
    """
    task = running.get() or worker_task
    if task is not None and task.cancel_requested:
        raise TaskCancelled
