"""Large arrays: into a worker, out of it, shared by several tasks, and what that does to the event loop."""

import asyncio
import statistics
import time
from typing import Any

from stress._peers.contract import Cannot, Peer
from stress._workloads.figure import FUTURES, PROCESSES, Figure, Goal, Size
from stress._workloads.floods import pause

__all__ = ["FIGURES", "sampled", "zeros"]

_REPEATS = 3
_SHARERS = 20


def numpy() -> Any:
    """Return NumPy.

    Raises:
        Cannot: it is not installed.
    """
    try:
        import numpy  # large, and needed by some figures only
    except ImportError as error:
        raise Cannot("NumPy is not installed") from error
    return numpy


def sampled(array: Any) -> float:
    """Read one number of each page of ``array``."""
    return float(array[::512].sum())


def zeros(size: int) -> Any:
    """Return ``size`` bytes of numbers, each page written."""
    return numpy().ones(size // 8)


def echo(array: Any) -> Any:
    """Return ``array``."""
    return array


def known(number: int) -> int:
    """Import NumPy in the worker."""
    zeros(8)
    return pause(number)


async def started(peer: Peer, size: Size) -> int:
    """Start ``peer`` with NumPy in all workers; return the bytes of an array."""
    numpy()
    await peer.start(size.workers)
    try:
        await peer.flood(known, range(8 * size.workers))
    except Cannot:
        await peer.map_default(known, range(8 * size.workers))
    return int(size.megabytes * 1e6)


async def sent(peer: Peer, size: Size) -> float:
    """Milliseconds of a call with a large array."""
    many = await started(peer, size)
    times = []
    for _ in range(_REPEATS + 1):
        array = zeros(many)
        begun = time.perf_counter()
        await peer.send_array(sampled, array)
        times.append((time.perf_counter() - begun) * 1e3)
    await peer.close()
    return statistics.median(times[1:])


async def received(peer: Peer, size: Size) -> float:
    """Milliseconds of a call that returns a large array."""
    many = await started(peer, size)
    times = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        await peer.receive_array(zeros, many)
        times.append((time.perf_counter() - begun) * 1e3)
    await peer.close()
    return statistics.median(times[1:])


async def shared(peer: Peer, size: Size) -> float:
    """Milliseconds of several calls with one large array."""
    many = await started(peer, size)
    array = zeros(many)
    begun = time.perf_counter()
    await peer.share_array(sampled, array, _SHARERS)
    took = time.perf_counter() - begun
    await peer.close()
    return took * 1e3


async def stall(peer: Peer, size: Size) -> float:
    """Milliseconds of the longest stall of the event loop while a large array goes to a worker and comes back."""
    array = zeros(await started(peer, size))
    task = asyncio.ensure_future(peer.call(echo, array))
    longest, last = 0.0, time.perf_counter()
    while not task.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    await task
    await peer.close()
    return longest * 1e3


FIGURES = (
    Figure(
        "array-in",
        "An array of {megabytes} into a worker",
        "ms",
        sent,
        PROCESSES,
        (Goal(5, (*FUTURES, "loky")), Goal(1.5, ("joblib",))),
    ),
    Figure(
        "array-out",
        "An array of {megabytes} out of a worker",
        "ms",
        received,
        PROCESSES,
        (Goal(6, (*FUTURES, "loky")),),
    ),
    Figure(
        "array-shared",
        f"One array of {{megabytes}} for {_SHARERS} tasks",
        "ms",
        shared,
        PROCESSES,
        (Goal(20, FUTURES),),
    ),
    Figure(
        "array-stall",
        "Longest stall of the event loop while an array of {megabytes} goes each way",
        "ms",
        stall,
        (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask"),
        (Goal(most=10),),
    ),
)
