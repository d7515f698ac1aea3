"""What the engine promises of itself, with no competitor beside it."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time

from engine import Engine
from stress._peers.contract import Peer
from stress._workloads.figure import Figure, Goal, Size, percentile
from stress._workloads.floods import nothing_async

__all__ = ["FIGURES", "overshoot"]

#: Imports are measured as a user meets them, from the second time on: with compiled modules on disk.
_WITH_BYTECODE = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


async def import_time(peer: Peer, size: Size) -> float:
    """Milliseconds of importing engine and naming Engine, in an interpreter that has imported asyncio."""
    code = "import asyncio, time; t = time.perf_counter(); from engine import Engine; print(time.perf_counter() - t)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_WITH_BYTECODE)
    return float(run.stdout) * 1e3


async def overshoot_p99(peer: Peer, size: Size) -> float:
    """As ``overshoot``."""
    return await overshoot()


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
    return percentile(late, 99)


async def fifty_submits(peer: Peer, size: Size) -> float:
    """Milliseconds of 50 calls of submit."""
    async with Engine() as engine:
        begun = time.perf_counter()
        tasks = [engine.submit(nothing_async, number) for number in range(50)]
        took = time.perf_counter() - begun
        await asyncio.gather(*tasks)
    return took * 1e3


async def hundred_at_once(peer: Peer, size: Size) -> float:
    """Milliseconds of 100 coroutines of 0.1 s at a limit of 100."""
    async with Engine(coroutines=100) as engine:
        begun = time.perf_counter()
        await asyncio.gather(*[engine.submit(asyncio.sleep, 0.1) for _ in range(100)])
        return (time.perf_counter() - begun) * 1e3


async def five_cycles(peer: Peer, size: Size) -> float:
    """Milliseconds of starting and stopping five engines without work."""
    begun = time.perf_counter()
    for _ in range(5):
        async with Engine():
            pass
    return (time.perf_counter() - begun) * 1e3


FIGURES = (
    Figure("import", "Import of engine", "ms", import_time, goals=(Goal(most=30),)),
    Figure("timeout-p99", "A timeout past its deadline, 99th percentile", "ms", overshoot_p99, goals=(Goal(most=10),)),
    Figure("submit-50", "50 submits", "ms", fifty_submits, goals=(Goal(most=5),)),
    Figure("hundred-at-once", "100 coroutines of 100 ms at once", "ms", hundred_at_once, goals=(Goal(most=200),)),
    Figure("five-cycles", "Five engines started and stopped", "ms", five_cycles, goals=(Goal(most=50),)),
)
