"""A map with several readers: on one loop they share the results; a blocking map has one at a time."""

import asyncio
import contextlib
import functools
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from engine import Engine, TaskState
from engine._blocking_map import BlockingMap
from engine._blocking_task_map import BlockingTaskMap
from engine._map import MapResults
from tests.support import eventually, eventually_async

STUCK = 20


def small(**settings: Any) -> Engine:
    """Make an engine with two slots in each lane."""
    return Engine(**{"threads": 2, "coroutines": 2, "default_lane": "thread", "grace": 0.05, **settings})


async def turn(number: int) -> int:
    await asyncio.sleep(0.001)
    return number


async def counted(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await asyncio.sleep(0)
        yield number


async def collected(results: AsyncIterator[int]) -> list[int]:
    return [result async for result in results]


async def readers_of(results: MapResults[int], count: int) -> list[list[int]]:
    async with asyncio.timeout(STUCK):
        return await asyncio.gather(*(collected(results) for _ in range(count)))


# -- on a loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("settings", [{}, {"max_pending": 1}])
@pytest.mark.parametrize(("count", "window"), [(2, 1), (2, 3), (5, 3), (5, None)])
async def test_several_readers_share_the_results(
    ordered: bool, asynchronous: bool, settings: dict[str, Any], count: int, window: int | None
) -> None:
    """E34: each result goes to one of them, and all come to the end."""
    async with small(**settings) as engine:
        source: Any = counted(40) if asynchronous else range(40)
        parts = await readers_of(engine.map(turn, source, ordered=ordered, window=window), count)
    assert sorted(itertools.chain.from_iterable(parts)) == list(range(40))
    if ordered:
        assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_reader_that_waits_goes_on_where_another_one_took_a_result_and_reads_no_more(ordered: bool) -> None:
    """E34: the place that was taken in the window is filled by whoever waits."""
    async with small() as engine, asyncio.timeout(STUCK):
        results = engine.map(turn, range(3), ordered=ordered, window=1)
        first, second = asyncio.create_task(anext(results)), asyncio.create_task(anext(results))
        assert sorted(await asyncio.gather(first, second)) == [0, 1]
        await results.aclose()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_the_failure_that_one_reader_sees_ends_the_others(ordered: bool, asynchronous: bool) -> None:
    """E34: nobody waits for what is cancelled then, nor closes the source a second time."""

    async def fail_at_seven(number: int) -> int:
        if number == 7:
            raise ValueError("seven")
        return await turn(number)

    async with small() as engine, asyncio.timeout(STUCK):
        source: Any = counted(40) if asynchronous else range(40)
        results = engine.map(fail_at_seven, source, ordered=ordered, window=4)
        found = await asyncio.gather(*(collected(results) for _ in range(4)), return_exceptions=True)
    assert [str(each) for each in found if isinstance(each, BaseException)] == ["seven"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_closing_a_map_ends_the_readers_that_wait(ordered: bool, asynchronous: bool) -> None:
    """E34: with ``aclose``, or because one of them is cancelled, also while the source takes its time to close."""
    closed = []

    async def slow_to_close() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.sleep(STUCK)
        finally:
            await asyncio.sleep(0.05)
            closed.append(1)

    async def forever(_: int) -> int:
        await asyncio.sleep(STUCK)
        return 0

    async with small() as engine, asyncio.timeout(STUCK):
        for by_cancel in (False, True):
            source: Any = slow_to_close() if asynchronous else range(40)
            results = engine.map(forever, source, ordered=ordered, window=4)
            readers = [asyncio.create_task(collected(results)) for _ in range(3)]
            await eventually_async(lambda: engine.snapshot().count(TaskState.RUNNING))
            await asyncio.sleep(0)
            if by_cancel:
                readers[0].cancel()
            else:
                await results.aclose()
            found = await asyncio.gather(*readers, return_exceptions=True)
            assert [each for each in found if not isinstance(each, asyncio.CancelledError)] == [[]] * (3 - by_cancel)
    assert len(closed) == 2 * asynchronous


# -- on threads -------------------------------------------------------------------------------------------------------


REFUSED = r"^expected one reader of a map at a time, got another one; give each thread its own map, or hand results on"


@pytest.mark.parametrize("ordered", [True, False])
def test_a_second_thread_is_refused_while_one_reads_a_blocking_map(ordered: bool) -> None:
    """E35: who reads loses nothing by it; once it is through, anybody may go on."""
    release = threading.Event()

    def hold(number: int) -> int:
        release.wait(STUCK)
        return number

    with small() as engine:
        results = engine.map(hold, range(4), ordered=ordered, window=2)
        found: list[int] = []
        reader = threading.Thread(target=lambda: found.append(next(results)))
        reader.start()
        eventually(lambda: results._reader and engine.snapshot().count(TaskState.RUNNING) == 2)
        for _ in range(3):
            with pytest.raises(RuntimeError, match=REFUSED):
                next(results)
        release.set()
        reader.join(STUCK)
        assert sorted(found + list(results)) == [0, 1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_blocking_map_that_many_threads_read_loses_nothing(ordered: bool) -> None:
    """E35: each of them gets results or is refused; nothing is given twice, and nobody waits for ever."""

    def slow(number: int) -> int:
        time.sleep(0.001)
        return number

    with small() as engine:
        results = engine.map(slow, range(60), ordered=ordered, window=5)
        found: list[int] = []
        others: list[BaseException] = []

        def read() -> None:
            while True:
                try:
                    found.append(next(results))
                except StopIteration:
                    return
                except RuntimeError as error:
                    if "expected one reader" not in str(error):
                        others.append(error)
                        return
                    time.sleep(0.0001)
                except BaseException as error:
                    others.append(error)
                    return

        threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(STUCK)
        assert not any(thread.is_alive() for thread in threads)
        assert others == []
        assert sorted(found) == list(range(60))


def is_full(results: Any, window: int) -> bool:
    assert isinstance(results, BlockingTaskMap)
    return len(results._tasks) == window


def test_a_source_that_reads_its_own_map_is_refused() -> None:
    """E35: it is the second reader there."""
    held: list[BlockingMap[int]] = []

    def source() -> Iterator[int]:
        with contextlib.suppress(StopIteration):
            yield next(held[0])

    with small() as engine:
        held.append(engine.map(abs, source()))
        with pytest.raises(RuntimeError, match=REFUSED):
            next(held[0])
        assert list(held[0]) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_another_thread_may_close_a_blocking_map_that_is_read(ordered: bool) -> None:
    """E35: whoever waits for a result of it is at its end then."""
    release = threading.Event()
    with small() as engine:
        for _ in range(20):
            results = engine.map(lambda _: release.wait(STUCK), range(40), ordered=ordered, window=4)
            found: list[Any] = []

            def read(results: BlockingMap[Any] = results, found: list[Any] = found) -> None:
                try:
                    found.append(list(results))
                except BaseException as error:
                    found.append(error)

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            eventually(functools.partial(is_full, results, 4))
            results.close()
            reader.join(STUCK)
            assert found == [[]]
        release.set()
