"""What the process lane expects a function to take: the recent peak of its durations."""

import math

import pytest

from engine._lanes._process.functions import Function


def measured(*durations: float) -> Function:
    function = Function(1, len)
    for seconds in durations:
        function.measure(seconds)
    return function


def test_nothing_is_known_before_the_first_run() -> None:
    assert measured().seconds == math.inf


def test_a_longer_run_counts_at_once_and_shorter_ones_by_and_by() -> None:
    assert measured(1.0, 3.0).seconds == 3.0
    assert measured(3.0, 1.0).seconds == pytest.approx(2.8)


def test_a_row_counts_as_its_longest_run_and_then_as_many_of_the_mean_of_the_others() -> None:
    row = measured(2.0)
    row.measure_row([1.0, 5.0, 2.0, 3.0])
    assert row.seconds == pytest.approx(measured(2.0, 5.0, 2.0, 2.0, 2.0).seconds)


def test_a_row_of_one_counts_as_one_run() -> None:
    row = measured(2.0)
    row.measure_row([1.0])
    assert row.seconds == measured(2.0, 1.0).seconds
