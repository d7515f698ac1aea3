"""What attacks on maps in chunks have found; design/0011."""

import asyncio
import functools
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineFull, PickleError, TaskState, WorkerCrashed, _chunks
from engine._chunk_size import ChunkSize
from engine._lanes import processes
from tests.integration import chunk_functions as functions
from tests.support import eventually, eventually_async

STUCK = 30.0  #: seconds; a bound for what never happens, not a measurement
IS_DECODING = "engine-decoder"  #: how the threads are named that rebuild results


def same(item: Any) -> Any:
    return item


class Rebuilt:
    """Takes a while to be rebuilt in the parent, which says so in the file ``path`` for item 1,499."""

    def __init__(self, item: int, path: str) -> None:
        self.item, self.path = item, path

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.item, self.path)


def rebuild(item: int, path: str) -> Rebuilt:
    if threading.current_thread().name.startswith(IS_DECODING):
        if item == 1_499:
            Path(path).touch()
        time.sleep(0.02)
    return Rebuilt(item, path)


class Unpicklable:
    """Cannot travel."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("expected to stay")


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Have threads take turns after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


async def test_workers_survive_the_closing_of_maps_of_tiny_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """E50: a map of tiny items is closed; what its workers still answer is no break of the protocol."""
    monkeypatch.setattr(processes, "POLITE_SECONDS", STUCK)  # however busy the machine is
    async with Engine(processes=2, grace=2 * STUCK) as engine:
        await engine.warm_up()
        pids = {worker.pid for worker in engine.snapshot().workers}
        for _ in range(10):
            count = 0
            async for value in engine.map(same, range(1_000_000)):
                assert value == count
                count += 1
                if count == 20_000:
                    break
        assert [value async for value in engine.map(same, range(5_000))] == list(range(5_000))
        snapshot = engine.snapshot()
        assert snapshot.malformed == 0
        assert {worker.pid for worker in snapshot.workers} >= pids


def test_workers_survive_maps_that_are_closed_by_another_thread(quick_switches: None) -> None:
    """E50: as above; the end of the chunk may come before the thread that closes has said that it is over."""
    with BlockingEngine(processes=2) as engine:
        for _ in range(20):
            results = engine.map(same, range(1_000_000))
            assert [next(results) for _ in range(2_000)] == list(range(2_000))
            results.close()
        assert list(engine.map(same, range(5_000))) == list(range(5_000))
        assert engine.snapshot().malformed == 0


class Gate:
    """Where the parent stops while it rebuilds a result."""

    reached, open = threading.Event(), threading.Event()


def pass_gate() -> str:
    Gate.reached.set()
    Gate.open.wait(STUCK)
    return "passed"


class Gated:
    """Is rebuilt in the parent once the gate is open."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pass_gate, ()


def gated(_: int) -> Gated:
    return Gated()


async def test_a_cancel_while_results_are_rebuilt_leaves_no_item_without_an_outcome() -> None:
    """E51: a chunk is cancelled while its answers are decoded: each item is a value or a cancellation, never None."""
    Gate.reached.clear()
    Gate.open.clear()
    try:
        async with Engine(processes=2) as engine:
            results = engine.map(gated, range(4), return_exceptions=True)
            first = asyncio.ensure_future(anext(results))
            await eventually_async(Gate.reached.is_set)
            assert engine.cancel(name="gated")
            values: list[Any] = [await asyncio.wait_for(first, STUCK)]
            Gate.open.set()
            values += [value async for value in results]
    finally:
        Gate.open.set()
    assert len(values) == 4
    assert type(values[0]) is asyncio.CancelledError
    assert {"passed" if value == "passed" else type(value) for value in values} <= {"passed", asyncio.CancelledError}


def test_what_cannot_travel_is_taken_back_before_its_submit_has_returned(quick_switches: None) -> None:
    """E52: the loop fails a chunk while the reader's thread still submits it: no item is lost."""
    items = [Unpicklable() if number % 997 == 996 else number for number in range(4_000)]
    with BlockingEngine(processes=2) as engine:
        for _ in range(10):
            results = list(engine.map(same, items, return_exceptions=True))
            assert len(results) == len(items)
            for number, value in enumerate(results):
                assert isinstance(value, PickleError) if number % 997 == 996 else value == number


