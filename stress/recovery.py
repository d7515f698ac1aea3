"""How soon does the engine notice that a worker is dead, and how soon does a slot that was cleared run again?

    python -m stress recovery [--rounds N] [--check] [NAME ...]

Expected: a row for each figure with median, 99th percentile and target, then one line of JSON. Each round is one death,
cancel or timeout. With ``--check`` a missed target ends it with 1; on a machine that does other work, that says little:
a worker that starts, or a parent that is to notice, has to be given a processor first. The first row says how slow the
machine is: a bare interpreter starts in about 10 ms on a quiet one, a worker in two to three times that.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from engine import Engine, Task, TaskTimeout, WorkerCrashed
from stress._machine import machine

STUCK = 60.0  #: seconds; what is killed would take so long
Measure = Callable[[int], Awaitable[list[float]]]


@dataclass(frozen=True)
class Figure:
    """One figure: what is measured, and what is promised of it."""

    name: str
    measure: Measure  #: gives milliseconds, one of each round
    most: float | None = None  #: the value may be at most that
    percentile: int = 50  #: which value


@dataclass(frozen=True)
class Reading:
    """A figure as measured, in milliseconds."""

    figure: Figure
    times: list[float]

    def at(self, percentile: int) -> float:
        """Return the value below which ``percentile`` percent of the times lie."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, len(ordered) * percentile // 100)]

    @property
    def is_kept(self) -> bool | None:
        """Say whether the promise is kept; None if there is none."""
        return None if self.figure.most is None else self.at(self.figure.percentile) <= self.figure.most


# -- what is measured -----------------------------------------------------------------------------------------------


#: What runs next: it returns the time, on the clock that all processes share, and a new worker need import nothing.
instant = time.monotonic


async def bare_start(rounds: int) -> list[float]:
    """Time of an interpreter that does nothing: what the others are to be seen against."""
    times = []
    for _ in range(rounds):
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "")
        await process.wait()
        times.append((time.monotonic() - begun) * 1e3)
    return times


async def running(engine: Engine, task: Task[Any]) -> int:
    """Wait until ``task`` runs; return the pid of its worker."""
    while True:
        for worker in engine.snapshot().workers:
            if worker.task_id == task.id and worker.pid is not None:
                return worker.pid
        await asyncio.sleep(0.001)


async def spare_is_ready(engine: Engine) -> None:
    """Wait until a worker stands by."""
    while not any(worker.state == "idle" for worker in engine.snapshot().workers):
        await asyncio.sleep(0.001)


async def death(rounds: int) -> list[float]:
    """Time from the SIGKILL of a busy worker to the failure of its task."""
    times = []
    async with Engine(processes=2) as engine:
        for _ in range(rounds):
            task = engine.submit(time.sleep, STUCK)
            pid = await running(engine, task)
            killed = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(WorkerCrashed):
                await task
            times.append((time.monotonic() - killed) * 1e3)
    return times


async def own_death(rounds: int) -> list[float]:
    """Time from a worker's own end in the middle of a task to the failure of the task."""
    times = []
    async with Engine(processes=2) as engine:
        for _ in range(rounds):
            try:
                await engine.submit(end_with_the_time)
            except WorkerCrashed as error:
                times.append((time.monotonic() - float(error.stderr.split()[-1])) * 1e3)
    return times


