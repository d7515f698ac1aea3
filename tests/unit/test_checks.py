"""The one error grammar: ``expected X to be ..., got ...``."""

import math
import re

import pytest

from engine import _checks

GRAMMAR = re.compile(r"expected n to be .+, got .+")


class Unprintable:
    """Has a repr that raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr today")


NOT_SECONDS = [-1, -0.001, math.nan, math.inf, -math.inf, 1e18, 10**400, True, False, "1", b"1", None, [1], 1j]
NOT_POSITIVE_INTS = [0, -1, 1.0, math.nan, math.inf, 1e18, 10**400, True, False, "1", None, [1]]


@pytest.mark.parametrize("value", NOT_SECONDS, ids=_checks.shown)
def test_what_is_not_a_number_of_seconds_is_refused(value: object) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=GRAMMAR):
        _checks.seconds("n", value, zero=True)


def test_zero_seconds_are_taken_only_where_zero_makes_sense() -> None:
    assert _checks.seconds("n", 0, zero=True) == 0.0
    with pytest.raises(ValueError, match=r"expected n to be a finite number of seconds, more than zero.*, got 0"):
        _checks.seconds("n", 0)


@pytest.mark.parametrize("value", [1, 0.5, 10**9, 5e-324])
def test_seconds_come_back_as_a_float(value: float) -> None:
    checked = _checks.seconds("n", value)
    assert checked == value
    assert type(checked) is float


@pytest.mark.parametrize("value", NOT_POSITIVE_INTS, ids=_checks.shown)
def test_what_is_not_a_positive_integer_is_refused(value: object) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=GRAMMAR):
        _checks.positive_int("n", value)


def test_the_grammar_is_the_one_that_the_design_shows() -> None:
    with pytest.raises(ValueError, match=r"^expected processes to be a positive integer, got -1$"):
        _checks.positive_int("processes", -1)


def test_the_least_integer_is_a_matter_of_the_caller() -> None:
    assert _checks.positive_int("n", 0, least=0) == 0
    with pytest.raises(ValueError, match="expected n to be an integer of at least 2, got 1; add one"):
        _checks.positive_int("n", 1, least=2, remedy="add one")


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_a_flag_is_true_or_false_and_nothing_like_it(value: object) -> None:
    with pytest.raises(ValueError, match="expected n to be True or False, got"):
        _checks.flag("n", value)


@pytest.mark.parametrize("value", ["c", "", None, 1, ["a"], "A"])
def test_a_member_is_one_of_the_allowed(value: object) -> None:
    assert _checks.member("n", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="expected n to be one of 'a', 'b', got"):
        _checks.member("n", value, ("a", "b"))


@pytest.mark.parametrize("value", ["", "x" * 6, None, 1, b"abc"])
def test_a_text_has_a_bounded_length(value: object) -> None:
    assert _checks.text("n", "x" * 5, most=5) == "xxxxx"
    with pytest.raises(ValueError, match="expected n to be a string of 1 to 5 characters, got"):
        _checks.text("n", value, most=5)


def test_an_instance_is_of_its_kind() -> None:
    assert _checks.instance("n", (1,), tuple, "a tuple") == (1,)
    with pytest.raises(ValueError, match=r"expected n to be a tuple, got \[1\]"):
        _checks.instance("n", [1], tuple, "a tuple")


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "\u202e", "x" * 500, {"k": "\r"}], ids=ascii)
def test_a_value_is_shown_on_one_short_printable_line(value: object) -> None:
    shown = _checks.shown(value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 80


def test_a_value_whose_repr_raises_is_shown_all_the_same() -> None:
    assert _checks.shown(Unprintable()) == "<Unprintable whose repr raised RuntimeError>"
    with pytest.raises(ValueError, match="expected n to be True or False, got <Unprintable whose repr raised"):
        _checks.flag("n", Unprintable())


def test_the_remedy_comes_last() -> None:
    assert str(_checks.wrong("n", "small", 10, "use 1")) == "expected n to be small, got 10; use 1"
