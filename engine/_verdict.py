"""What becomes of a task when one of its attempts is over: a pure decision."""

from collections.abc import Callable
from typing import NamedTuple

from ._states import TaskState
from .retry import Retry, evenly

__all__ = ["Facts", "Verdict", "decide"]


class Facts(NamedTuple):
    """All that the decision depends on."""

    attempt: int  #: number of the attempt that is over, from 1
    error: BaseException | None = None  #: what it raised; None for a value
    cancelled: bool = False  #: it ended because it was asked to
    retryable: bool = True  #: False for errors that another try cannot mend
    cancel_requested: bool = False  #: somebody cancelled the task
    timeout: BaseException | None = None  #: the TaskTimeout that struck it, if one did
    final: bool = False  #: no further attempt: total_timeout is over, or the attempt was abandoned
    retry: Retry | None = None
    swallowed_is_failure: bool = False  #: an error raised while being cancelled fails the task (loop lane)


class Verdict(NamedTuple):
    """``state`` PENDING means another attempt after ``delay`` seconds; otherwise the task settles."""

    state: TaskState
    error: BaseException | None = None
    delay: float = 0.0


def decide(facts: Facts, rng: Callable[[], float] = evenly) -> Verdict:
    """Say how the task goes on. Cancellation wins over a timeout, a timeout over what the attempt returned."""
    if facts.cancel_requested:
        if facts.error is not None and facts.swallowed_is_failure:
            return Verdict(TaskState.FAILED, facts.error)
        return Verdict(TaskState.CANCELLED)
    error = facts.timeout or facts.error
    if error is None:
        return Verdict(TaskState.CANCELLED if facts.cancelled else TaskState.COMPLETED)
    retry = facts.retry
    retryable = facts.retryable or facts.timeout is not None
    if retry is not None and retryable and not facts.final and retry.wants(error, facts.attempt):
        return Verdict(TaskState.PENDING, error, retry.delay_after(facts.attempt, rng))
    return Verdict(TaskState.FAILED, error)
