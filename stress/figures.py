"""How fast is it, side by side with the standard executors in the same run?

    python -m stress figures [--rounds N] [--tasks N] [--check] [NAME ...]

Expected: a row for each figure, with its target, then one line of JSON. Each figure is the median over rounds, and in
each round the engine and its peer take turns, so that a machine that is busy for a while is busy for both. With
``--check`` a missed target ends it with 1; on a machine that does other work, that says little.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engine import Engine, Lane
from stress._machine import machine

#: Imports are measured as a user meets them, from the second time on: with compiled modules on disk.
_WITH_BYTECODE = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

SPAWN = multiprocessing.get_context("spawn")
Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Figure:
    """One figure: what is measured, beside what, and what is promised."""

    name: str
    unit: str
    ours: Measure
    peer: Measure | None = None
    most: float | None = None  #: the value may be at most that
    least_ratio: float | None = None  #: a rate: ours over the peer's is at least that
    most_ratio: float | None = None  #: a duration: ours over the peer's is at most that


@dataclass(frozen=True)
class Reading:
    """A figure as measured."""

    figure: Figure
    ours: float
    peer: float | None

    @property
    def ratio(self) -> float | None:
        """Give ours over the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def is_kept(self) -> bool | None:
        """Say whether the target is met; None if there is none."""
        figure, ratio = self.figure, self.ratio
        if figure.most is not None:
            return self.ours <= figure.most
        if figure.least_ratio is not None and ratio is not None:
            return ratio >= figure.least_ratio
        if figure.most_ratio is not None and ratio is not None:
            return ratio <= figure.most_ratio
        return None

    @property
    def target(self) -> str:
        """Give the promise in words."""
        figure = self.figure
        if figure.most is not None:
            return f"<= {figure.most:g} {figure.unit}"
        if figure.least_ratio is not None:
            return f">= {figure.least_ratio:g} x"
        return f"<= {figure.most_ratio:g} x" if figure.most_ratio is not None else "-"


# -- what is measured -----------------------------------------------------------------------------------------------


def nothing(value: int) -> int:
    """Return ``value``."""
    return value


async def nothing_async(value: int) -> int:
    """Return ``value``, as a coroutine."""
    return value


async def import_time() -> float:
    """Milliseconds of importing engine and naming Engine, in an interpreter that has imported asyncio."""
    code = "import asyncio, time; t = time.perf_counter(); from engine import Engine; print(time.perf_counter() - t)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_WITH_BYTECODE)
    return float(run.stdout) * 1e3


async def first_result() -> float:
    """Milliseconds from ``Engine()`` to the first process result."""
    begun = time.perf_counter()
    async with Engine(processes=2) as engine:
        await engine.run(nothing, 1)
        return (time.perf_counter() - begun) * 1e3


async def first_result_of_pool() -> float:
    """As above, of ProcessPoolExecutor with spawn."""
    begun = time.perf_counter()
    pool = ProcessPoolExecutor(2, mp_context=SPAWN)
    await asyncio.get_running_loop().run_in_executor(pool, nothing, 1)
    took = time.perf_counter() - begun
    await asyncio.to_thread(pool.shutdown)
    return took * 1e3


async def overshoot() -> float:
    """Milliseconds at the 99th percentile from the deadline to the handle's TimeoutError."""
    late = []
    async with Engine(threads=4, default_lane="thread", grace=0.001) as engine:
        view = engine.options(timeout=0.02)
        for _ in range(50):
            begun = time.perf_counter()
            tasks = [view.submit(time.sleep, 0.04) for _ in range(2)]
            for task in tasks:
                with contextlib.suppress(TimeoutError):
                    await task
                late.append((time.perf_counter() - begun - 0.02) * 1e3)
    return sorted(late)[int(len(late) * 0.99) - 1]


async def fifty_submits() -> float:
    """Milliseconds of 50 calls of submit."""
    async with Engine() as engine:
        begun = time.perf_counter()
        tasks = [engine.submit(nothing_async, number) for number in range(50)]
        took = time.perf_counter() - begun
        await asyncio.gather(*tasks)
    return took * 1e3


async def hundred_at_once() -> float:
    """Seconds of 100 coroutines of 0.1 s at a limit of 100."""
    async with Engine(coroutines=100) as engine:
        begun = time.perf_counter()
        await asyncio.gather(*[engine.submit(asyncio.sleep, 0.1) for _ in range(100)])
        return time.perf_counter() - begun


async def five_cycles() -> float:
    """Milliseconds of starting and stopping five engines without work."""
    begun = time.perf_counter()
    for _ in range(5):
        async with Engine():
            pass
    return (time.perf_counter() - begun) * 1e3


def flood(lane: Lane, count: int) -> Measure:
    """Measure tasks per second of ``count`` no-ops awaited with gather; the workers are up."""

    async def measure() -> float:
        async with Engine(processes=2, threads=4) as engine:
            fn: Any = nothing_async if lane is Lane.LOOP else nothing
            view = engine if lane is Lane.LOOP else engine.options(lane=lane)
            if lane is Lane.PROCESS:
                await engine.warm_up()
            await asyncio.gather(*[view.submit(fn, number) for number in range(100)])
            begun = time.perf_counter()
            await asyncio.gather(*[view.submit(fn, number) for number in range(count)])
            return count / (time.perf_counter() - begun)

    return measure