def rebuilt_until_the_last(item: int, path: str) -> Any:
    if item == 1_500:
        end = time.monotonic() + STUCK
        while not os.path.exists(path) and time.monotonic() < end:
            time.sleep(0.001)
        os._exit(3)
    return Rebuilt(item, path) if 1_450 <= item < 1_500 else item


async def test_what_is_being_rebuilt_survives_the_worker_that_answered_it(tmp_path: Path) -> None:
    """E53: a worker dies while answers that it has sent are decoded: they count, and its last item alone fails."""
    call = functools.partial(rebuilt_until_the_last, path=str(tmp_path / "arrived"))
    async with Engine(processes=2) as engine:
        results = [value async for value in engine.map(call, range(1_600), return_exceptions=True)]
    assert [number for number, value in enumerate(results) if isinstance(value, WorkerCrashed)] == [1_500]
    values = [value.item if isinstance(value, Rebuilt) else value for value in results]
    assert [value for number, value in enumerate(values) if number != 1_500] == [
        number for number in range(1_600) if number != 1_500
    ]


async def test_closing_a_map_closes_its_source() -> None:
    """E54: a map over a generator is closed, and still referred to."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.append(True)

    async with Engine(processes=2) as engine:
        results = engine.map(same, source())
        assert await asyncio.wait_for(anext(results), STUCK) == 0
        await results.aclose()
        assert closed == [True]


def test_closing_a_blocking_map_closes_its_source() -> None:
    """E54: as above; the source is another map, whose window is cancelled with it."""
    with BlockingEngine(processes=2) as engine:
        results = engine.map(same, engine.map(same, range(1_000_000)))
        assert next(results) == 0
        results.close()
        eventually(
            lambda: not [task for task in engine.tasks() if task.state in (TaskState.PENDING, TaskState.RUNNING)]
        )


class Once:
    """May be iterated over once."""

    def __init__(self) -> None:
        self.is_used = False

    def __iter__(self) -> Iterator[int]:
        if self.is_used:
            raise RuntimeError("expected to be asked for an iterator once, got a second time")
        self.is_used = True
        return iter(range(100))


async def test_a_source_is_asked_for_its_iterator_once() -> None:
    """E55: an iterable that may be iterated over once is mapped over, alone and beside another one."""
    async with Engine(processes=2) as engine:
        assert [value async for value in engine.map(same, Once())] == list(range(100))
        assert [value async for value in engine.map(max, Once(), range(100))] == list(range(100))


def test_a_map_that_is_closed_in_the_middle_of_a_take_is_over() -> None:
    """E56: a signal handler closes the map that its thread reads this instant: the reader comes to the end."""
    with BlockingEngine(processes=2) as engine:
        results = engine.map(same, range(10_000))
        assert next(results) == 0
        chunks = results._chunks  # type: ignore[attr-defined]  # where it is interrupted
        inner = chunks._take_from

        def take_from(*args: Any) -> Any:
            taken = inner(*args)
            if taken[0]:
                results.close()
            return taken

        chunks._take_from = take_from
        assert len(list(results)) < 10_000


def quick_then_not(item: int) -> int:
    if item >= 20_000:
        time.sleep(0.001)
    return item


def test_a_reader_that_takes_while_a_chunk_is_divided_loses_nothing() -> None:
    """E57: the reader takes all that is settled between the cut of a chunk and the taking back of its rest."""
    with BlockingEngine(processes=2) as engine, ThreadPoolExecutor(1) as thread:
        results = engine.map(quick_then_not, range(21_000))
        chunks, ready = results._chunks, results._ready  # type: ignore[attr-defined]  # where the threads meet
        take_back, divided = chunks.take_back, []

        def take_first(*args: Any, **kwargs: Any) -> None:
            divided.append(True)
            while values := chunks.take(1_024):
                ready.extend(values)
            take_back(*args, **kwargs)

        chunks.take_back = take_first
        assert sorted(thread.submit(list, results).result(STUCK)) == list(range(21_000))
        assert divided


def test_what_a_chunk_leaves_that_is_cancelled_meanwhile_is_cancelled_with_it() -> None:
    """E58: a thread cancels a chunk between its cut and the taking back of its rest: that does not run on its own."""
    with BlockingEngine(processes=2) as engine, ThreadPoolExecutor(1) as thread:
        results = engine.map(quick_then_not, range(21_000), return_exceptions=True)
        chunks = results._chunks  # type: ignore[attr-defined]  # where the threads meet
        take_back = chunks.take_back
        cut: list[int] = []

        def cancel_first(chunk: Any, items: list[int], **kwargs: Any) -> None:
            if not cut:
                cut.extend(items)
                chunk.task.cancel()
            take_back(chunk, items, **kwargs)

        chunks.take_back = cancel_first
        values = thread.submit(list, results).result(STUCK)
        assert len(values) == 21_000
        assert {type(values[item]) for item in cut} == {asyncio.CancelledError}


@pytest.fixture
def hundreds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have chunks of 200 items from the first on."""

    def of_hundreds(size: ChunkSize, most: int = 200) -> None:
        size._most = size.items = min(most, 200)
        size.item_seconds = 1e-5

    monkeypatch.setattr(ChunkSize, "__init__", of_hundreds)
    monkeypatch.setattr(ChunkSize, "learn", lambda size, chunk: None)


