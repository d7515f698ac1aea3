"""Errors of process tasks that would end whoever iterates over the results: they arrive as RemoteError."""

import asyncio
from typing import Literal

import pytest

from engine import Engine, RemoteError

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement


class Ended(StopAsyncIteration):
    """One that is rebuilt elsewhere than on the loop."""


def end_at_two(number: int, error: Exception) -> int:
    if number == 2:
        raise error
    return number


@pytest.mark.parametrize("backend", ["native", "loky"])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, Ended])
async def test_a_process_task_that_raises_what_ends_an_iteration_has_failed(
    kind: type[Exception], backend: Literal["native", "loky"]
) -> None:
    """E33: no result of a map is lost in silence."""
    errors = [kind("not an end")] * 5
    async with Engine(processes=1, default_lane="process", process_backend=backend) as engine, asyncio.timeout(STUCK):
        for ordered in (True, False):
            with pytest.raises(RemoteError, match="not an end") as caught:
                _ = [each async for each in engine.map(end_at_two, range(5), errors, ordered=ordered)]
            assert type(caught.value.__cause__) is kind
            assert caught.value.stands_for(kind)
        mixed = engine.map(end_at_two, range(5), errors, return_exceptions=True)
        assert [type(each) for each in [each async for each in mixed]] == [int, int, RemoteError, int, int]


@pytest.mark.parametrize("backend", ["native", "loky"])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_a_blocking_map_says_the_same(kind: type[Exception], backend: Literal["native", "loky"]) -> None:
    """E33."""
    with (
        Engine(processes=1, default_lane="process", process_backend=backend) as engine,
        pytest.raises(RemoteError, match="not an end") as caught,
    ):
        list(engine.map(end_at_two, range(5), [kind("not an end")] * 5))
    assert type(caught.value.__cause__) is kind
