"""Durable jobs: into the queue, through it, and out of it, at the same durability."""

import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import cast

from stress._peers.contract import Peer
from stress._peers.queues import QueuePeer
from stress._workloads.figure import Figure, Goal, Measure, Size

__all__ = ["FIGURES"]

CALLERS = 100


Act = Callable[[QueuePeer, int], Awaitable[None]]


def rate_of(prepare: Act | None, act: Act) -> Measure:
    """Measure jobs per second of ``act`` on a queue in a new file, after ``prepare``."""

    async def measure(peer: Peer, size: Size) -> float:
        queue = cast(QueuePeer, peer)
        jobs = size.tasks - size.tasks % CALLERS
        with tempfile.TemporaryDirectory() as folder:
            await queue.open(os.path.join(folder, "queue.db"))
            if prepare is not None:
                await prepare(queue, jobs)
            begun = time.perf_counter()
            await act(queue, jobs)
            took = time.perf_counter() - begun
            await queue.shut()
        return jobs / took

    return measure


async def enqueue(queue: QueuePeer, jobs: int) -> None:
    """Enqueue from many callers."""
    await queue.enqueue(jobs, CALLERS)


async def enqueue_many(queue: QueuePeer, jobs: int) -> None:
    """Enqueue at once."""
    await queue.enqueue_many(jobs)


async def work(queue: QueuePeer, jobs: int) -> None:
    """Run them all."""
    await queue.work(jobs)


FIGURES = (
    Figure(
        "jobs-enqueue",
        "{tasks} durable jobs enqueued by 100 callers, each after its own commit",
        "jobs/s",
        rate_of(None, enqueue),
        ("huey",),
        (Goal(5, ("huey",)),),
        ours="engine-jobs",
        is_rate=True,
    ),
    Figure(
        "jobs-enqueue-many",
        "{tasks} durable jobs enqueued at once",
        "jobs/s",
        rate_of(None, enqueue_many),
        goals=(Goal(least=150_000),),
        ours="engine-jobs",
        is_rate=True,
    ),
    Figure(
        "jobs-through",
        "{tasks} no-op jobs claimed, run and recorded",
        "jobs/s",
        rate_of(enqueue, work),
        ("huey",),
        (Goal(5, ("huey",)),),
        ours="engine-jobs",
        is_rate=True,
    ),
)
