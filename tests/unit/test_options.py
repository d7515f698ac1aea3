"""How a task is to run: checked where it enters, the engine's view over the decorator's."""

import asyncio
import math
from typing import Any

import pytest

from engine import BlockingEngine, Engine, Lane, Priority, Retry
from engine._options import (
    DEFAULT,
    NOT_SAID,
    TaskOptions,
    decorated_options,
    mark,
    merge_options,
    over,
    value_of,
)
from engine.testing import InlineEngine

BAD: list[tuple[str, object]] = [
    *(("lane", value) for value in ("gpu", "", 5, True, "THREAD")),
    *(("timeout", value) for value in (0, -1, math.nan, math.inf, 1e18, 10**400, True, "5")),
    *(("total_timeout", value) for value in (0, -1, math.nan, math.inf, 1e18, True, "5")),
    *(("grace", value) for value in (-1, math.nan, math.inf, 1e18, True, "5")),
    *(("priority", value) for value in (1001, -1001, 1.0, math.nan, 1e18, True, "high")),
    *(("retry", value) for value in (3, True, "yes", Retry, {"max_attempts": 3})),
    *(("name", value) for value in ("", "x" * 201, 5, True, b"name")),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: ascii(value)[:20])
def test_a_bad_option_is_refused_where_it_enters(name: str, value: object) -> None:
    """Row T5."""
    with pytest.raises(ValueError, match=f"^expected {name} to be .+, got .+"):
        merge_options(DEFAULT, {name: value})


def test_a_name_that_is_no_option_is_refused_with_those_that_are() -> None:
    with pytest.raises(TypeError, match=r"expected options to be among grace, lane, name, .*, got 'timout'"):
        merge_options(DEFAULT, {"timout": 5})


@pytest.mark.parametrize("lane", ["thread", Lane.THREAD])
def test_a_lane_may_be_named_or_given(lane: Any) -> None:
    assert merge_options(DEFAULT, {"lane": lane}).lane is Lane.THREAD


@pytest.mark.parametrize("priority", [Priority.HIGH, 10])
def test_a_priority_becomes_a_plain_int(priority: int) -> None:
    assert type(merge_options(DEFAULT, {"priority": priority}).priority) is int


def test_what_is_said_later_wins_and_what_is_not_said_stays() -> None:
    first = merge_options(DEFAULT, {"timeout": 5, "name": "a", "priority": 1})
    second = merge_options(first, {"timeout": 7, "priority": 0, "name": NOT_SAID})
    assert second == TaskOptions(timeout=7.0, name="a", priority=0)
    assert first == TaskOptions(timeout=5.0, name="a", priority=1)


def test_none_takes_back_what_was_said_before() -> None:
    """Also what a decorator says: a task of it may so have no limit after all."""
    decorated = TaskOptions(lane=Lane.THREAD, timeout=5.0, retry=Retry(), name="a")
    view = merge_options(DEFAULT, {"timeout": None, "retry": None, "name": None})
    both = over(decorated, view)
    assert both == TaskOptions(lane=Lane.THREAD, timeout=None, retry=None, name=None)
    assert [value_of(option) for option in (both.timeout, both.retry, both.name, both.grace)] == [None] * 4
    assert merge_options(view, {"timeout": 3}).timeout == 3.0


@pytest.mark.parametrize("name", ["lane", "timeout", "total_timeout", "retry", "priority", "grace", "name"])
def test_every_option_may_be_none(name: str) -> None:
    assert getattr(merge_options(DEFAULT, {name: None}), name) is None
    assert getattr(DEFAULT, name) is NOT_SAID


def test_a_stronger_set_of_options_lies_over_a_weaker_one() -> None:
    weak = TaskOptions(lane=Lane.THREAD, timeout=5.0, priority=3)
    assert over(weak, DEFAULT) == weak
    assert over(weak, TaskOptions(timeout=1.0, priority=0)) == TaskOptions(lane=Lane.THREAD, timeout=1.0, priority=0)


def test_a_mark_stays_on_the_function_itself() -> None:
    def function() -> None:
        pass

    options = TaskOptions(timeout=5.0)
    assert decorated_options(function) is DEFAULT
    mark(function, options)
    assert decorated_options(function) is options


def test_what_takes_no_attributes_cannot_be_marked() -> None:
    with pytest.raises(
        TypeError, match=r"expected fn to be a function that takes attributes, got .*; wrap it in a def"
    ):
        mark(len, DEFAULT)


def test_an_attribute_of_that_name_by_somebody_else_is_not_taken_for_ours() -> None:
    def function() -> None:
        pass

    function.__engine_options__ = {"timeout": 5}  # type: ignore[attr-defined]  # somebody else's attribute
    assert decorated_options(function) is DEFAULT


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (
            lambda _: Engine(max_workers=2),  # type: ignore[arg-type]  # which it refuses, too
            r"options of Engine .*, got 'max_workers'; use processes=..., threads=...$",
        ),
        (lambda _: BlockingEngine(procesess=2), r"options of Engine .*processes.*, got 'procesess'$"),
        (lambda engine: engine.options(timout=1), r"expected options to be among grace, .*, got 'timout'$"),
        (lambda engine: engine.group().options(timout=1), r"expected options to be among grace, .*, got 'timout'$"),
        (lambda engine: engine.map(abs, [1], timeout=1), r"got 'timeout'; use engine.options\(timeout=...\).map"),
        (lambda engine: engine.map(abs, [1], chunksize=1), r"got 'chunksize'; leave it out: quick calls travel many"),
        (lambda engine: engine.map(abs, [1], workers=1), r"ordered, return_exceptions, window, got 'workers'$"),
        (lambda engine: engine.map(abs, 5), r"got 5; use submit or run for one call$"),
    ],
)
def test_a_keyword_that_others_have_is_refused_with_what_to_do(ask: Any, answer: str) -> None:
    with InlineEngine() as inline, pytest.raises(TypeError, match=answer):
        ask(inline)
    with BlockingEngine(processes=1) as blocking, pytest.raises(TypeError, match=answer):
        ask(blocking)
    with pytest.raises(TypeError, match=answer):
        asyncio.run(_asked(ask))


async def _asked(ask: Any) -> None:
    async with Engine(processes=1) as engine:
        ask(engine)
