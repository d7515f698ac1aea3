"""JSON of jobs: everything that is refused is refused in one way, everything else comes back."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from engine.jobs._json.codec import decode_args, decode_value, encode_args, encode_result
from engine.jobs.errors import PayloadRefused, ResultNotSerializable

LIMIT = 1 << 16

scalars = some.none() | some.booleans() | some.integers() | some.floats() | some.text() | some.binary(max_size=3)
values = some.recursive(
    scalars,
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.tuples(inner, inner)
        | some.dictionaries(some.text() | some.integers() | some.booleans(), inner, max_size=4)
    ),
    max_leaves=12,
)
pieces = some.sampled_from(
    [
        *'{}[]":,a-1.e+ \n\'/', "\0", "é", "\\u0000", "\\ud800", "\\", "NaN", "Infinity", "1e9", "1e999", "true",
        "null", "99999999999999999999", '"a":', "{}", "[]", "\ufeff",
    ]
)  # fmt: skip
texts = some.lists(pieces, max_size=25).map("".join) | some.text()


def is_fit(value: Any) -> bool:
    """Say, in the plainest way, whether JSON can carry ``value``."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_fit(key) and is_fit(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_fit, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def with_lists(value: Any) -> Any:
    """Return ``value`` with its tuples as lists."""
    if isinstance(value, dict):
        return {key: with_lists(each) for key, each in value.items()}
    return [with_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


@given(some.dictionaries(some.text(), values, max_size=4))
@settings(max_examples=100)
def test_fit_arguments_come_back_and_others_are_refused(args: dict[str, Any]) -> None:
    """J8: nothing goes in that does not come out as it was."""
    if not is_fit(args):
        with pytest.raises(PayloadRefused, match=r"^expected args.* to be .*, got"):
            encode_args(args, LIMIT)
        return
    assert repr(decode_args(encode_args(args, LIMIT))) == repr(with_lists(args))


@given(values)
@settings(max_examples=100)
def test_results_keep_the_same_rules(value: Any) -> None:
    """J16: a result is JSON, or says that it is not."""
    try:
        text = encode_result(value, LIMIT)
    except ResultNotSerializable:
        assert not is_fit(value)
    else:
        assert repr(decode_value(text)) == repr(with_lists(value))


@given(texts)
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text: str) -> None:
    """J8: a text that nobody of ours wrote gives a value that could be written again, or one kind of error."""
    try:
        value = decode_value(text)
    except PayloadRefused:
        return
    assert decode_value(encode_result(value, LIMIT)) == value
