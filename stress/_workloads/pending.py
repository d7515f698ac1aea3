"""Very many tasks that wait: what each costs in memory, and whether more of them make each one dearer."""

import asyncio
import gc
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from stress._peers.contract import Handle, Peer
from stress._workloads.figure import FUTURES, Figure, Goal, Measure, Size
from stress._workloads.floods import nothing, warm

__all__ = ["FIGURES"]


def hold(path: str) -> None:
    """Keep a worker busy until the file ``path`` is gone."""
    while os.path.exists(path):
        time.sleep(0.01)


async def memory(peer: Peer, size: Size) -> float:
    """Bytes of this process for each task that waits, with its handle."""
    await peer.start(size.workers)
    await warm(peer, size)
    process, count = psutil.Process(), size.few
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        gate = Path(folder, "gate")
        gate.touch()
        holders = [peer.submit(hold, str(gate)) for _ in range(size.workers)]
        await asyncio.sleep(0.2)
        gc.collect()
        before = process.memory_info().rss
        handles: list[Any] = [None] * count
        before += count * 8  # the list's own pointers are ours
        for number in range(count):
            handles[number] = peer.submit(nothing, 1)
        await asyncio.sleep(0.2)  # what was sent ahead is sent
        gc.collect()
        used = process.memory_info().rss - before
        gate.unlink()
        for handle in handles:
            handle.cancel()
        for handle in holders:
            await asyncio.to_thread(handle.result)
    await peer.close()
    return used / count


def scaling(*, collected: bool) -> Measure:
    """Measure how many times as long a task takes among ten times as many; the cyclic collector on or off."""

    async def measure(peer: Peer, size: Size) -> float:
        await peer.start(size.workers)
        await warm(peer, size)
        if not collected:
            gc.disable()
        few = await _per_task(peer, size.few)
        gc.collect()
        many = await _per_task(peer, size.many)
        await peer.close()
        return many / few

    return measure


async def _per_task(peer: Peer, count: int) -> float:
    """Submit, cancel every second one, wait for the rest; return seconds for each."""
    begun = time.perf_counter()
    handles: list[Handle] = [peer.submit(nothing, 1) for _ in range(count)]
    for handle in handles[::2]:
        handle.cancel()
    for handle in handles[1::2]:
        await handle  # type: ignore[misc]  # the engine's handles are awaitable, and no others come here
    return (time.perf_counter() - begun) / count


FIGURES = (
    Figure(
        "memory-pending",
        "Memory for each of {few:,} tasks that wait, with its handle",
        "bytes",
        memory,
        (*FUTURES, "loky", "pebble"),
        (Goal(most=450),),
    ),
    Figure(
        "pending-gc-off",
        "The time of one task (submit, cancel every second one, run the rest) where {many:,} are pending, in place of"
        " {few:,}; the cyclic collector is off",
        "x",
        scaling(collected=False),
        (),
        (Goal(most=1.2),),
    ),
    Figure(
        "pending-gc-on",
        "The same with the cyclic collector on",
        "x",
        scaling(collected=True),
        (),
        (Goal(most=4),),
    ),
)
