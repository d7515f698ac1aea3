"""What a task raised always arrives as something, however badly its class behaves."""

import pickle
from typing import Any

import pytest

from engine._wire.pickling import Packer
from engine._worker.failures import MAX_TEXT, cut, describe, pack_error


class NoState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("no state")


class NoReduce(Exception):
    def __reduce__(self) -> Any:
        return None


class ExitsInReduce(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit


class BecomesAnother(Exception):
    def __reduce__(self) -> Any:
        return ValueError, ("other",)


class BadDerive(ExceptionGroup[Exception]):
    def derive(self, excs: Any, /) -> Any:
        raise RuntimeError("no")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_a_well_behaved_exception_travels_as_itself() -> None:
    report = pickle.loads(pack_error(Packer(), raised(ValueError("bad"))))
    name, text, trace, pickled, is_harmless, names, reason = report
    assert (name, text, reason) == ("ValueError", "bad", "")
    assert names == ("ValueError", "Exception", "BaseException")
    assert "in raised" in trace
    assert repr(pickle.loads(pickled)) == "ValueError('bad')"
    assert is_harmless


@pytest.mark.parametrize("kind", [NoReduce, ExitsInReduce, BecomesAnother])
def test_one_that_does_not_come_back_as_itself_travels_as_text(kind: type[Exception]) -> None:
    name, text, _, pickled, _, names, reason = pickle.loads(pack_error(Packer(), raised(kind("what"))))
    assert names[0] == name
    assert reason
    assert name.endswith(kind.__name__)
    assert text == "what"
    assert pickled is None


def test_one_whose_state_cannot_be_set_travels_as_text() -> None:
    error = NoState("x")
    error.extra = 1  # type: ignore[attr-defined]  # any state will do
    assert pickle.loads(pack_error(Packer(), error))[3] is None


def test_a_circle_of_causes_is_described() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert "second" in describe(first)[2]


def test_a_group_that_cannot_derive_keeps_its_leaves() -> None:
    group = BadDerive("many", [NoReduce("leaf")])
    pickled = pickle.loads(pack_error(Packer(), group))[3]
    assert "leaf" in str(pickle.loads(pickled).exceptions[0])


def test_long_texts_keep_head_and_tail_and_bad_ones_become_encodable() -> None:
    text = cut("a" + "x" * 10**7 + "z")
    assert len(text) < MAX_TEXT + 100
    assert text[0] == "a"
    assert text[-1] == "z"
    assert cut("\udcff").encode() == b"\\udcff"
