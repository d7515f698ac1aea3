"""There is a verdict for every combination of facts, and it keeps the promises."""

from hypothesis import given
from hypothesis import strategies as st

from engine import Retry, TaskState, TaskTimeout
from engine._states import MOVES
from engine._verdict import Facts, decide

errors = st.sampled_from([None, OSError("e"), ValueError("e"), SystemExit(1), TaskTimeout("t")])
policies = st.none() | st.builds(
    Retry,
    max_attempts=st.integers(1, 5),
    base_delay=st.floats(0, 10),
    on=st.sampled_from([(Exception,), (OSError,), (), (BaseException,)]),
    give_up_on=st.sampled_from([(), (ValueError,), (TaskTimeout,)]),
)
facts = st.builds(
    Facts,
    attempt=st.integers(1, 6),
    error=errors,
    cancelled=st.booleans(),
    retryable=st.booleans(),
    cancel_requested=st.booleans(),
    timeout=st.none() | st.just(TaskTimeout("struck")),
    final=st.booleans(),
    retry=policies,
    swallowed_is_failure=st.booleans(),
)


@given(facts, st.floats(0, 1, exclude_max=True))
def test_every_combination_of_facts_has_a_verdict_that_the_table_allows(case: Facts, number: float) -> None:
    verdict = decide(case, lambda: number)
    assert verdict.state in MOVES[TaskState.RUNNING]
    assert (verdict.error is not None) == (verdict.state in (TaskState.FAILED, TaskState.PENDING))
    assert verdict.delay == 0 or verdict.state is TaskState.PENDING
    assert verdict.delay >= 0


@given(facts)
def test_only_a_value_that_nobody_minded_completes(case: Facts) -> None:
    untouched = case.error is None and case.timeout is None and not case.cancelled and not case.cancel_requested
    assert (decide(case).state is TaskState.COMPLETED) == untouched


@given(facts)
def test_what_was_cancelled_never_completes_and_is_never_tried_again(case: Facts) -> None:
    """Row A5: ``cancel()`` True means never COMPLETED."""
    if case.cancel_requested:
        assert decide(case).state in (TaskState.CANCELLED, TaskState.FAILED)


@given(facts)
def test_another_try_is_made_only_within_the_policy(case: Facts) -> None:
    if decide(case).state is TaskState.PENDING:
        assert case.retry is not None
        assert case.attempt < case.retry.max_attempts
        assert not case.final
        assert case.retryable or case.timeout is not None
        error = case.timeout or case.error
        assert isinstance(error, case.retry.on)
        assert not isinstance(error, case.retry.give_up_on)


@given(facts)
def test_a_timeout_that_struck_is_what_a_failure_reports(case: Facts) -> None:
    verdict = decide(case)
    if case.timeout is not None and not case.cancel_requested:
        assert verdict.error is case.timeout
