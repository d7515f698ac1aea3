"""How long is the event loop held while hostile results are rebuilt beside it, and do others flow?

    python -m stress decoding [--seconds N] [--check]

Expected: a row for each kind of result: how late a timer of the loop was at worst and at the 99th percentile, and how
many tasks went through meanwhile; then one line of JSON. While a result *sleeps* where it is rebuilt, nothing is later
than 50 ms; with ``--check`` more than that ends it with 1, which on a machine that does other work says little. What
burns in Python shares the interpreter with the loop; what is long gives it up every MiB.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from engine import Engine
from engine.errors import EngineError, ResultDecodeError
from stress._machine import machine

MOST_SECONDS = 0.050  #: how late a timer may be while a result sleeps


class DoesWhenLoaded:
    """Calls ``fn(*args)`` where it is rebuilt."""

    def __init__(self, fn: Any, *args: Any) -> None:
        self.how = fn, args

    def __reduce__(self) -> Any:
        return self.how


class Row:
    """An instance of a class that is on no list."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.name = f"row {n}"


def burn(seconds: float) -> int:
    """Keep the interpreter busy."""
    end, n = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        n += 1
    return n


def make(kind: str, seconds: float) -> Any:
    """Make one hostile result, in the worker."""
    if kind == "sleeps":
        return DoesWhenLoaded(time.sleep, seconds)
    if kind == "burns":
        return DoesWhenLoaded(burn, seconds)
    if kind == "rows":
        return [Row(n) for n in range(500_000)]
    if kind == "dicts":
        return [{"n": n, "name": f"row {n}"} for n in range(500_000)]
    if kind == "bytes":
        return {"pieces": [b"x" * (1 << 20) for _ in range(256)]}
    return None


def give(n: int) -> int:
    """Return ``n``."""
    return n


async def measure(engine: Engine, kind: str, seconds: float) -> dict[str, Any]:
    """Have one result of ``kind`` rebuilt; return how late the loop was meanwhile."""
    late: list[float] = []
    hostile = engine.submit(make, kind, seconds)
    end = time.monotonic() + seconds

    async def beat() -> None:
        while not hostile.done() or time.monotonic() < end:
            due = time.monotonic() + 0.001
            await asyncio.sleep(0.001)
            late.append(time.monotonic() - due)

    async def flow() -> int:
        count = 0
        while not hostile.done() or time.monotonic() < end:
            await engine.run(give, count)
            count += 1
        return count

    began = time.monotonic()
    _, flowed = await asyncio.gather(beat(), flow())
    try:
        await hostile
        outcome = "arrived"
    except ResultDecodeError:
        outcome = "given up"
    except EngineError as error:
        outcome = type(error).__name__
    late.sort()
    return {
        "kind": kind, "outcome": outcome, "seconds": round(time.monotonic() - began, 2),
        "worst_ms": round(late[-1] * 1000, 1), "p99_ms": round(late[int(len(late) * 0.99)] * 1000, 1), "tasks": flowed,
    }  # fmt: skip


async def run(seconds: float) -> list[dict[str, Any]]:
    """Measure each kind after the other."""
    rows = []
    async with Engine(processes=2) as engine:
        await engine.warm_up()
        for kind in ("nothing", "sleeps", "burns", "rows", "dicts", "bytes"):
            row = await measure(engine, kind, seconds)
            rows.append(row)
            print("{kind:8} {outcome:9} {seconds:6.2f} s  worst {worst_ms:6.1f} ms  p99 {p99_ms:6.1f} ms  {tasks} tasks"
                  .format(**row))  # fmt: skip
    return rows


def main(arguments: list[str]) -> int:
    """Run it; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m stress decoding")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long what sleeps or burns does so")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the loop was late while a result slept")
    options = parser.parse_args(arguments)
    print(machine())
    rows = asyncio.run(run(options.seconds))
    print(json.dumps({"decoding": rows}))
    worst = next(row["worst_ms"] for row in rows if row["kind"] == "sleeps")
    return 1 if options.check and worst > MOST_SECONDS * 1000 else 0
