"""The life of a task as one table.

``MOVES`` is the only place that says which state may follow which; the registry asks it on every change, so an illegal
one cannot happen silently.
"""

import enum

from . import _checks

__all__ = ["MOVES", "TERMINAL", "Lane", "Priority", "TaskState", "check_move", "state_of"]


class TaskState(enum.StrEnum):
    """Where a task is in its life. PENDING and RUNNING are live, the other three are final. Each equals its string."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __hash__ = str.__hash__  # cached; Enum's own hash is a Python call, 0.1 µs on every look-up


class Lane(enum.StrEnum):
    """Where a task runs: on an event loop, in a pool thread, or in a worker process. Each equals its string."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"

    __hash__ = str.__hash__  # as above


class Priority(enum.IntEnum):
    """Higher runs first; first in, first out within one. Any int from -1000 to 1000 is a priority too."""

    LOW = -10
    NORMAL = 0
    HIGH = 10


TERMINAL = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})

MOVES: dict[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset({TaskState.RUNNING, TaskState.CANCELLED, TaskState.FAILED}),
    TaskState.RUNNING: frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.PENDING}),
    TaskState.COMPLETED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}


def check_move(old: TaskState, new: TaskState) -> None:
    """Raise AssertionError unless a task may go from ``old`` to ``new``: an illegal move is a bug of ours."""
    if new not in MOVES[old]:
        raise AssertionError(f"expected a legal move from {old.value}, got {new.value}")


def state_of(value: TaskState | str) -> TaskState:
    """Return the state that ``value`` names.

    Raises:
        ValueError: there is none of that name.
    """
    if type(value) is TaskState:
        return value
    return TaskState(_checks.member("state", value, tuple(state.value for state in TaskState)))
