"""When workers may be started after some could not; time is an argument."""

import itertools

import pytest

from engine._lanes._process.breaker import MAX_FAILURES, PAUSE_MOST, PAUSE_SECONDS, Breaker


def fail(breaker: Breaker, now: float) -> float:
    """Fail the current try and return how long the next one waits."""
    assert breaker.record_failure(now, breaker.round)
    return breaker.pause(now)


def test_without_a_failure_any_number_may_start() -> None:
    breaker = Breaker()
    assert breaker.may_start(0.0, 100)
    assert breaker.pause(0.0) == 0.0


def test_pauses_double_up_to_a_bound_and_end() -> None:
    breaker = Breaker()
    pauses = [fail(breaker, 100.0 * number) for number in range(60)]
    assert pauses[:3] == pytest.approx([PAUSE_SECONDS, PAUSE_SECONDS * 2, PAUSE_SECONDS * 4])
    assert all(0 < before <= after <= PAUSE_MOST for before, after in itertools.pairwise(pauses))
    assert pauses[-1] == PAUSE_MOST
    assert not breaker.may_start(5900.0 + PAUSE_MOST / 2, 0)
    assert breaker.may_start(5900.0 + PAUSE_MOST + 0.001, 0)


def test_after_a_failure_one_starts_at_a_time() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    assert breaker.may_start(1.0, 0)
    assert not breaker.may_start(1.0, 1)


def test_those_that_started_together_fail_once() -> None:
    breaker = Breaker()
    together = breaker.round
    assert breaker.record_failure(0.0, together)
    assert not breaker.record_failure(0.1, together)
    assert breaker.failures == 1


def test_it_is_open_after_three_failures_in_a_row() -> None:
    breaker = Breaker()
    for number in range(MAX_FAILURES):
        assert not breaker.is_open
        fail(breaker, float(number))
    assert breaker.is_open
    breaker.record_success(breaker.round)
    assert not breaker.is_open
    assert breaker.may_start(0.0, 100)


def test_a_success_from_before_the_failure_does_not_close_it() -> None:
    breaker = Breaker()
    early = breaker.round
    fail(breaker, 0.0)
    breaker.record_success(early)
    assert breaker.failures == 1
    assert not breaker.may_start(0.05, 0)


def test_a_success_that_was_none_counts_with_the_failures_before_it() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    fail(breaker, 1.0)
    breaker.record_success(breaker.round)
    assert breaker.record_failure(2.0, breaker.round, before=2)
    assert breaker.is_open


def test_resume_ends_the_pause_but_not_the_care() -> None:
    breaker = Breaker()
    fail(breaker, 0.0)
    breaker.resume()
    assert breaker.may_start(0.0, 0)
    assert not breaker.may_start(0.0, 1)
