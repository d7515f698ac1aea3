"""Work that computes: what two workers gain over one, and what the pool takes of short tasks."""

import statistics
import time

from stress._peers import make
from stress._peers.contract import Peer
from stress._workloads.figure import FUTURES, Figure, Goal, Measure, Size
from stress._workloads.floods import warm

__all__ = ["FIGURES", "spin"]

_PAIRS = 6
_SHORT_PAIRS = 12
_PEERS = (*FUTURES, "loky", "pebble", "mpire", "anyio", "dask")


def spin(rounds: int) -> int:
    """Count to ``rounds``."""
    count = 0
    for _ in range(rounds):
        count += 1
    return count


def spin_often(job: tuple[int, int]) -> int:
    """Count to ``rounds`` ``times`` times, as a bare loop."""
    rounds, times = job
    for _ in range(times):
        spin(rounds)
    return times


def rounds_of(seconds: float) -> int:
    """Return how far ``spin`` counts in that time, at best."""
    best = 1.0
    for _ in range(20):
        begun = time.perf_counter()
        spin(20_000)
        best = min(best, time.perf_counter() - begun)
    return int(20_000 * seconds / best)


async def speed_up(peer: Peer, size: Size) -> float:
    """How many times as fast two workers are as one, at tasks of 5 ms: the median of pairs of runs.

    A processor that others use too is a fifth faster or slower from one second to the next, so both are up at once, and
    their turns are short; not so short that the last task of each, at which the other worker is idle, counts.
    """
    rounds, count = rounds_of(0.005), max(20, size.tasks // 125)
    alone, both = peer, make(peer.name)
    for each, workers in ((alone, 1), (both, 2)):
        await each.start(workers)
        await warm(each, size)
    ratios = []
    for _ in range(_PAIRS):
        took = []
        for each in (alone, both):
            begun = time.perf_counter()
            await each.flood(spin, [rounds] * count)
            took.append(time.perf_counter() - begun)
        ratios.append(took[0] / took[1])
    await alone.close()
    await both.close()
    return statistics.median(ratios)


def overhead(seconds: float) -> Measure:
    """Measure the percent that tasks of ``seconds`` take more than a bare loop in each worker: the median of pairs."""

    async def measure(peer: Peer, size: Size) -> float:
        rounds, each = rounds_of(seconds), max(20, size.tasks // 100)
        await peer.start(size.workers)
        await warm(peer, size)
        ratios = []
        for _ in range(_SHORT_PAIRS):  # of short turns, as above
            took = []
            for fn, jobs in ((spin_often, [(rounds, each)] * size.workers), (spin, [rounds] * (each * size.workers))):
                begun = time.perf_counter()
                await peer.flood(fn, jobs)
                took.append(time.perf_counter() - begun)
            ratios.append(took[1] / took[0])
        await peer.close()
        return (statistics.median(ratios) - 1) * 100

    return measure


FIGURES = (
    Figure(
        "speed-up",
        "CPU tasks of 5 ms on 2 workers against 1",
        "x",
        speed_up,
        ("bare-loops", *_PEERS),
        (Goal(least=1.9),),
        is_rate=True,
    ),
    Figure(
        "overhead",
        "CPU tasks of 1 ms: overhead over a bare loop in each worker",
        "%",
        overhead(0.001),
        _PEERS,
        (Goal(most=10),),
    ),
)
