"""What becomes of a job when a run of it is over."""

import pytest

from engine import (
    EngineClosed,
    EngineFull,
    PickleError,
    ResultDecodeError,
    Retry,
    TaskTimeout,
    WorkerCrashed,
    WorkerMemoryExceeded,
    WorkerStartupError,
)
from engine.jobs._records import Claimed, End
from engine.jobs._worker.unknown_names import UNKNOWN_RETRY
from engine.jobs._worker.verdict import NO_RETRY, UNKNOWN_TASK, CancelledItself, Outcome, Stop, decide, is_for_good
from engine.jobs.errors import ResultNotSerializable, UnknownTask

ERROR = OSError("it")
RETRY = Retry(max_attempts=3, base_delay=4.0, jitter=0.5)


def job(attempt: int = 1, crashes: int = 0, alone: bool = False, max_crashes: int = 3) -> Claimed:
    """Give a claimed job; ``crashes`` as they stand while it runs."""
    return Claimed(7, 5, "default", "work", "{}", attempt, 0, crashes, 0.0, None, alone, max_crashes)


def middle() -> float:
    """Stand in for the random numbers: no jitter."""
    return 0.5


@pytest.mark.parametrize(
    ("attempt", "outcome", "end", "delay", "kind"),
    [
        (1, Outcome(result="1"), End.COMPLETED, 0.0, None),
        (1, Outcome(result="1", stop=Stop.CANCEL), End.COMPLETED, 0.0, None),
        (1, Outcome(result="1", stop=Stop.LOST), End.COMPLETED, 0.0, None),
        (1, Outcome(snooze=9.0), End.SNOOZE, 9.0, None),
        (3, Outcome(snooze=0.0, stop=Stop.DRAIN), End.SNOOZE, 0.0, None),
        (1, Outcome(error=ERROR), End.RETRY, 4.0, "error"),
        (2, Outcome(error=ERROR), End.RETRY, 8.0, "error"),
        (3, Outcome(error=ERROR), End.FAILED, 0.0, "error"),
        (1, Outcome(error=KeyError("x")), End.RETRY, 4.0, "error"),
        (1, Outcome(error=TaskTimeout("late")), End.RETRY, 4.0, "timeout"),
        (3, Outcome(error=TaskTimeout("late")), End.FAILED, 0.0, "timeout"),
        (1, Outcome(error=ERROR, is_hopeless=True, kind="arguments"), End.FAILED, 0.0, "arguments"),
        (1, Outcome(error=PickleError("no")), End.FAILED, 0.0, "error"),
        (1, Outcome(error=ResultDecodeError("no")), End.FAILED, 0.0, "error"),
        (1, Outcome(error=ResultNotSerializable("no")), End.FAILED, 0.0, "result"),
        (1, Outcome(error=CancelledItself(), kind="cancelled"), End.RETRY, 4.0, "cancelled"),
        (1, Outcome(error=ERROR, stop=Stop.CANCEL), End.CANCELLED, 0.0, None),
        (1, Outcome(stop=Stop.CANCEL), End.CANCELLED, 0.0, None),
        (1, Outcome(stop=Stop.DRAIN), End.GIVE_BACK, 0.0, None),
        (1, Outcome(stop=Stop.LOST), End.GIVE_BACK, 0.0, None),
        (3, Outcome(error=ERROR, stop=Stop.DRAIN), End.GIVE_BACK, 0.0, None),
        (1, Outcome(), End.GIVE_BACK, 0.0, None),
        (1, Outcome(error=WorkerStartupError("no"), has_begun=False), End.GIVE_BACK, 0.0, None),
        (1, Outcome(error=EngineClosed("no"), has_begun=False), End.GIVE_BACK, 0.0, None),
        (1, Outcome(error=EngineFull("no"), has_begun=False), End.GIVE_BACK, 0.0, None),
        (1, Outcome(error=EngineClosed("of its own engine")), End.RETRY, 4.0, "error"),
    ],
)
def test_the_end_of_a_run(attempt: int, outcome: Outcome, end: End, delay: float, kind: str | None) -> None:
    """E123: an end that is nobody's fault uses no attempt, one that no other run can mend is the last."""
    ending = decide(job(attempt), outcome, RETRY, at=1.0, worker="w", rng=middle)
    assert (ending.id, ending.token, ending.end, ending.delay) == (7, 5, end, delay)
    assert (None if ending.failure is None else ending.failure.kind) == kind
    assert ending.result == outcome.result


@pytest.mark.parametrize(
    ("crashes", "alone", "delay", "last"),
    [
        (0, False, 4.0, False),
        (1, False, 8.0, False),
        (2, False, 16.0, True),
        (2, True, 8.0, False),
        (3, True, 16.0, True),
    ],
)
def test_a_crash_counts_apart_from_attempts(crashes: int, alone: bool, delay: float, last: bool) -> None:
    """J3: at ``max_crashes`` it has failed; that of a run alone was counted before the run."""
    for error in (WorkerCrashed("died"), WorkerMemoryExceeded("ate")):
        claimed = job(attempt=3, crashes=crashes, alone=alone)
        ending = decide(claimed, Outcome(error=error), RETRY, at=1.0, worker="w", rng=middle)
        assert (ending.end, ending.delay) == (End.CRASH, delay)
        assert ending.failure is not None
        assert ending.failure.kind == "crash"
        assert is_for_good(claimed, ending) is last


def test_a_failure_says_who_and_when() -> None:
    ending = decide(job(2), Outcome(error=ERROR), NO_RETRY, at=12.5, worker="host:1:w", rng=middle)
    failure = ending.failure
    assert failure is not None
    assert (failure.at, failure.attempt, failure.token, failure.worker) == (12.5, 2, 5, "host:1:w")
    assert failure.error == "OSError: it"
    assert is_for_good(job(2), ending)


@pytest.mark.parametrize("attempt", [1, 3])
def test_a_name_that_nobody_knows_is_tried_ever_later_for_an_hour_and_uses_no_attempt(attempt: int) -> None:
    """J6: another worker, of newer code, may know it; what its task's Retry says does not matter."""
    delays, times = [], 0
    end = End.SNOOZE
    while end is End.SNOOZE:
        times += 1
        outcome = Outcome(error=UnknownTask("no"), kind=UNKNOWN_TASK, has_begun=False, times_unknown=times)
        ending = decide(job(attempt), outcome, UNKNOWN_RETRY, at=1.0, worker="w", rng=middle)
        end = ending.end
        delays.append(ending.delay)
        assert ending.failure is not None
        assert ending.failure.kind == "unknown task"
    assert end is End.FAILED
    assert delays[:5] == [2.0, 6.0, 18.0, 54.0, 162.0]
    assert set(delays[5:-1]) == {300.0}
    assert 3400 < sum(delays) < 3700