def end_with_the_time() -> None:
    """Write the time, and end this process by a signal."""
    os.write(2, f"{time.monotonic()}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


async def after_cancel(rounds: int) -> list[float]:
    """Time from a cancel to the start of the next task in that slot; a spare worker stands by."""
    times = []
    async with Engine(processes=1, grace=0) as engine:
        await cancel_one(engine)  # from the first interrupted task on it keeps a spare
        for _ in range(rounds):
            times.append(await cancel_one(engine, spare=True))
    return times


async def without_spare(rounds: int) -> list[float]:
    """Time from the first cancel of an engine, which has no spare yet, to the start of the next task in that slot."""
    times = []
    for _ in range(rounds):
        async with Engine(processes=1, grace=0) as engine:
            times.append(await cancel_one(engine))
    return times


async def cancel_one(engine: Engine, *, spare: bool = False) -> float:
    """Cancel a running task, and return how many milliseconds later the next one runs."""
    task = engine.submit(time.sleep, STUCK)
    await running(engine, task)
    if spare:
        await spare_is_ready(engine)
    following = engine.submit(instant)
    cancelled = time.monotonic()
    task.cancel()
    return (await following - cancelled) * 1e3


async def after_timeout(rounds: int) -> list[float]:
    """Time from the deadline of a task to the start of the next one in that slot; a spare worker stands by."""
    times: list[float] = []
    timeout = 0.5
    async with Engine(processes=1, grace=0) as engine:
        await cancel_one(engine)
        while len(times) < rounds:
            task = engine.options(timeout=timeout).submit(time.sleep, STUCK)
            following = engine.submit(instant)
            await running(engine, task)
            await spare_is_ready(engine)
            is_in_time = not task.done()
            with contextlib.suppress(TaskTimeout):
                await task
            ran = await following
            assert task.started_at is not None
            if is_in_time:
                times.append((ran - (task.started_at + timeout + time.monotonic() - time.time())) * 1e3)
            else:  # the machine is so busy that the spare took longer to start than the task had
                timeout = min(2 * timeout, STUCK / 4)
    return times


FIGURES = (
    Figure("bare-interpreter", bare_start),
    Figure("death-to-failed", death, 50, 99),
    Figure("own-death-to-failed", own_death, 50, 99),
    Figure("cancel-to-next", after_cancel, 10, 50),
    Figure("timeout-to-next", after_timeout, 10, 50),
    Figure("first-cancel-to-next", without_spare, 80, 50),
)


# -- the run --------------------------------------------------------------------------------------------------------


def row(reading: Reading) -> str:
    """Return one line of the table."""
    figure = reading.figure
    target = "-" if figure.most is None else f"p{figure.percentile} <= {figure.most:g} ms"
    verdict = {True: "kept", False: "MISSED", None: ""}[reading.is_kept]
    return (
        f"{figure.name:22}{statistics.median(reading.times):9.2f}{reading.at(90):9.2f}{reading.at(99):9.2f}"
        f"{max(reading.times):9.2f}  {target:14}  {verdict}"
    )


def main(arguments: list[str]) -> int:
    """Run the script; return 1 if ``--check`` was given and a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m stress recovery", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these figures")
    parser.add_argument("--rounds", type=int, default=100, help="deaths, cancels and timeouts of each (default: 100)")
    parser.add_argument("--check", action="store_true", help="end with 1 if a target is missed")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"expected --rounds to be a positive integer, got {options.rounds}")
    if unknown := set(options.names) - {figure.name for figure in FIGURES}:
        parser.error(f"expected names among {', '.join(figure.name for figure in FIGURES)}, got {', '.join(unknown)}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers start as a user's do: with compiled modules on disk
    logging.getLogger("engine").setLevel(logging.CRITICAL)
    print(f"machine {machine()}\nseed none")
    print(f"{'figure, in ms':22}{'median':>9}{'p90':>9}{'p99':>9}{'most':>9}  target", flush=True)
    readings = []
    with open(os.devnull, "w") as nowhere:
        for figure in FIGURES:
            if not options.names or figure.name in options.names:
                stderr, sys.stderr = sys.stderr, nowhere  # what dying workers say is passed on to it
                try:
                    readings.append(Reading(figure, asyncio.run(_measure(figure, options.rounds))))
                finally:
                    sys.stderr = stderr
                print(row(readings[-1]), flush=True)
    print(json.dumps({"script": "recovery", "rounds": options.rounds, "figures": {
        reading.figure.name: {"unit": "ms", "median": statistics.median(reading.times), "p90": reading.at(90),
                              "p99": reading.at(99), "most": max(reading.times), "target": reading.figure.most,
                              "percentile": reading.figure.percentile, "kept": reading.is_kept}
        for reading in readings
    }}))  # fmt: skip
    missed = [reading.figure.name for reading in readings if reading.is_kept is False]
    if missed and options.check:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


async def _measure(figure: Figure, rounds: int) -> list[float]:
    return await figure.measure(rounds)
