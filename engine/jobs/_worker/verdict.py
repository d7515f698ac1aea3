"""What becomes of a job when a run of it is over: a pure decision."""

import enum
import random
from collections.abc import Callable
from typing import NamedTuple

from engine import (
    EngineClosed,
    EngineForked,
    EngineFull,
    PickleError,
    ResultDecodeError,
    Retry,
    TaskTimeout,
    WorkerCrashed,
    WorkerStartupError,
)

from ... import _checks
from .._records import Claimed, End, Ending
from ..errors import JobsError, ResultNotSerializable
from .failure import failure_of

__all__ = ["NO_RETRY", "UNKNOWN_TASK", "CancelledItself", "Outcome", "Stop", "decide", "is_for_good"]

#: Of tasks that say nothing: one attempt. Its delays are those after crashes, which ``max_crashes`` counts.
NO_RETRY = Retry(max_attempts=1)
UNKNOWN_TASK = "unknown task"  #: the kind of failure where nobody here has registered the name

#: The engine could not begin it, and that says nothing about the job.
_NOT_ITS_FAULT = (WorkerStartupError, EngineClosed, EngineForked, EngineFull)
#: Another run would end alike, or its effects are done.
_HOPELESS = (PickleError, ResultDecodeError, ResultNotSerializable)


class Stop(enum.Enum):
    """Why we asked a run to stop."""

    CANCEL = "its cancel was asked"
    DRAIN = "its worker stops"
    LOST = "its worker lost its lease"


class Outcome(NamedTuple):
    """How one run ended. Exactly one of four: a ``result``, ``snooze``, an ``error``, else it was cancelled."""

    result: str | None = None  #: JSON
    snooze: float | None = None  #: seconds until it wants to run again
    error: BaseException | None = None
    kind: str = "error"  #: of the failure that ``error`` is
    is_hopeless: bool = False  #: no other run can mend ``error``
    has_begun: bool = True  #: the function was called, or may have been
    stop: Stop | None = None  #: set if we asked it to stop before it had ended
    times_unknown: int = 0  #: claims in a row, this one too, in which nobody knew the name of the job

    @property
    def is_cancelled(self) -> bool:
        """Say whether it was stopped: by us, or by the end of its engine."""
        return self.result is None and self.snooze is None and self.error is None


def decide(
    job: Claimed, outcome: Outcome, retry: Retry, *, at: float, worker: str, rng: Callable[[], float] = random.random
) -> Ending:
    """Say how the run of ``job`` ended and when the next is due; ``retry`` is its task's policy, or that of its name.

    What arrived before anybody stopped the run wins.
    """
    if outcome.result is not None:
        return Ending(job.id, job.token, End.COMPLETED, outcome.result)
    if outcome.snooze is not None:
        return Ending(job.id, job.token, End.SNOOZE, delay=outcome.snooze)
    if outcome.stop is Stop.CANCEL:
        return Ending(job.id, job.token, End.CANCELLED)
    error = outcome.error
    if outcome.stop is not None or error is None or _was_not_its_fault(outcome):
        return Ending(job.id, job.token, End.GIVE_BACK)
    end, delay = _after(error, job, outcome, retry, rng)
    kind = _kind_of(error, outcome.kind)
    failure = failure_of(error, kind, at=at, attempt=job.attempt, token=job.token, worker=worker)
    return Ending(job.id, job.token, end, failure=failure, delay=delay)


def is_for_good(job: Claimed, ending: Ending) -> bool:
    """Say whether ``job`` is FAILED now: a crash may be one too many."""
    return ending.end is End.FAILED or (ending.end is End.CRASH and _crashes_with_this(job) >= job.max_crashes)


def _after(
    error: BaseException, job: Claimed, outcome: Outcome, retry: Retry, rng: Callable[[], float]
) -> tuple[End, float]:
    if times := outcome.times_unknown:  # no attempt of the task's
        return (End.SNOOZE, retry.delay_after(times, rng)) if retry.wants(error, times) else (End.FAILED, 0.0)
    if _checks.is_a(error, WorkerCrashed):
        return End.CRASH, retry.delay_after(_crashes_with_this(job), rng)
    if outcome.is_hopeless or _checks.is_a(error, _HOPELESS) or not _is_wanted(retry, error, job.attempt):
        return End.FAILED, 0.0
    return End.RETRY, retry.delay_after(job.attempt, rng)


def _is_wanted(retry: Retry, error: BaseException, attempt: int) -> bool:
    try:
        return retry.wants(error, attempt)
    except BaseException:  # an error whose __class__ is user code that raises, or exits
        return False


def _crashes_with_this(job: Claimed) -> int:
    return job.crashes + (not job.alone)  # that of a suspect was counted before its run


def _was_not_its_fault(outcome: Outcome) -> bool:
    return not outcome.has_begun and outcome.error is not None and _checks.is_a(outcome.error, _NOT_ITS_FAULT)


def _kind_of(error: BaseException, kind: str) -> str:
    if _checks.is_a(error, WorkerCrashed):
        return "crash"
    if _checks.is_a(error, TaskTimeout) and kind == "error":
        return "timeout"
    return "result" if _checks.is_a(error, ResultNotSerializable) else kind


class CancelledItself(JobsError):
    """The run was cancelled by neither its worker nor its engine: a CancelledError of its own got out of it."""
