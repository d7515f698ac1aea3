"""For every policy and every attempt the delay is finite, bounded, and grows until it is cut off."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from engine import Retry

delays = st.floats(0, 1e9, allow_subnormal=False)
factors = st.one_of(st.floats(1, 1e300), st.integers(1, 10**300))
policies = st.builds(
    Retry,
    max_attempts=st.integers(1, 10**6),
    base_delay=st.one_of(delays, st.integers(0, 10**9)),
    factor=factors,
    max_delay=st.one_of(delays, st.integers(0, 10**9)),
    jitter=st.floats(0, 1),
)
attempts = st.one_of(st.integers(1, 50), st.integers(1, 10_000))
random_numbers = st.floats(0, 1, exclude_max=True)


def middle() -> float:
    """Stand in for the random numbers: no jitter."""
    return 0.5


@given(policies, attempts, random_numbers)
def test_a_delay_is_finite_and_bounded(retry: Retry, attempt: int, number: float) -> None:
    """Row A15."""
    delay = retry.delay_after(attempt, lambda: number)
    assert isinstance(delay, (int, float))
    assert math.isfinite(delay)
    assert 0 <= delay <= retry.max_delay * (1 + retry.jitter) * (1 + 1e-12)


@given(policies, attempts)
def test_a_delay_before_jitter_never_shrinks_and_is_cut_off(retry: Retry, attempt: int) -> None:
    first, this, following = (retry.delay_after(n, middle) for n in (1, attempt, attempt + 1))
    assert first == min(retry.max_delay, retry.base_delay)
    assert first <= this <= following <= retry.max_delay


@example(Retry(base_delay=3.0, factor=1.0, max_delay=3.0, jitter=2.0**-52), 1, 0.0)
@given(policies, attempts, random_numbers)
def test_jitter_moves_a_delay_by_at_most_its_share(retry: Retry, attempt: int, number: float) -> None:
    plain, jittered = retry.delay_after(attempt, middle), retry.delay_after(attempt, lambda: number)
    # The product is rounded twice, and a jitter may be as small as a rounding: 3.0 s with a jitter of 2 ** -52 is one.
    assert abs(jittered - plain) <= plain * retry.jitter * (1 + 1e-9) + 2 * math.ulp(plain)


@given(policies, st.integers(1, 10**7))
def test_there_are_never_more_attempts_than_the_policy_says(retry: Retry, attempt: int) -> None:
    assert retry.wants(OSError(), attempt) == (attempt < retry.max_attempts)
