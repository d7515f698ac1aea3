"""What does each option cost, and which arguments and results hold up the event loop?

    python -m stress tuning [--rounds N] [--tasks N] [--megabytes N] [--write docs/TUNING.md] [NAME ...]

Expected: a row for each measurement, the median over rounds in which all of them take turns, then one line of JSON.
Nothing is judged. ``--write`` puts the rows in place of those between the two marks of the page, and leaves its text.
"""

import argparse
import asyncio
import gc
import json
import logging
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import Engine, Priority, Retry
from stress._machine import machine
from stress._readings import number
from stress._workloads.floods import nothing

__all__ = ["MEASUREMENTS", "main"]

BEGIN, END = "<!-- measured: python -m stress tuning -->", "<!-- end of what is measured -->"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row: a name, what it says, and how it is measured, given the number of tasks and of megabytes."""

    name: str
    title: str
    unit: str
    measure: Callable[[int, float], Awaitable[float]]


# -- what an option costs ---------------------------------------------------------------------------------------------


def flood(settings: dict[str, Any], options: dict[str, Any]) -> Callable[[int, float], Awaitable[float]]:
    """Measure microseconds for each no-op of a flood to two processes."""

    async def measure(tasks: int, megabytes: float) -> float:
        async with Engine(processes=2, **settings) as engine:
            view = engine.options(**options) if options else engine
            await engine.warm_up()
            await asyncio.gather(*[view.submit(nothing, each) for each in range(200)])
            begun = time.perf_counter()
            await asyncio.gather(*[view.submit(nothing, each) for each in range(tasks)])
            return (time.perf_counter() - begun) / tasks * 1e6

    return measure


def mapped(view: dict[str, Any] | None = None, /, **options: Any) -> Callable[[int, float], Awaitable[float]]:
    """Measure microseconds for each item of a map, of an engine with the options ``view``."""

    async def measure(tasks: int, megabytes: float) -> float:
        async with Engine(processes=2) as engine:
            await engine.warm_up()
            begun = time.perf_counter()
            async for _ in engine.options(**(view or {})).map(nothing, range(tasks), **options):
                pass
            return (time.perf_counter() - begun) / tasks * 1e6

    return measure


async def first_result(tasks: int, megabytes: float) -> float:
    """Milliseconds of the first call: a worker starts for it."""
    async with Engine(processes=1) as engine:
        begun = time.perf_counter()
        await engine.run(abs, 1)
        return (time.perf_counter() - begun) * 1e3


async def warm_result(tasks: int, megabytes: float) -> float:
    """Milliseconds of the first call after ``warm_up``."""
    async with Engine(processes=1) as engine:
        await engine.warm_up()
        begun = time.perf_counter()
        await engine.run(abs, 1)
        return (time.perf_counter() - begun) * 1e3


# -- what holds up the event loop -------------------------------------------------------------------------------------


def numbers(megabytes: float) -> Any:
    """Return a list of floats of about that size when pickled."""
    return [each + 0.5 for each in range(int(megabytes * 1e6 / 9))]


def records(megabytes: float) -> Any:
    """Return a list of dicts, as parsed JSON is, of about that size when pickled."""
    return [{"id": each, "name": f"name {each}", "sum": each / 3} for each in range(int(megabytes * 1e6 / 38))]


def text(megabytes: float) -> Any:
    """Return a string."""
    return "x" * int(megabytes * 1e6)


def contiguous(megabytes: float) -> Any:
    """Return a buffer, as bytes, bytearrays and NumPy arrays are."""
    return bytearray(int(megabytes * 1e6))


def size_of(value: Any) -> int:
    """Return the length of ``value``."""
    return len(value)


def stall(make: Callable[[float], Any], *, is_result: bool) -> Callable[[int, float], Awaitable[float]]:
    """Measure milliseconds of the longest stall of the loop for each megabyte that goes one way."""

    async def measure(tasks: int, megabytes: float) -> float:
        fn, argument = (make, megabytes) if is_result else (size_of, make(megabytes))
        async with Engine(processes=1) as engine:
            await engine.warm_up()
            await engine.run(nothing, 1)
            gc.collect()  # what another measurement has left would be collected in the middle of this one
            longest, last = 0.0, time.perf_counter()
            task = engine.submit(fn, argument)
            while not task.done():
                await asyncio.sleep(0)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
            await task
        return longest * 1e3 / megabytes

    return measure


def _nothing_done() -> None:
    """Be an initializer that does nothing."""


MEASUREMENTS = (
    Measurement("plain", "a no-op to a process, nothing said", "us", flood({}, {})),
    Measurement("timeout", "with `timeout=30`", "us", flood({}, {"timeout": 30})),
    Measurement("total-timeout", "with `total_timeout=30`", "us", flood({}, {"total_timeout": 30})),
    Measurement("retry", "with `retry=Retry()`", "us", flood({}, {"retry": Retry()})),
    Measurement("priority", "with `priority=Priority.HIGH`", "us", flood({}, {"priority": Priority.HIGH})),
    Measurement("name", "with a `name`", "us", flood({}, {"name": "no-op"})),
    Measurement("history", "with `history=0`", "us", flood({"history": 0}, {})),
    Measurement("max-pending", "with `max_pending`", "us", flood({"max_pending": 10_000_000}, {})),
    Measurement("recycling", "with `max_tasks_per_worker=1000`", "us", flood({"max_tasks_per_worker": 1000}, {})),
    Measurement("memory-limit", "with `worker_memory_limit`", "us", flood({"worker_memory_limit": 1 << 30}, {})),
    Measurement("initializer", "with an `initializer`", "us", flood({"initializer": _nothing_done}, {})),
    Measurement("thread", 'with `lane="thread"`', "us", flood({}, {"lane": "thread"})),
    Measurement("map", "an item of `map`", "us", mapped()),
    Measurement("map-window", "an item of `map` with `window=256`", "us", mapped(window=256)),
    Measurement("map-timeout", "an item of `map` with `timeout=30`", "us", mapped({"timeout": 30})),
    Measurement("map-unordered", "an item of `map` with `ordered=False`", "us", mapped(ordered=False)),
    Measurement("first-call", "the first call: a worker starts", "ms", first_result),
    Measurement("warm-call", "the first call after `warm_up()`", "ms", warm_result),
    Measurement("numbers-in", "stall: a list of floats as argument", "ms/MB", stall(numbers, is_result=False)),
    Measurement("records-in", "stall: a list of dicts as argument", "ms/MB", stall(records, is_result=False)),
    Measurement("text-in", "stall: a string as argument", "ms/MB", stall(text, is_result=False)),
    Measurement("buffer-in", "stall: a buffer as argument", "ms/MB", stall(contiguous, is_result=False)),
    Measurement("numbers-out", "stall: a list of floats as result", "ms/MB", stall(numbers, is_result=True)),
    Measurement("records-out", "stall: a list of dicts as result", "ms/MB", stall(records, is_result=True)),
    Measurement("text-out", "stall: a string as result", "ms/MB", stall(text, is_result=True)),
    Measurement("buffer-out", "stall: a buffer as result", "ms/MB", stall(contiguous, is_result=True)),
)


# -- the run ----------------------------------------------------------------------------------------------------------


def measure(chosen: Sequence[Measurement], rounds: int, tasks: int, megabytes: float) -> dict[str, list[float]]:
    """Let all of them take turns, in an order that rotates; return the values of each."""
    values: dict[str, list[float]] = {each.name: [] for each in chosen}
    for turn in range(rounds):
        at = turn % len(chosen)
        for each in (*chosen[at:], *chosen[:at]):
            values[each.name].append(asyncio.run(_await(each, tasks, megabytes)))
    return values


async def _await(each: Measurement, tasks: int, megabytes: float) -> float:
    async with asyncio.timeout(120):
        return await each.measure(tasks, megabytes)


def table(chosen: Sequence[Measurement], values: dict[str, list[float]]) -> str:
    """Return the rows as Markdown."""
    lines = ["| | median | from | to |", "| --- | ---: | ---: | ---: |"]
    for each in chosen:
        found = values[each.name]
        median, least, most = (number(value) for value in (statistics.median(found), min(found), max(found)))
        lines.append(f"| {each.title} | {median} {each.unit} | {least} | {most} |")
    return "\n".join(lines)


def written(page: str, rows: str) -> str:
    """Return ``page`` with ``rows`` between its marks.

    Raises:
        SystemExit: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"expected --write to be a page with {BEGIN} and {END}, got one without; add the two lines")
    return f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(prog="python -m stress tuning", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these measurements")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--tasks", type=int, default=20_000, help="tasks in a flood (default: 20000)")
    parser.add_argument("--megabytes", type=float, default=20, help="of an argument or a result (default: 20)")
    parser.add_argument("--write", metavar="FILE", help="write the rows into this page")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {each.name for each in MEASUREMENTS}:
        parser.error(f"expected names among {', '.join(each.name for each in MEASUREMENTS)}, got {', '.join(unknown)}")
    for name in ("rounds", "tasks", "megabytes"):
        if getattr(options, name) <= 0:
            parser.error(f"expected --{name} to be positive, got {getattr(options, name)}")
    logging.getLogger("engine").setLevel(logging.CRITICAL)  # the watchdog sees the stalls that are measured
    found = machine()
    print(f"machine {json.dumps(found)}\nseed none", flush=True)
    chosen = [each for each in MEASUREMENTS if not options.names or each.name in options.names]
    values = measure(chosen, options.rounds, options.tasks, options.megabytes)
    rows = table(chosen, values)
    print(rows)
    if options.write:
        made = (
            f"Medians of {options.rounds} rounds; {options.tasks:,} tasks; {options.megabytes:g} MB; Python"
            f" {found['python']}, {found['cpus']} processors, load {found['load']}, commit {found['commit']}."
        )
        path = Path(options.write)
        path.write_text(written(path.read_text(encoding="utf-8"), f"{made}\n\n{rows}"), encoding="utf-8")
    print(json.dumps({"script": "tuning", "rounds": options.rounds, "figures": {
        each.name: {"unit": each.unit, "median": statistics.median(values[each.name])} for each in chosen
    }}))  # fmt: skip
    return 0
