"""Round trips: one call after the other, and one that is urgent while others flood the pool."""

import time

from stress._peers.contract import Fn, Peer
from stress._workloads.figure import FUTURES, Figure, Goal, Measure, Size, percentile
from stress._workloads.floods import nothing, nothing_async

__all__ = ["FIGURES"]


def trip(fn: Fn, percent: int = 50) -> Measure:
    """Measure microseconds from submit to result; one worker, which waits."""

    async def measure(peer: Peer, size: Size) -> float:
        await peer.start(1)
        for _ in range(20):
            await peer.call(fn, 1)
        times = []
        for _ in range(max(20, size.tasks // 20)):
            begun = time.perf_counter()
            await peer.call(fn, 1)
            times.append((time.perf_counter() - begun) * 1e6)
        await peer.close()
        return percentile(times, percent)

    return measure


async def urgent_under_flood(peer: Peer, size: Size) -> float:
    """Milliseconds at the 99th percentile of a round trip of high priority while low ones wait."""
    await peer.start(size.workers)
    await peer.urgent(nothing, 1)
    waiting = [peer.submit_low(nothing, 1) for _ in range(size.tasks)]
    times = []
    for _ in range(max(20, size.tasks // 40)):
        begun = time.perf_counter()
        await peer.urgent(nothing, 1)
        times.append((time.perf_counter() - begun) * 1e3)
        waiting = [handle for handle in waiting if not handle.done()] if len(times) % 10 == 0 else waiting
        waiting += [peer.submit_low(nothing, 1) for _ in range(size.tasks - len(waiting))]
    for handle in waiting:
        handle.cancel()
    await peer.close()
    return percentile(times, 99)


FIGURES = (
    Figure(
        "trip-process",
        "Round trip of one no-op to a process, median",
        "us",
        trip(nothing),
        (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask", "socket"),
        (Goal(1, (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask")), Goal(1 / 2, ("socket",))),
    ),
    Figure(
        "trip-process-p99",
        "Round trip of one no-op to a process, 99th percentile",
        "us",
        trip(nothing, 99),
        (*FUTURES, "loky", "anyio", "socket"),
    ),
    Figure(
        "trip-thread",
        "Round trip of one no-op to a thread, median",
        "us",
        trip(nothing),
        ("cf-thread", "anyio-thread"),
        ours="engine-thread",
    ),
    Figure(
        "trip-loop",
        "Round trip of one coroutine on the event loop, median",
        "us",
        trip(nothing_async),
        ("asyncio",),
        ours="engine-loop",
    ),
    Figure(
        "urgent-p99",
        "Round trip of a high-priority no-op under {tasks:,} low ones, 99th percentile",
        "ms",
        urgent_under_flood,
        ("cf-fork",),
        (Goal(most=5),),
    ),
)
