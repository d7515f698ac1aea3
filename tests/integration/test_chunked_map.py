"""Items of a map that travel many at a time, and are what they would be each on its own (design/0011)."""

import asyncio
import contextvars
import itertools
import os
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine import BlockingEngine, Engine, EngineClosed, Retry
from engine._blocking_chunked_map import BlockingChunkedMap
from engine._chunk_size import ChunkSize
from engine._chunked_map import ChunkedMap
from engine._lanes import processes
from engine._lanes._process import chunk_watch
from engine._lanes._process.native import NativeWorker
from engine._lanes.chunk import Chunk
from engine._wire.page import ALL_ITEMS
from engine.errors import EngineError, PickleError, TaskDecodeError, WorkerCrashed
from tests.contracts.process_front import native_workers
from tests.integration import chunk_functions as functions
from tests.integration import liars
from tests.integration.chunk_functions import Reading, noted
from tests.support import eventually, eventually_async

STUCK = 60.0  #: seconds; a bound for what never happens, not a measurement


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have chunks of 200 items from the first on; give how many items each one that was sent had."""
    return _sizes_of(200, monkeypatch)


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have every item travel by itself, as where each takes long; give how many items each chunk that was sent had."""
    return _sizes_of(1, monkeypatch)


@pytest.fixture(params=["large", "single"])
def of_any_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return _sizes_of(200 if request.param == "large" else 1, monkeypatch)


