"""``engine.map``: a bounded window over any iterable, in either order."""

import asyncio
import gc
import itertools
import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, RemoteError, TaskState
from engine._map import default_window
from engine._task_map import TaskMap
from tests.support import eventually_async

LANES = ["loop", "thread"]


def small(**settings: Any) -> Engine:
    """Make an engine with two slots in each lane."""
    return Engine(**{"threads": 2, "coroutines": 2, "default_lane": "thread", "grace": 0.05, **settings})


def on(lane: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``plain`` in the kind that ``lane`` runs."""
    if lane == "thread":
        return plain

    async def coroutine(*args: Any) -> Any:
        await asyncio.sleep(0)
        return plain(*args)

    return coroutine


class Counting:
    """An iterator that knows how far it was read."""

    def __init__(self, stop: float = math.inf) -> None:
        self.read = 0
        self.stop = stop

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.read >= self.stop:
            raise StopIteration
        self.read += 1
        return self.read - 1


async def numbers(stop: float = math.inf, closed: list[str] | None = None) -> AsyncIterator[int]:
    """Count, asynchronously."""
    try:
        for number in itertools.count():
            if number >= stop:
                return
            await asyncio.sleep(0)
            yield number
    finally:
        if closed is not None:
            closed.append("closed")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("window", [None, 1, 2, 7])
async def test_results_come_in_the_order_of_the_items(lane: str, window: int | None) -> None:
    async with small() as engine:
        assert [n async for n in engine.map(on(lane, abs), range(0, -50, -1), window=window)] == list(range(50))


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("window", [None, 1, 3])
async def test_unordered_results_all_come_once(lane: str, window: int | None) -> None:
    async with small() as engine:
        found = [n async for n in engine.map(on(lane, abs), range(0, -50, -1), ordered=False, window=window)]
        assert sorted(found) == list(range(50))


async def test_unordered_results_come_as_they_are_ready() -> None:
    first = asyncio.Event()

    async def wait_or_go(number: int) -> int:
        if number == 0:
            await first.wait()
        return number

    async with small(coroutines=3) as engine:
        found = []
        async for number in engine.map(wait_or_go, range(5), ordered=False):
            found.append(number)
            if len(found) == 4:
                first.set()
        assert sorted(found[:4]) == [1, 2, 3, 4]
        assert found[4] == 0


async def test_nothing_in_nothing_out() -> None:
    async with small() as engine:
        for ordered in (True, False):
            assert await _collected(engine.map(int, [], ordered=ordered)) == []
            assert [n async for n in engine.map(abs, numbers(0), ordered=ordered)] == []


@pytest.mark.parametrize("ordered", [True, False])
async def test_several_iterables_go_side_by_side_as_far_as_the_shortest(ordered: bool) -> None:
    async with small() as engine:
        pairs = engine.map(lambda a, b: (a, b), "abcd", range(3), ordered=ordered)
        assert sorted([pair async for pair in pairs]) == [("a", 0), ("b", 1), ("c", 2)]
        mixed = engine.map(lambda a, b, c: (a, b, c), "ab", numbers(), itertools.count(10), ordered=ordered)
        assert sorted([row async for row in mixed]) == [("a", 0, 10), ("b", 1, 11)]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [None, 1, 4])
async def test_an_asynchronous_source_is_read_as_it_comes(ordered: bool, window: int | None) -> None:
    closed: list[str] = []
    async with small() as engine:
        found = [n async for n in engine.map(abs, numbers(20, closed), ordered=ordered, window=window)]
        assert sorted(found) == list(range(20))
        assert not ordered or found == list(range(20))
    assert closed == ["closed"]


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_result_does_not_wait_for_the_next_item_of_a_slow_source(ordered: bool) -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    async with small() as engine:
        results = engine.map(abs, slow(), ordered=ordered)
        assert await asyncio.wait_for(anext(results), 10) == 1
        more.set()
        assert [n async for n in results] == [2]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("window", [1, 3, 8])
async def test_a_source_is_never_read_ahead_of_the_window(ordered: bool, window: int) -> None:
    """Backpressure: also where the source is infinite, and the consumer slow."""
    async with small() as engine:
        source = Counting()
        taken = 0
        async for _ in engine.map(abs, source, ordered=ordered, window=window):
            taken += 1
            await asyncio.sleep(0)
            assert source.read <= taken + window - 1
            if taken == 30:
                break
        assert source.read >= 30


async def test_an_asynchronous_source_is_never_read_ahead_of_the_window() -> None:
    read = 0

    async def source() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async with small() as engine:
        taken = 0
        results = engine.map(abs, source(), window=3)
        async for _ in results:
            taken += 1
            for _ in range(5):
                await asyncio.sleep(0)
            assert read <= taken + 3
            if taken == 30:
                break
        await results.aclose()


async def test_the_default_window_keeps_every_slot_busy() -> None:
    assert default_window(1) == 32
    assert default_window(100) == 400
    async with small() as engine:
        source = Counting()
        results = engine.map(abs, source)
        assert source.read == 0
        assert await anext(results) == 0
        assert source.read == 32
        await results.aclose()


@pytest.mark.parametrize("ordered", [True, False])
async def test_leaving_the_loop_cancels_the_window(ordered: bool) -> None:
    release = threading.Event()

    def hold(number: int) -> int:
        if number:
            assert release.wait(30)
        return number

    try:
        async with small() as engine:
            source = Counting()
            async for number in engine.map(hold, source, ordered=ordered, window=6):
                assert number == 0
                break
            gc.collect()  # break drops the iterator; PyPy and cycles would need this
            await eventually_async(lambda: engine.snapshot().count(TaskState.CANCELLED) == 5)
            assert source.read == 6
            release.set()
            assert await engine.run(abs, -1) == 1
    finally:
        release.set()


async def test_closing_is_idempotent_and_ends_the_iteration() -> None:
    closed: list[str] = []
    async with small() as engine:
        results = engine.map(abs, numbers(closed=closed))
        assert await anext(results) == 0
        await results.aclose()
        await results.aclose()
        assert closed == ["closed"]
        with pytest.raises(StopAsyncIteration):
            await anext(results)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_the_first_failure_is_raised_and_cancels_the_rest(ordered: bool, asynchronous: bool) -> None:
    def fail_at_five(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    async with small() as engine:
        source: Any = numbers() if asynchronous else Counting()
        results = engine.map(fail_at_five, source, ordered=ordered, window=4)
        found: list[int] = []

        async def take_all() -> None:
            async for number in results:
                found.append(number)

        with pytest.raises(ValueError, match="five"):
            await take_all()
        assert not ordered or found == [0, 1, 2, 3, 4]
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        await eventually_async(lambda: engine.tasks(state="pending") == engine.tasks(state="running") == [])


async def test_failures_may_come_as_results() -> None:
    def odd_fails(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    async with small() as engine:
        found = [r async for r in engine.map(odd_fails, range(6), return_exceptions=True)]
        assert [r if isinstance(r, int) else type(r) for r in found] == [0, ValueError, 2, ValueError, 4, ValueError]


async def test_a_task_of_the_map_that_somebody_cancels_comes_as_a_cancellation() -> None:
    release = threading.Event()
    try:
        async with small() as engine:
            named = engine.options(name="mapped")
            results = named.map(lambda n: release.wait(30) and n, range(2), return_exceptions=True, window=2)
            first = asyncio.ensure_future(anext(results))
            await eventually_async(lambda: len(engine.tasks(name="mapped")) == 2)
            assert engine.cancel(id=1) == 1
            assert isinstance(await first, asyncio.CancelledError)
            release.set()
            assert await anext(results) == 1
            assert [r async for r in results] == []
    finally:
        release.set()


def breaking() -> Iterator[int]:
    yield 1
    yield 2
    raise OSError("the source broke")


async def breaking_asynchronously() -> AsyncIterator[int]:
    for number in breaking():
        yield number


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("source", [breaking, breaking_asynchronously])
async def test_a_source_that_raises_ends_the_map_behind_what_it_gave(ordered: bool, source: Any) -> None:
    """E214: as where items travel in chunks, what was read before is not lost."""
    go = threading.Event()

    def wait(number: int) -> int:
        assert go.wait(30)
        return number

    async with small() as engine:
        results = engine.map(wait, source(), ordered=ordered)
        first = asyncio.ensure_future(anext(results))
        assert isinstance(results, TaskMap)
        await eventually_async(lambda: results._refused is not None)  # the source has failed
        go.set()
        found = [await first, await anext(results)]
        with pytest.raises(OSError, match="the source broke"):
            await anext(results)
        assert await _collected(results) == []
    assert sorted(found) == [1, 2]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("source", [breaking, breaking_asynchronously])
def test_a_source_that_raises_ends_a_blocking_map_behind_what_it_gave(ordered: bool, source: Any) -> None:
    with BlockingEngine(threads=2, default_lane="thread") as engine:
        results = engine.map(abs, source(), ordered=ordered)
        assert sorted([next(results), next(results)]) == [1, 2]
        with pytest.raises(OSError, match="the source broke"):
            next(results)
        assert list(results) == []


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("bound", [1, 3])
async def test_a_map_waits_for_room(ordered: bool, asynchronous: bool, bound: int) -> None:
    """Row A14: beside others that fill the engine; each item is used once, none is lost."""
    async with small(max_pending=bound) as engine:

        async def one_map() -> list[int]:
            source: Any = numbers(60) if asynchronous else range(60)
            return [n async for n in engine.map(abs, source, ordered=ordered)]

        maps = await asyncio.gather(*(one_map() for _ in range(5)))
        assert [sorted(found) for found in maps] == [list(range(60))] * 5
        assert not ordered or maps == [list(range(60))] * 5
        assert engine._core.registry.waiting == 0


async def test_a_cancelled_wait_of_a_map_cancels_its_window() -> None:
    release = threading.Event()
    try:
        async with small() as engine:
            results = engine.map(lambda n: release.wait(30), range(5))
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(results), 0.02)
            assert engine.snapshot().count(TaskState.CANCELLED) == 5
            release.set()
    finally:
        release.set()


async def test_two_maps_of_one_iterator_share_it() -> None:
    async with small() as engine:
        source = iter(range(100))
        both = [engine.map(abs, source, window=2) for _ in range(2)]
        found = await asyncio.gather(*(_collected(results) for results in both))
        assert sorted(found[0] + found[1]) == list(range(100))


async def _collected(results: AsyncIterator[int]) -> list[int]:
    return [n async for n in results]


async def test_failures_in_a_dropped_window_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves the loop does not want to hear of them."""
    barrier = threading.Barrier(2)

    def fail_after_the_first(number: int) -> int:
        if number == 0:
            return 0
        barrier.wait(10)
        raise ValueError("unseen")

    async with small(threads=3, grace=5) as engine:
        with caplog.at_level(logging.ERROR, "engine"):
            results = engine.map(fail_after_the_first, range(3))
            assert await anext(results) == 0
            await eventually_async(lambda: engine.snapshot().count(TaskState.FAILED) == 2)
            await results.aclose()
            del results
            gc.collect()
    assert caplog.records == []


async def test_an_engine_that_stops_ends_the_map() -> None:
    """Row N1."""
    engine = await small().start()
    results = engine.map(abs, Counting(), window=1)
    assert await anext(results) == 0
    await engine.stop()
    with pytest.raises(EngineClosed, match="cannot schedule new futures after shutdown"):
        async for _ in results:
            pass
    with pytest.raises(EngineClosed):
        await anext(engine.map(abs, [1]))


@pytest.mark.parametrize("window", [0, -1, 1.0, math.nan, math.inf, 1e18, True, "4"])
async def test_a_bad_window_is_refused_before_anything_is_read(window: Any) -> None:
    """Row T5."""
    async with small() as engine:
        source = Counting()
        with pytest.raises(ValueError, match=r"^expected window to be a positive integer, .*got"):
            engine.map(abs, source, window=window)
        assert source.read == 0


@pytest.mark.parametrize("name", ["ordered", "return_exceptions"])
@pytest.mark.parametrize("value", [0, 1, None, "yes"])
async def test_a_bad_flag_is_refused(name: str, value: Any) -> None:
    async with small() as engine:
        options: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"^expected {name} to be True or False, got"):
            engine.map(abs, [1], **options)


