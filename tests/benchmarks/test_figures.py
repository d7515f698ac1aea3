"""The figures of the project, with pytest-benchmark: ``pytest tests/benchmarks --benchmark-only``.

Skipped in the ordinary run. ``python -m stress versus`` measures the same side by side, with the targets.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from engine import Engine, Lane
from stress._workloads.floods import nothing, nothing_async
from stress._workloads.own import overshoot

Bench = Any  # pytest_benchmark ships no types
FLOOD = 5_000
THREADS = 4


def process_pool() -> Executor:
    """Make the peer of the process lane."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def started(runner: asyncio.Runner, **options: Any) -> Engine:
    async def start() -> Engine:
        return await Engine(**options).start()

    return runner.run(start())


def stop(runner: asyncio.Runner, engine: Engine) -> None:
    async def end() -> None:
        await engine.stop()

    runner.run(end())


def on(engine: Engine, lane: Lane) -> Callable[[int], Awaitable[int]]:
    """Return how to submit one no-op to ``lane``."""
    if lane is Lane.LOOP:
        return lambda number: engine.submit(nothing_async, number)
    view = engine.options(lane=lane)
    return lambda number: view.submit(nothing, number)


def test_fifty_submissions(benchmark: Bench, runner: asyncio.Runner) -> None:
    engine = started(runner)

    async def submit() -> float:
        begun = time.perf_counter()
        tasks = [engine.submit(nothing_async, number) for number in range(50)]
        took = time.perf_counter() - begun
        await asyncio.gather(*tasks)
        return took

    benchmark(lambda: runner.run(submit()))
    stop(runner, engine)


def test_a_hundred_tasks_of_a_tenth_of_a_second(benchmark: Bench, runner: asyncio.Runner) -> None:
    engine = started(runner, coroutines=100)

    async def run() -> None:
        await asyncio.gather(*[engine.submit(asyncio.sleep, 0.1) for _ in range(100)])

    benchmark.pedantic(lambda: runner.run(run()), rounds=5)
    stop(runner, engine)


def test_five_cycles_of_start_and_stop(benchmark: Bench, runner: asyncio.Runner) -> None:
    async def cycle() -> None:
        for _ in range(5):
            async with Engine():
                pass

    benchmark(lambda: runner.run(cycle()))


@pytest.mark.parametrize("lane", list(Lane), ids=lambda lane: str(lane.value))
@pytest.mark.parametrize("count", [1, FLOOD], ids=["trip", "flood"])
def test_engine(benchmark: Bench, runner: asyncio.Runner, lane: Lane, count: int) -> None:
    benchmark.group = f"{lane.value} {'trip' if count == 1 else 'flood'}"
    engine = started(runner, processes=2, threads=THREADS)
    submit = on(engine, lane)

    async def run() -> None:
        await asyncio.gather(*[submit(number) for number in range(count)])

    benchmark.pedantic(lambda: runner.run(run()), rounds=200 if count == 1 else 5, warmup_rounds=2)
    stop(runner, engine)


@pytest.mark.parametrize("lane", [Lane.THREAD, Lane.PROCESS], ids=lambda lane: str(lane.value))
@pytest.mark.parametrize("count", [1, FLOOD], ids=["trip", "flood"])
def test_standard_executor(benchmark: Bench, runner: asyncio.Runner, lane: Lane, count: int) -> None:
    benchmark.group = f"{lane.value} {'trip' if count == 1 else 'flood'}"
    pool: Executor = ThreadPoolExecutor(THREADS) if lane is Lane.THREAD else process_pool()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*[loop.run_in_executor(pool, nothing, number) for number in range(count)])

    benchmark.pedantic(lambda: runner.run(run()), rounds=200 if count == 1 else 5, warmup_rounds=2)
    pool.shutdown()


def test_engine_first_process_result(benchmark: Bench, runner: asyncio.Runner) -> None:
    benchmark.group = "first process result"

    async def first() -> None:
        async with Engine(processes=2) as engine:
            await engine.run(nothing, 1)

    benchmark.pedantic(lambda: runner.run(first()), rounds=5)


def test_standard_executor_first_process_result(benchmark: Bench) -> None:
    benchmark.group = "first process result"

    def first() -> None:
        with process_pool() as pool:
            pool.submit(nothing, 1).result()

    benchmark.pedantic(first, rounds=5)


def test_timeout_overshoot(benchmark: Bench, runner: asyncio.Runner) -> None:
    late = benchmark.pedantic(lambda: runner.run(overshoot()), rounds=1)
    benchmark.extra_info["p99_ms"] = late