def giving_up_when_full(engine: Any, opened: threading.Event) -> Iterator[int]:
    """Give five items, have the engine full of what waits for ``opened``, and fail."""
    yield from range(5)
    for _ in range(100):
        try:
            engine.options(lane="thread").submit(opened.wait, STUCK)
        except EngineFull:
            break
    raise KeyError("source")


def test_what_a_source_gave_before_it_failed_waits_for_room(hundreds: None) -> None:
    """E211: the engine becomes full while a source is read, which fails then: what it gave comes first all the same."""
    opened, found = threading.Event(), list[int]()
    with BlockingEngine(processes=1, threads=1, max_pending=2) as engine, ThreadPoolExecutor(1) as thread:
        results: Any = engine.map(same, giving_up_when_full(engine, opened))
        try:
            read = thread.submit(found.extend, results)
            eventually(lambda: read.done() or bool(results._chunks._kept), STUCK)
        finally:
            opened.set()
        with pytest.raises(KeyError, match="source"):
            read.result(STUCK)
    assert found == list(range(5))


async def test_what_a_source_gave_before_it_failed_waits_for_room_on_the_loop(hundreds: None) -> None:
    """E211: as above, of a reader that is a coroutine."""
    opened, found = threading.Event(), list[int]()
    async with Engine(processes=1, threads=1, max_pending=2) as engine:
        results: Any = engine.map(same, giving_up_when_full(engine, opened))

        async def read() -> None:
            async for number in results:
                found.append(number)

        reader = asyncio.ensure_future(read())
        try:
            await eventually_async(lambda: reader.done() or bool(results._chunks._kept), STUCK)
        finally:
            opened.set()
        with pytest.raises(KeyError, match="source"):
            await asyncio.wait_for(reader, STUCK)
    assert found == list(range(5))


@pytest.mark.parametrize("is_behind_task", [False, True])
async def test_a_chunk_that_is_sent_along_with_others_is_divided_where_an_item_takes_long(
    hundreds: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_behind_task: bool
) -> None:
    """E212: a chunk travels in one row with an item by itself, or with a task of its function: it is looked at as well.

    What it has finished comes while a long item goes on.
    """
    runs, opened = str(tmp_path / "runs"), tmp_path / "opened"
    call, rest = functions.note_or_wait, (repeat(53), repeat(str(opened)))

    def source() -> Iterator[int]:
        yield from range(2)  # which come slowly, and so travel each by itself
        monkeypatch.setattr(_chunks, "READ_SECONDS", STUCK)
        yield from range(2, 300)

    monkeypatch.setattr(_chunks, "READ_SECONDS", STUCK if is_behind_task else -1.0)

    async with Engine(processes=1) as engine, asyncio.timeout(STUCK):
        for _ in range(20):  # so that it is known to be quick
            await engine.run(call, str(tmp_path / "before"), 0, 1, "")
        first = engine.submit(functools.partial(call, runs, -1, -1, str(tmp_path / "first")))
        await eventually_async(lambda: functions.noted(tmp_path) == [-1], STUCK)
        tasks = [engine.submit(call, runs, number, -1, "") for number in (-3, -2) if is_behind_task]
        results = engine.map(call, repeat(runs), source(), *rest)
        reading = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: len(engine.tasks(state="pending")) >= 3, STUCK)
        (tmp_path / "first").touch()
        found = [await reading] + [await anext(results) for _ in range(52)]
        opened.touch()
        found += [number async for number in results]
        assert found == list(range(300))
        await asyncio.gather(first, *tasks)
