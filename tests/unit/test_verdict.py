"""What becomes of a task when an attempt is over."""

import pytest

from engine import Retry, TaskState, TaskTimeout
from engine._verdict import Facts, Verdict, decide

ERROR = OSError("it")
TIMEOUT = TaskTimeout("late")
RETRY = Retry(max_attempts=3, base_delay=4.0, jitter=0.5)


def middle() -> float:
    """Stand in for the random numbers: no jitter."""
    return 0.5


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        (Facts(1), Verdict(TaskState.COMPLETED)),
        (Facts(1, retry=RETRY), Verdict(TaskState.COMPLETED)),
        (Facts(1, cancelled=True), Verdict(TaskState.CANCELLED)),
        (Facts(1, cancelled=True, retry=RETRY), Verdict(TaskState.CANCELLED)),
        (Facts(1, error=ERROR), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, error=ERROR, retry=RETRY), Verdict(TaskState.PENDING, ERROR, 4.0)),
        (Facts(2, error=ERROR, retry=RETRY), Verdict(TaskState.PENDING, ERROR, 8.0)),
        (Facts(3, error=ERROR, retry=RETRY), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, error=ERROR, retry=RETRY, retryable=False), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, error=ERROR, retry=RETRY, final=True), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, error=ERROR, retry=Retry(on=(ValueError,))), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, timeout=TIMEOUT), Verdict(TaskState.FAILED, TIMEOUT)),
        (Facts(1, timeout=TIMEOUT, cancelled=True), Verdict(TaskState.FAILED, TIMEOUT)),
        (Facts(1, timeout=TIMEOUT, error=ERROR), Verdict(TaskState.FAILED, TIMEOUT)),
        (Facts(1, timeout=TIMEOUT, retry=RETRY, cancelled=True), Verdict(TaskState.PENDING, TIMEOUT, 4.0)),
        (Facts(1, timeout=TIMEOUT, retry=RETRY, retryable=False), Verdict(TaskState.PENDING, TIMEOUT, 4.0)),
        (Facts(1, timeout=TIMEOUT, retry=RETRY, final=True), Verdict(TaskState.FAILED, TIMEOUT)),
        (Facts(1, cancel_requested=True), Verdict(TaskState.CANCELLED)),
        (Facts(1, cancel_requested=True, cancelled=True), Verdict(TaskState.CANCELLED)),
        (Facts(1, cancel_requested=True, error=ERROR), Verdict(TaskState.CANCELLED)),
        (Facts(1, cancel_requested=True, error=ERROR, swallowed_is_failure=True), Verdict(TaskState.FAILED, ERROR)),
        (Facts(1, cancel_requested=True, error=ERROR, retry=RETRY), Verdict(TaskState.CANCELLED)),
        (Facts(1, cancel_requested=True, timeout=TIMEOUT, cancelled=True), Verdict(TaskState.CANCELLED)),
    ],
)
def test_the_verdict_is(facts: Facts, verdict: Verdict) -> None:
    assert decide(facts, middle) == verdict


def test_the_delay_uses_the_random_numbers_that_are_handed_in() -> None:
    assert decide(Facts(1, error=ERROR, retry=RETRY), lambda: 0.0).delay == 2.0
