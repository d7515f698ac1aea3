"""Wall time through one anchor, and timestamps that never tie."""

import math
import time

import pytest

from engine import _clock


def test_wall_time_moves_as_the_monotonic_clock_does() -> None:
    assert _clock.wall_time(1_700_000_000.0, 50.0, 52.5) == 1_700_000_002.5
    assert _clock.wall_time(1_700_000_000.0, 50.0, 50.0) == 1_700_000_000.0


@pytest.mark.parametrize("earlier", [0.0, 1.0, 1_700_000_000.123, -5.0])
def test_an_instant_that_ties_or_lies_before_becomes_the_next_float(earlier: float) -> None:
    for instant in (earlier, earlier - 1.0):
        ordered = _clock.ordered_after(instant, earlier)
        assert ordered > earlier
        assert ordered == math.nextafter(earlier, math.inf)


def test_an_instant_that_is_later_stays_as_it_is() -> None:
    assert _clock.ordered_after(2.0, 1.0) == 2.0


def test_now_is_the_clock_that_all_processes_share() -> None:
    before = time.monotonic()
    assert before <= _clock.now() <= time.monotonic()
