"""When to try again, and after how long."""

import math
from typing import Any

import pytest

from engine import Retry
from engine.retry import evenly

BAD: list[tuple[str, object]] = [
    *(("max_attempts", value) for value in (0, -1, 1.0, True, math.nan, math.inf, 1e18, "3", None)),
    *(("base_delay", value) for value in (-1, math.nan, math.inf, 1e18, 10**400, True, "1", None)),
    *(("max_delay", value) for value in (-1, math.nan, math.inf, 1e18, 10**400, True, "1", None)),
    *(("factor", value) for value in (0, 0.99, -1, math.nan, math.inf, 10**400, True, "2", None)),
    *(("jitter", value) for value in (-0.1, 1.1, math.nan, math.inf, 1e18, 10**400, True, "0", None)),
    *(("on", value) for value in (OSError, [OSError], (OSError, 1), ("OSError",), (int,), None)),
    *(("give_up_on", value) for value in (OSError, [OSError], (OSError, 1), ("OSError",), (int,), None)),
]


def middle() -> float:
    """Stand in for the random numbers: no jitter."""
    return 0.5


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: ascii(value)[:20])
def test_a_bad_value_is_refused_at_once(name: str, value: Any) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
        Retry(**{name: value})


def test_the_delay_grows_by_the_factor_up_to_the_bound() -> None:
    retry = Retry(base_delay=1.0, factor=2.0, max_delay=5.0)
    assert [retry.delay_after(n, middle) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize("factor", [1, 2, 2.0, 1e300, 10**9])
def test_attempt_ten_thousand_waits_a_finite_bounded_time(factor: float) -> None:
    """Row A15."""
    retry = Retry(max_attempts=100_000, factor=factor, max_delay=60.0)
    delay = retry.delay_after(10_000, middle)
    assert delay == (1.0 if factor == 1 else 60.0)


def test_without_a_base_delay_there_is_never_a_pause() -> None:
    """Row A15: nor where the factor's power overflows."""
    retry = Retry(base_delay=0, factor=1e300)
    assert [retry.delay_after(n) for n in (1, 2, 10_000)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("number", "delay"), [(0.0, 9.0), (0.5, 10.0), (0.999999, 11.0)])
def test_jitter_spreads_the_delay_to_both_sides(number: float, delay: float) -> None:
    """Row A15."""
    retry = Retry(base_delay=10.0, jitter=0.1)
    assert retry.delay_after(1, lambda: number) == pytest.approx(delay, rel=1e-5)


def test_max_attempts_counts_every_run() -> None:
    retry = Retry(max_attempts=3)
    assert [retry.wants(OSError(), n) for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert not Retry(max_attempts=1).wants(OSError(), 1)


def test_only_named_errors_are_tried_again_and_giving_up_wins() -> None:
    retry = Retry(on=(OSError,), give_up_on=(FileNotFoundError,))
    assert retry.wants(OSError(), 1)
    assert retry.wants(ConnectionError(), 1)
    assert not retry.wants(FileNotFoundError(), 1)
    assert not retry.wants(ValueError(), 1)


def test_the_jitter_of_its_own_is_spread_over_all_of_its_range() -> None:
    numbers = [evenly() for _ in range(1000)]
    assert 0 <= min(numbers) < 0.1
    assert 0.9 < max(numbers) < 1
    assert len(set(numbers)) == 1000


def test_a_policy_is_a_frozen_value() -> None:
    retry = Retry(max_attempts=2)
    assert retry == Retry(max_attempts=2)
    assert hash(retry) == hash(Retry(max_attempts=2))
    with pytest.raises(AttributeError):
        retry.max_attempts = 5  # type: ignore[misc]  # that it is frozen is what is tested
