"""What becomes of a job when a run of it ends, or its holder is gone: the decisions that every book shares. Pure."""

from dataclasses import dataclass, replace

from engine import TaskState

from ._moment import Moment
from ._records import End, Failure, Gate, HolderInfo

__all__ = [
    "FAILURES_KEPT",
    "TERMINAL",
    "WRONG_CLOCK_SECONDS",
    "Standing",
    "after_end",
    "after_rescue",
    "before_run",
    "is_over",
    "lost",
]

_TERMINAL_OF = {
    End.COMPLETED: TaskState.COMPLETED,
    End.FAILED: TaskState.FAILED,
    End.CANCELLED: TaskState.CANCELLED,
}
TERMINAL = frozenset(_TERMINAL_OF.values())

FAILURES_KEPT = 100  #: of each job, the last
WRONG_CLOCK_SECONDS = 86_400.0  #: a period that was noted so far in the future comes from a clock that was wrong


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of a row that these decisions read and change."""

    state: TaskState
    gate: Gate | None
    attempt: int
    crashes: int
    max_crashes: int
    suspect: bool  #: its engine died under it, and no run of it has ended since
    alone: bool  #: this run is that of a suspect, and its crash is counted already
    cancel_requested: bool


def before_run(row: Standing, *, alone: bool) -> Standing:
    """Return how a READY or ALONE row stands when it is claimed."""
    return replace(
        row, state=TaskState.RUNNING, gate=None, attempt=row.attempt + 1, crashes=row.crashes + alone, alone=alone
    )


def after_end(row: Standing, end: End, *, delay: float) -> Standing:
    """Return how a RUNNING row stands when its run has ended as ``end``.

    A row that is to run again is LATER if it has to wait ``delay`` seconds, else READY.
    """
    row = replace(row, crashes=row.crashes - row.alone, suspect=False, alone=False)  # an end is there: it was no death
    if end is End.CRASH:
        row = replace(row, crashes=row.crashes + 1)
    if end is not End.COMPLETED and row.cancel_requested:
        return _ended(row, TaskState.CANCELLED)
    if end in _TERMINAL_OF:
        return _ended(row, _TERMINAL_OF[end])
    if end is End.CRASH and row.crashes >= row.max_crashes:
        return _ended(row, TaskState.FAILED)
    kept = row.attempt if end is End.RETRY else row.attempt - 1
    return replace(row, state=TaskState.PENDING, gate=Gate.LATER if delay > 0 else Gate.READY, attempt=kept)


def after_rescue(row: Standing) -> Standing:
    """Return how a RUNNING row stands when its holder died or lost its lease."""
    was_alone = row.alone
    row = replace(row, alone=False)
    if row.cancel_requested:
        return _ended(row, TaskState.CANCELLED)
    if was_alone and row.crashes >= row.max_crashes:
        return _ended(row, TaskState.FAILED)
    return replace(row, state=TaskState.PENDING, gate=Gate.ALONE, attempt=row.attempt - 1, suspect=True)


def is_over(holder: HolderInfo, now: Moment) -> bool:
    """Say whether the lease of ``holder`` is over: from ``lease_until`` on, and with the boot it was of."""
    return holder.boot != now.boot or holder.lease_until <= now.steady


def lost(attempt: int, token: int, worker: str, now: Moment) -> Failure:
    """Return what the history says of a run whose holder died or lost its lease."""
    error = f"the worker {worker} died or lost its lease"
    return Failure(at=now.wall, attempt=attempt, token=token, kind="lost", error=error, worker=worker)


def _ended(row: Standing, state: TaskState) -> Standing:
    return replace(row, state=state, gate=None, suspect=False, cancel_requested=False)
