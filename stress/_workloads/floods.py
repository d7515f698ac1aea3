"""Floods: many calls that do nothing, submitted one by one. What is measured is the pool and nothing else."""

import asyncio
import threading
import time
from collections.abc import Awaitable

from stress._peers.contract import Fn, Handle, Peer
from stress._workloads.figure import FUTURES, Figure, Goal, Measure, Size

__all__ = ["FIGURES", "nothing", "nothing_async", "warm"]

_THREADS = 4


def nothing(value: int) -> int:
    """Return ``value``."""
    return value


async def nothing_async(value: int) -> int:
    """Return ``value``, as a coroutine."""
    return value


def pause(value: int) -> int:
    """Take long enough for the other worker to be asked too."""
    time.sleep(0.02)
    return value


async def warm(peer: Peer, size: Size, fn: Fn = pause) -> None:
    """Have every worker started, and ``fn`` known to it."""
    await peer.flood(fn, range(8 * size.workers))
    await peer.flood(fn, range(8 * size.workers))


def flood(fn: Fn, warm_up: Fn = pause) -> Measure:
    """Measure calls per second, submitted one by one from the event loop."""

    async def measure(peer: Peer, size: Size) -> float:
        await peer.start(size.workers)
        await warm(peer, size, warm_up)
        await peer.flood(fn, range(100))
        begun = time.perf_counter()
        results = await peer.flood(fn, range(size.tasks))
        took = time.perf_counter() - begun
        assert results[-1] == size.tasks - 1
        await peer.close()
        return size.tasks / took

    return measure


async def from_threads(peer: Peer, size: Size) -> float:
    """Calls per second, submitted one by one from four plain threads, each of which waits for its own."""
    await peer.start(size.workers, plain=True)
    each = max(1, size.tasks // _THREADS)
    begun = await asyncio.to_thread(_run_threads, peer, each)
    took = time.perf_counter() - begun
    await peer.close()
    return each * _THREADS / took


def _run_threads(peer: Peer, each: int) -> float:
    """Let the threads do their part; return when they began."""
    for handle in [peer.submit(pause, number) for number in range(16)]:
        handle.result()
    start = threading.Barrier(_THREADS + 1)

    def work() -> None:
        start.wait()
        handles: list[Handle] = [peer.submit(nothing, number) for number in range(each)]
        for handle in handles:
            handle.result()
        done.release()

    done = threading.Semaphore(0)
    for _ in range(_THREADS):
        threading.Thread(target=work, daemon=True).start()
    start.wait()
    begun = time.perf_counter()
    for _ in range(_THREADS):
        done.acquire()
    return begun


async def first_result(peer: Peer, size: Size) -> float:
    """Milliseconds from nothing to the first result."""
    begun = time.perf_counter()
    await peer.start(size.workers)
    awaitable: Awaitable[object] = peer.call(nothing, 1)
    await awaitable
    took = time.perf_counter() - begun
    await peer.close()
    return took * 1e3


FIGURES = (
    Figure(
        "flood-process",
        "{tasks:,} no-ops to processes, one by one from asyncio",
        "/s",
        flood(nothing),
        (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask"),
        (Goal(10, FUTURES), Goal(10, ("loky",))),
        is_rate=True,
    ),
    Figure(
        "flood-from-threads",
        "The same from 4 plain threads",
        "/s",
        from_threads,
        (*FUTURES, "loky", "pebble", "dask"),
        (Goal(5, (*FUTURES, "loky")),),  # as the flood above; Pebble's own futures are shown beside it
        is_rate=True,
    ),
    Figure(
        "flood-thread",
        "{tasks:,} no-ops to threads, one by one from asyncio",
        "/s",
        flood(nothing),
        ("cf-thread", "anyio-thread"),
        (Goal(8, ("cf-thread",)),),
        ours="engine-thread",
        is_rate=True,
    ),
    Figure(
        "flood-loop",
        "{tasks:,} coroutines on the event loop",
        "/s",
        flood(nothing_async, nothing_async),
        ("asyncio",),
        ours="engine-loop",
        is_rate=True,
    ),
    Figure(
        "first-result",
        "From the making of the pool to the first result of a process",
        "ms",
        first_result,
        (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask"),
        (Goal(1 / 1.2, ("cf-spawn",)),),
    ),
)