def flood_of(make: Callable[[], Executor], count: int) -> Measure:
    """As ``flood``, of ``run_in_executor``."""

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        pool = make()
        await asyncio.gather(*[loop.run_in_executor(pool, nothing, number) for number in range(100)])
        begun = time.perf_counter()
        await asyncio.gather(*[loop.run_in_executor(pool, nothing, number) for number in range(count)])
        took = time.perf_counter() - begun
        await asyncio.to_thread(pool.shutdown)
        return count / took

    return measure


def flood_of_asyncio(count: int) -> Measure:
    """As ``flood``, of asyncio's own tasks."""

    async def measure() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*[asyncio.ensure_future(nothing_async(number)) for number in range(count)])
        return count / (time.perf_counter() - begun)

    return measure


def trip(lane: Lane, count: int = 500) -> Measure:
    """Measure the median microseconds from submit to result of one task after the other."""

    async def measure() -> float:
        async with Engine(processes=1, threads=1) as engine:
            fn: Any = nothing_async if lane is Lane.LOOP else nothing
            view = engine if lane is Lane.LOOP else engine.options(lane=lane)
            return await _median_of(lambda: view.submit(fn, 1), count)

    return measure


def trip_of(make: Callable[[], Executor], count: int = 500) -> Measure:
    """As ``trip``, of ``run_in_executor``."""

    async def measure() -> float:
        loop = asyncio.get_running_loop()
        pool = make()
        took = await _median_of(lambda: loop.run_in_executor(pool, nothing, 1), count)
        await asyncio.to_thread(pool.shutdown)
        return took

    return measure


async def _median_of(once: Callable[[], Awaitable[object]], count: int) -> float:
    await once()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await once()
        times.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(times)


def process_pool() -> Executor:
    """Make the peer of the process lane."""
    return ProcessPoolExecutor(2, mp_context=SPAWN)


def thread_pool() -> Executor:
    """Make the peer of the thread lane."""
    return ThreadPoolExecutor(4)


def figures(tasks: int) -> list[Figure]:
    """Return every figure; ``tasks`` is the size of a flood."""
    return [
        Figure("import", "ms", import_time, most=30),
        Figure("first-result", "ms", first_result, first_result_of_pool, most_ratio=1.2),
        Figure("timeout-p99", "ms", overshoot, most=10),
        Figure("submit-50", "ms", fifty_submits, most=5),
        Figure("hundred-at-once", "s", hundred_at_once, most=0.2),
        Figure("five-cycles", "ms", five_cycles, most=50),
        Figure("flood-process", "/s", flood(Lane.PROCESS, tasks), flood_of(process_pool, tasks), least_ratio=3),
        Figure("flood-thread", "/s", flood(Lane.THREAD, tasks), flood_of(thread_pool, tasks)),
        Figure("flood-loop", "/s", flood(Lane.LOOP, tasks), flood_of_asyncio(tasks)),
        Figure("trip-process", "us", trip(Lane.PROCESS), trip_of(process_pool)),
        Figure("trip-thread", "us", trip(Lane.THREAD), trip_of(thread_pool)),
        Figure("trip-loop", "us", trip(Lane.LOOP)),
    ]


# -- the run --------------------------------------------------------------------------------------------------------


def measure(figure: Figure, rounds: int) -> Reading:
    """Take turns ``rounds`` times, and return the medians."""
    ours: list[float] = []
    peers: list[float] = []
    for number in range(rounds):
        turns: list[tuple[list[float], Measure]] = [(ours, figure.ours)]
        if figure.peer is not None:
            turns.insert(number % 2, (peers, figure.peer))
        for results, one in turns:
            results.append(asyncio.run(_await(one)))
    return Reading(figure, statistics.median(ours), statistics.median(peers) if peers else None)


async def _await(one: Measure) -> float:
    return await one()


def row(reading: Reading) -> str:
    """Return one line of the table."""
    peer = f"{reading.peer:14,.2f}" if reading.peer is not None else f"{'-':>14}"
    ratio = f"{reading.ratio:7.2f}" if reading.ratio is not None else f"{'-':>7}"
    verdict = {True: "kept", False: "MISSED", None: ""}[reading.is_kept]
    figure = reading.figure
    return f"{figure.name:16}{figure.unit:>4}{reading.ours:14,.2f}{peer}{ratio}  {reading.target:12}{verdict}"


def main(arguments: list[str]) -> int:
    """Run the script; return 1 if ``--check`` was given and a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m stress figures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these figures")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks in a flood (default: 20000)")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    options = parser.parse_args(arguments)
    known = figures(options.tasks)
    if unknown := set(options.names) - {figure.name for figure in known}:
        parser.error(f"expected names among {', '.join(figure.name for figure in known)}, got {', '.join(unknown)}")
    logging.getLogger("engine").setLevel(logging.CRITICAL)  # abandoned attempts are part of what is measured
    print(f"machine {machine()}\nseed none")
    print(f"{'figure':16}{'':>4}{'engine':>14}{'standard':>14}{'ratio':>7}  target", flush=True)
    readings = []
    for figure in known:
        if not options.names or figure.name in options.names:
            readings.append(measure(figure, options.rounds))
            print(row(readings[-1]), flush=True)
    print(json.dumps({"script": "figures", "rounds": options.rounds, "figures": {
        reading.figure.name: {"unit": reading.figure.unit, "engine": reading.ours, "standard": reading.peer,
                              "ratio": reading.ratio, "target": reading.target, "kept": reading.is_kept}
        for reading in readings
    }}))  # fmt: skip
    missed = [reading.figure.name for reading in readings if reading.is_kept is False]
    if missed and options.check:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0