def _sizes_of(items: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    def of_so_many(size: ChunkSize, most: int = items) -> None:
        size._most = size.items = min(most, items)
        size.item_seconds = 1e-5

    monkeypatch.setattr(ChunkSize, "__init__", of_so_many)
    monkeypatch.setattr(ChunkSize, "learn", lambda size, chunk: None)
    sizes: list[int] = []
    send_row = NativeWorker.send_row

    def noted_send(worker: NativeWorker, row: list[tuple[Any, Any]]) -> int:
        sizes.extend([len(attempt.args.items) for attempt, _ in row if type(attempt.args) is Chunk])
        return send_row(worker, row)

    monkeypatch.setattr(NativeWorker, "send_row", noted_send)
    return sizes


async def of(results: Any) -> list[Any]:
    async with asyncio.timeout(STUCK):
        return [result async for result in results]


async def test_chunks_grow_with_what_is_measured_and_results_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    learn = ChunkSize.learn

    def noted_learn(size: ChunkSize, chunk: Chunk) -> None:
        learn(size, chunk)
        sizes.append(size.items)

    monkeypatch.setattr(ChunkSize, "learn", noted_learn)
    async with Engine(processes=2) as engine:
        assert await of(engine.map(abs, range(0, -30_000, -1))) == list(range(30_000))
        assert sorted(await of(engine.map(abs, range(30_000), ordered=False))) == list(range(30_000))
        assert await of(engine.map(pow, range(3000), itertools.repeat(2))) == [n * n for n in range(3000)]
        assert await of(engine.map(partial(pow, 2), range(300))) == [2**n for n in range(300)]
        assert await of(engine.map(lambda n: n + 1, range(3000))) == list(range(1, 3001))
        assert await of(engine.map(abs, [])) == []
        completed = sum([lane.completed for lane in engine.snapshot().lanes.values()])
    assert max(sizes) > 16
    assert completed < 66_000 / 4


async def test_few_items_are_in_hand_until_one_has_come_back(tmp_path: Path) -> None:
    """Those behind them travel in chunks of a size that is known then."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=0, gate=str(tmp_path / "gate"))
    async with Engine(processes=1) as engine:
        results = engine.map(call, items())
        first = asyncio.ensure_future(anext(results))
        await eventually_async(lambda: noted(tmp_path) == [0], STUCK)
        assert read == [0, 1]
        (tmp_path / "gate").touch()
        assert [await first, *await of(results)] == list(range(100))


def test_the_blocking_map_does_the_same(large: list[int]) -> None:
    with Engine(processes=2) as engine:
        assert list(engine.map(abs, range(0, -3000, -1))) == list(range(3000))
        assert sorted(engine.map(abs, range(3000), ordered=False)) == list(range(3000))
        assert list(engine.map(pow, range(3000), itertools.repeat(2))) == [n * n for n in range(3000)]
    assert 200 in large


async def test_a_range_travels_as_one_and_its_numbers_are_made_in_the_worker(
    large: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose numbers are longer than a machine's, or that is longer than any list."""
    kinds: set[type] = set()
    init = Chunk.__init__

    def noted_init(chunk: Chunk, owner: Any, lock: Any, items: Any, **kwargs: Any) -> None:
        kinds.add(type(items))
        init(chunk, owner, lock, items, **kwargs)

    monkeypatch.setattr(Chunk, "__init__", noted_init)
    async with Engine(processes=2) as engine:
        for numbers in (range(0), range(1), range(1000), range(5000, -1, -7), range(10**30, 10**30 + 999)):
            assert await of(engine.map(int, numbers)) == list(numbers)
        results = engine.map(int, range(0, -(10**30), -1))
        assert [await anext(results) for _ in range(1000)] == list(range(0, -1000, -1))
        await results.aclose()
        assert kinds == {range}
        assert await of(engine.map(int, iter(range(1000)))) == list(range(1000))
        assert kinds == {range, list}


async def test_values_of_every_kind_keep_their_order_and_type(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        found = await of(engine.map(functions.of_many_kinds, range(1000)))
    assert found == [functions.of_many_kinds(number) for number in range(1000)]
    assert [type(each) for each in found] == [type(functions.of_many_kinds(number)) for number in range(1000)]


async def test_items_whose_context_cannot_be_made_fail_each_for_itself(
    of_any_size: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """E193: as a task does; each item ended a worker process."""
    module: Any = types.ModuleType("only_in_the_parent")
    module.HERE = contextvars.ContextVar("HERE")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.HERE.set(1)
    async with Engine(processes=2, context=[f"{module.__name__}:HERE"]) as engine:
        with pytest.raises(ModuleNotFoundError):
            await engine.submit(abs, -1)
        found = await of(engine.map(abs, range(1000), return_exceptions=True))
        crashes = engine.snapshot().crashes
    assert {type(each) for each in found} == {ModuleNotFoundError}
    assert len(found) == 1000
    assert not crashes


async def test_a_result_is_what_it_was_when_it_was_returned(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        assert await of(engine.map(functions.remember, range(1000))) == [[number] for number in range(1000)]


async def test_each_item_fails_for_itself(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        found = await of(engine.map(functions.fail_at_times, range(1000), return_exceptions=True))
        results = engine.map(functions.fail_at_times, range(1000))
        assert [await anext(results) for _ in range(7)] == list(range(7))
        with pytest.raises(ValueError, match="7"):
            await anext(results)
    for number, each in enumerate(found):
        kinds = {7: "ValueError", 8: "RemoteError", 9: "CancelledError"}
        assert type(each).__name__ == kinds.get(number % 100, "int"), (number, each)


def test_a_failure_is_raised_in_its_turn(of_any_size: list[int]) -> None:
    with Engine(processes=2) as engine:
        results = engine.map(functions.fail_at_times, range(1000))
        assert [next(results) for _ in range(7)] == list(range(7))
        with pytest.raises(ValueError, match="7"):
            next(results)
        results = engine.map(functions.fail_at_times, range(9, 1000))
        with pytest.raises(CancelledError):
            next(results)
        assert list(results) == []


async def test_items_that_cannot_travel_fail_alone(of_any_size: list[int]) -> None:
    items: list[Any] = list(range(600))
    items[50] = threading.Lock()
    items[250] = Reading(functions.refuse)
    items[450] = Reading(functions.die)
    async with Engine(processes=2) as engine:
        found = await of(engine.map(functions.hold, items, return_exceptions=True))
        assert engine.snapshot().malformed == 0
    odd = {index: type(each) for index, each in enumerate(found) if each != index}
    assert odd == {50: PickleError, 250: TaskDecodeError, 450: WorkerCrashed}
    assert of_any_size.count(200) >= 2 or set(of_any_size) == {1}
    assert 1 in of_any_size


async def test_results_that_cannot_travel_fail_alone(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        found = await of(engine.map(functions.unpicklable_at_times, range(1000), return_exceptions=True))
    assert [index for index, each in enumerate(found) if each != index] == [3, 503]
    assert isinstance(found[3], PickleError)


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_crash_costs_what_may_have_run_and_nothing_else(
    large: list[int], ordered: bool, tmp_path: Path
) -> None:
    call = partial(functions.note_or_die, str(tmp_path / "runs"), deadly=431)
    async with Engine(processes=2) as engine:
        found = await of(engine.map(call, range(1000), return_exceptions=True, ordered=ordered))
        assert engine.snapshot().crashes == 1
    crashed = [each for each in found if isinstance(each, WorkerCrashed)]
    assert crashed
    assert all(each.may_have_run for each in crashed)
    together = f": {len(crashed)} items of a map, which fail together"
    assert all((together in str(each)) is (len(crashed) > 1) for each in crashed)
    ran = noted(tmp_path)
    assert sorted(ran) == list(range(1000)), "an item ran twice, or never"
    values = [each for each in found if not isinstance(each, WorkerCrashed)]
    lost = set(range(1000)) - set(values)
    assert len(found) == 1000
    assert len(values) == len(set(values))
    assert len(lost) == len(crashed)
    assert 431 in lost
    assert lost <= set(range(400, 432)), "only what had begun in that chunk"
    if ordered:
        assert [index for index, each in enumerate(found) if isinstance(each, WorkerCrashed)] == sorted(lost)


async def test_a_crash_of_an_item_that_travels_by_itself_costs_that_item(single: list[int], tmp_path: Path) -> None:
    call = partial(functions.note_or_die, str(tmp_path / "runs"), deadly=31)
    async with Engine(processes=2) as engine:
        found = await of(engine.map(call, range(100), return_exceptions=True))
        assert engine.snapshot().crashes == 1
    assert set(single) == {1}
    assert isinstance(crash := found.pop(31), WorkerCrashed)
    assert crash.may_have_run
    assert found == [number for number in range(100) if number != 31]
    assert sorted(noted(tmp_path)) == list(range(100)), "an item ran twice, or never"


async def test_a_result_of_an_item_that_travels_by_itself_is_rebuilt_on_a_thread(single: list[int]) -> None:
    async with Engine(processes=2) as engine:
        found = await of(engine.map(functions.Plain, range(100)))
        assert not engine.tasks(state="running")
    assert [type(each) for each in found] == [functions.Plain] * 100
    assert set(single) == {1}


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_long_item_holds_up_no_other(large: list[int], workers: int, tmp_path: Path) -> None:
    """Those before it are answered, those behind it run elsewhere, while it goes on."""
    gate = tmp_path / "gate"
    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=330, gate=str(gate))
    async with Engine(processes=workers) as engine:
        found = []
        async with asyncio.timeout(STUCK):
            async for number in engine.map(call, range(1000), ordered=False):
                found.append(number)
                if len(found) == (999 if workers == 2 else 330):
                    await eventually_async(lambda: 330 in noted(tmp_path), STUCK)
                    assert 330 not in found
                    gate.touch()
        if workers == 1:
            assert sorted(found[:330]) == list(range(330))
    assert sorted(found) == list(range(1000))
    assert sorted(noted(tmp_path)) == list(range(1000))


async def test_a_chunk_is_sent_ahead_and_its_answers_are_told_from_those_before(large: list[int]) -> None:
    """The loop reads the answers of the first chunk when its worker is at the next one already."""
    async with Engine(processes=1) as engine:
        await engine.warm_up()
        held: list[int] = []
        found = []
        async for total in engine.map(sum, [range(number, number + 1000) for number in range(3000)]):
            found.append(total)
            (worker,) = native_workers(engine)
            if worker.count() > 1 and not held:
                held.append(worker.first())
                eventually(partial(_has_gone_on, worker, held[0]), STUCK)
        assert held, "expected a chunk behind another"
        assert engine.snapshot().malformed == 0
    assert found == [sum(range(number, number + 1000)) for number in range(3000)]


def _has_gone_on(worker: NativeWorker, number: int) -> bool:
    return worker.last_begun() > number and worker.items_begun(number) == ALL_ITEMS


async def test_a_chunk_behind_one_that_takes_long_runs_elsewhere(
    large: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(chunk_watch, "LATE_SECONDS", STUCK)  # the one in front is not divided
    gate = tmp_path / "gate"
    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=1030, gate=str(gate))
    async with Engine(processes=2) as engine:
        await engine.warm_up()  # or one that comes late is sent the long one alone
        found = []
        async with asyncio.timeout(STUCK):
            async for number in engine.map(call, range(3000), window=3000, ordered=False):
                found.append(number)
                if len(found) == 2800:
                    assert engine.snapshot().given_back
                    gate.touch()
    assert sorted(found[-200:]) == list(range(1000, 1200))
    assert sorted(noted(tmp_path)) == sorted(found) == list(range(3000))


async def test_workers_outlive_a_map_that_is_broken_off(large: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "POLITE_SECONDS", STUCK)  # however busy the machine is
    async with Engine(processes=2, grace=2 * STUCK) as engine:
        await engine.warm_up()
        before = {worker.pid for worker in engine.snapshot().workers}
        for _ in range(20):
            async for _ in engine.map(abs, range(5000)):
                break
        assert await of(engine.map(abs, range(500))) == list(range(500))
        assert before <= {worker.pid for worker in engine.snapshot().workers}
        snapshot = engine.snapshot()
        assert (snapshot.crashes, snapshot.malformed) == (0, 0)
        await eventually_async(lambda: not engine.tasks(state="running"), STUCK)


async def test_an_item_that_goes_on_is_stopped_with_its_map(of_any_size: list[int], tmp_path: Path) -> None:
    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=3, gate=str(tmp_path / "gate"))
    async with Engine(processes=1, grace=0.2) as engine:
        results = engine.map(call, range(1000))
        assert await anext(results) == 0
        await eventually_async(lambda: 3 in noted(tmp_path), STUCK)
        await results.aclose()
        assert await engine.run(abs, -1) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(results)


class Counted:
    """An endless source that knows how far it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.read += 1
        return self.read - 1


async def test_the_source_is_read_no_further_than_the_window() -> None:
    source = Counted()
    async with Engine(processes=2) as engine:
        results = engine.map(abs, source, window=100)
        assert isinstance(results, ChunkedMap)
        taken = 0
        async for number in results:
            assert number == taken
            taken += 1
            assert source.read <= taken + 100
            if taken == 5000:
                break


async def test_a_slow_source_holds_up_no_result(large: list[int]) -> None:
    """A chunk is not filled up by waiting: the first result comes while the source has read little."""
    release: list[int] = []

    def slow() -> Iterator[int]:
        for number in range(1000):
            if number == 10:
                release.append(number)
            threads_pause()
            yield number

    async with Engine(processes=2) as engine:
        results = engine.map(abs, slow())
        assert await anext(results) == 0
        assert await of(results) == list(range(1, 1000))
    assert max(large) < 100


def threads_pause() -> None:
    """Take a moment, as a read from a disk does."""
    time.sleep(0.0005)


def failing() -> Iterator[int]:
    yield from range(500)
    raise KeyError("source")


async def test_a_source_that_fails_ends_the_map_behind_what_it_gave(large: list[int]) -> None:
    async with Engine(processes=2) as engine:
        results = engine.map(abs, failing())
        async with asyncio.timeout(STUCK):
            assert [await anext(results) for _ in range(500)] == list(range(500))
        with pytest.raises(KeyError, match="source"):
            await anext(results)
        assert await of(results) == []


def test_errors_come_with_their_own_context_and_no_other() -> None:
    def failing() -> Iterator[int]:
        yield 0
        try:
            raise ValueError("first")
        except ValueError:
            raise KeyError("source")  # noqa: B904  # the context is what is tested

    with Engine(processes=1) as engine:
        results = engine.map(abs, failing())
        assert next(results) == 0
        with pytest.raises(KeyError, match="source") as caught:
            next(results)
        failed = engine.map(functions.fail_at_times, range(7, 9))
        with pytest.raises(ValueError, match="7") as of_an_item:
            next(failed)
    assert isinstance(caught.value.__context__, ValueError)
    assert not caught.value.__suppress_context__
    assert of_an_item.value.__context__ is None


def test_a_source_that_fails_ends_a_blocking_map_behind_what_it_gave(large: list[int]) -> None:
    with Engine(processes=2) as engine:
        results = engine.map(abs, failing())
        assert [next(results) for _ in range(500)] == list(range(500))
        with pytest.raises(KeyError, match="source"):
            next(results)
        assert list(results) == []


async def test_several_readers_share_a_map(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        results = engine.map(abs, range(3000))
        parts = await asyncio.gather(*[of(results) for _ in range(3)])
    assert sorted(itertools.chain(*parts)) == list(range(3000))


def test_a_stop_waits_for_what_is_in_hand_then_the_map_ends(of_any_size: list[int]) -> None:
    engine = Engine(processes=2)
    with engine as blocking, ThreadPoolExecutor(1) as pool:
        results = blocking.map(abs, itertools.count())
        found = [next(results)]
        stopping = pool.submit(blocking.stop)
        with pytest.raises(EngineClosed):
            found.extend(results)
        assert found == list(range(len(found)))
        report = stopping.result(STUCK)
        assert report.submitted == report.completed


async def test_a_stop_waits_for_what_a_crashed_chunk_had_not_begun(large: list[int], tmp_path: Path) -> None:
    call = partial(functions.note_or_die, str(tmp_path / "runs"), deadly=100)
    async with Engine(processes=1) as engine:
        results = engine.map(call, range(200), return_exceptions=True)
        found = [await anext(results)]
        stop = asyncio.create_task(engine.stop())
        found += await of(results)
        report = await asyncio.wait_for(stop, STUCK)
        assert report.cancelled == 0
    assert len(found) == 200
    assert sorted(noted(tmp_path)) == list(range(200))


async def test_cancelling_its_tasks_cancels_the_items(of_any_size: list[int], tmp_path: Path) -> None:
    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=3, gate=str(tmp_path / "gate"))
    async with Engine(processes=1, grace=0.2) as engine:
        view = engine.options(name="mine")
        results = view.map(call, range(300), return_exceptions=True)
        assert [await anext(results) for _ in range(3)] == [0, 1, 2]
        await eventually_async(lambda: 3 in noted(tmp_path), STUCK)
        engine.cancel(name="mine")
        assert isinstance(await anext(results), asyncio.CancelledError)
        await results.aclose()


@pytest.mark.parametrize("most", [1, 3])
async def test_a_map_waits_for_room(of_any_size: list[int], most: int) -> None:
    async with Engine(processes=2, max_pending=most) as engine:
        found = await asyncio.gather(*[of(engine.map(abs, range(2000))) for _ in range(3)])
        assert found == [list(range(2000))] * 3


def test_a_blocking_map_waits_for_room(of_any_size: list[int]) -> None:
    with Engine(processes=2, max_pending=1) as engine, ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: list(engine.map(abs, range(2000))), range(3)))
        assert found == [list(range(2000))] * 3


async def test_a_child_that_an_item_forks_answers_nothing(of_any_size: list[int]) -> None:
    async with Engine(processes=2) as engine:
        assert await of(engine.map(functions.fork_at_times, range(1000))) == list(range(1000))
        assert engine.snapshot().malformed == 0


async def test_lines_of_items_are_not_joined(of_any_size: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    async with Engine(processes=1) as engine:
        assert await of(engine.map(functions.say, range(400))) == list(range(400))
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == [str(number) for number in range(400)]


async def test_what_says_something_of_each_attempt_is_not_put_together(large: list[int]) -> None:
    async with Engine(processes=2) as engine:
        for view in (
            engine.options(timeout=30), engine.options(total_timeout=30), engine.options(retry=Retry()),
        ):  # fmt: skip
            assert not isinstance(view.map(abs, [1]), ChunkedMap)
        assert not isinstance(engine.map(abs, [1], window=3), ChunkedMap)
        assert not isinstance(engine.options(lane="thread").map(abs, [1]), ChunkedMap)
    async with Engine(processes=2, max_tasks_per_worker=5) as engine:
        assert not isinstance(engine.map(abs, [1]), ChunkedMap)
        assert await of(engine.map(abs, range(50))) == list(range(50))
    async with Engine(processes=1, process_backend="loky") as engine:
        assert await of(engine.map(abs, range(50))) == list(range(50))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_while_workers_are_struck_every_result_comes_once(number: signal.Signals) -> None:
    async with Engine(processes=2) as engine:
        await engine.warm_up()
        found: list[Any] = []
        strikes = 0
        async with asyncio.timeout(2 * STUCK):
            async for each in engine.map(abs, range(100_000), return_exceptions=True):
                found.append(each)
                if len(found) % 7000 == 0:
                    worker = native_workers(engine)[strikes % 2] if len(native_workers(engine)) > 1 else None
                    if worker is not None and worker.pid is not None:
                        strikes += 1
                        os.kill(worker.pid, number)
                        asyncio.get_running_loop().call_later(0.05, _go_on, worker)
        assert strikes
        assert len(found) == 100_000
        assert all(each == index or isinstance(each, WorkerCrashed) for index, each in enumerate(found))
        if number == signal.SIGSTOP:
            assert found == list(range(100_000))
        assert engine.snapshot().malformed == 0


def _go_on(worker: NativeWorker) -> None:
    if not worker.has_ended() and worker.pid is not None:
        os.kill(worker.pid, signal.SIGCONT)


def test_a_map_that_is_dropped_is_cancelled(large: list[int], tmp_path: Path) -> None:
    call = partial(functions.note_or_wait, str(tmp_path / "runs"), slow=3, gate=str(tmp_path / "gate"))
    engine: BlockingEngine
    with Engine(processes=1, grace=0.1) as engine:
        results = engine.map(call, range(10_000))
        assert next(results) == 0
        del results
        eventually(lambda: not engine.tasks(state="pending") and not engine.tasks(state="running"), STUCK)
        assert engine.run(abs, -1) == 1


@pytest.mark.parametrize("lie", sorted(liars.ITEM_LIES))
async def test_an_item_that_lies_about_its_chunk_costs_what_may_have_run(
    large: list[int], lie: str, tmp_path: Path
) -> None:
    """E59: its worker is replaced, nothing that it says from there on is believed, and it does not run again."""
    runs = tmp_path / "runs"
    async with Engine(processes=2) as engine:
        call = partial(liars.lie_as_an_item, name=lie, runs=str(runs))
        found = await of(engine.map(call, range(1000), return_exceptions=True))
        assert engine.snapshot().malformed == 1
    assert runs.read_text() == "x"
    wrong = {index: each for index, each in enumerate(found) if each != index}
    assert 100 in wrong
    assert set(wrong) <= set(range(101))
    assert all(isinstance(each, EngineError) for each in wrong.values())
    assert len(found) == 1000


@pytest.mark.parametrize("lie", sorted(set(liars.ITEM_LIES) - {"a_value_as_the_end"}))  # which is none here
async def test_an_item_that_travels_by_itself_and_lies_costs_itself(
    single: list[int], lie: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    async with Engine(processes=2) as engine:
        call = partial(liars.lie_as_an_item, name=lie, runs=str(runs))
        found = await of(engine.map(call, range(300), return_exceptions=True))
        assert engine.snapshot().malformed == 1
    assert runs.read_text() == "x"
    assert isinstance(found.pop(100), EngineError)
    assert found == [number for number in range(300) if number != 100]


def test_another_thread_may_close_a_chunked_map_between_two_steps_of_its_reader(large: list[int]) -> None:
    """The reader has results at hand, and they are gone when it takes one: it is at the end."""
    with Engine(processes=1) as engine:
        results = engine.map(abs, range(1000))
        assert isinstance(results, BlockingChunkedMap)
        results._ready = Closing(results)
        assert list(results) == []


class Closing(deque[int]):
    """Is emptied by a close in the instant before something is taken."""

    def __init__(self, results: BlockingChunkedMap[int]) -> None:
        super().__init__()
        self.results = results

    def popleft(self) -> int:
        if self:
            self.results.close()
        return super().popleft()