async def test_what_is_no_iterable_is_refused() -> None:
    async with small() as engine:
        wrong: Any = 5
        with pytest.raises(TypeError, match="expected map to get iterables, got 5"):
            engine.map(abs, wrong)
        with pytest.raises(TypeError, match="expected map to get at least one iterable, got none"):
            engine.map(abs)
        with pytest.raises(TypeError, match="expected fn to be a plain function, got the generator function"):
            engine.map(numbers, [1])


async def test_a_plain_loop_over_the_results_is_told_what_to_write() -> None:
    async with small() as engine:
        results: Any = engine.map(abs, [-1, -2])
        with pytest.raises(TypeError, match=r"expected 'async for' over .*, got a plain iteration; use"):
            list(results)
        assert [result async for result in results] == [1, 2]
        outer = engine.map(abs, engine.map(abs, [-1, -2]))  # a map over a map is asynchronous still
        assert [result async for result in outer] == [1, 2]


# -- what ends an iteration -------------------------------------------------------------------------------------------


class Stopping:
    """A plain iterator that gives two items, then raises StopAsyncIteration: an error, and not its end."""

    def __init__(self) -> None:
        self.left = 2

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if not self.left:
            raise StopAsyncIteration("not an end")
        self.left -= 1
        return self.left


def stopping() -> Iterator[int]:
    """Do the same as a generator."""
    yield from Stopping()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", [Stopping, stopping])
@pytest.mark.parametrize("beside", [(), (range(9),), (numbers,)])
async def test_a_plain_source_that_raises_stop_async_iteration_has_failed(
    ordered: bool, kind: Callable[[], Iterator[int]], beside: tuple[Any, ...]
) -> None:
    """E33: it ended the map as if all were well."""
    sources = [each() if callable(each) else each for each in beside]
    async with small() as engine:
        results = engine.map(lambda *row: row, kind(), *sources, ordered=ordered)
        with pytest.raises(RuntimeError, match="StopAsyncIteration") as caught:
            await _collected(results)
        assert isinstance(caught.value.__cause__, StopAsyncIteration)
        assert await _collected(results) == []


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
async def test_a_task_that_raises_what_ends_an_iteration_has_failed(ordered: bool, kind: type[Exception]) -> None:
    """E33: it ends no map."""

    def fail_at_two(number: int) -> int:
        if number == 2:
            raise kind("not an end")
        return number

    async with small() as engine:
        with pytest.raises(RemoteError, match="not an end") as caught:
            await _collected(engine.map(fail_at_two, range(5), ordered=ordered))
        assert type(caught.value.__cause__) is kind
