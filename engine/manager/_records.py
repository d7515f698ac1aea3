"""What a manager tells of its tasks."""

import enum
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine import Task

__all__ = ["TERMINAL", "BackgroundTask", "TaskStatus", "after"]


class TaskStatus(enum.Enum):
    """Where a background task is in its life. PENDING and RUNNING are live, the other three are final."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})


@dataclass(slots=True)
class BackgroundTask:
    """One background task. The manager keeps it up to date: ``status`` is written last, so it vouches for the rest.

    Times are seconds since the epoch, and ``created_at < started_at < completed_at``. ``asyncio_task`` is the engine's
    Task: an awaitable with the methods of a future, for any loop. For the engine it runs while it waits for its turn.
    """

    task_id: str
    coroutine: Callable[..., Any]  #: called with the keyword arguments of ``submit_task``
    status: TaskStatus = TaskStatus.PENDING
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None  #: None if it never ran
    completed_at: float | None = None
    error: str | None = None  #: the text of what it raised, or why the manager gave it up
    result: Any = None
    asyncio_task: Task[Any] | None = None  #: the engine's Task, awaitable on any loop


def after(instant: float, earlier: float) -> float:
    """Return ``instant``, or the next float after ``earlier`` when it is not later: timestamps never tie."""
    return instant if instant > earlier else math.nextafter(earlier, math.inf)
