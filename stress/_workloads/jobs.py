"""Durable jobs: into the queue and through it at the durability of the peer, and what a worker does about news."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import cast

from engine import Engine, TaskState
from engine.jobs import Jobs, Reply
from engine.jobs._records import Claim, Claims, NewHolder
from stress._jobs_lone import LEASE, jobs_in
from stress._peers.contract import Peer
from stress._peers.queues import QueuePeer
from stress._workloads.figure import Figure, Goal, Measure, Size, percentile

__all__ = ["FIGURES"]

CALLERS = 100
TRIALS = 30  #: of one idle worker
CLAIMS = 2000


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


# -- what a worker does about news

_MARK_DONE = "UPDATE jobs SET state = 'completed', gate = NULL, token = 1, attempt = 1, completed_at = created_at"


async def claim_p99_ratio(peer: Peer, size: Size) -> float:
    """The 99th percentile of a claim beside many finished jobs, in times of that in a file without any; in turns."""
    with tempfile.TemporaryDirectory() as folder:
        alone, beside = (os.path.join(folder, name) for name in ("alone.db", "beside.db"))
        await _finish_jobs(beside, size.many)
        async with jobs_in(alone) as first, jobs_in(beside) as second:
            claims = [await _claimer(first), await _claimer(second)]
            times: list[list[float]] = [[], []]
            for _ in range(CLAIMS):
                for claim, seconds in zip(claims, times, strict=True):
                    begun = time.perf_counter()
                    await claim()
                    seconds.append(time.perf_counter() - begun)
            return percentile(times[1], 99) / percentile(times[0], 99)


async def _finish_jobs(path: str, count: int) -> None:
    import apsw  # here: who has not the extra that brings it compares the rest

    async with jobs_in(path) as jobs:
        await jobs.enqueue_many(jobs.tasks["now"], [{}] * count)
    connection = apsw.Connection(path)
    connection.execute(_MARK_DONE)
    connection.close()


async def _claimer(jobs: Jobs) -> Callable[[], Awaitable[Claims]]:
    """Return what claims one job, of many that wait."""
    await jobs.enqueue_many(jobs.tasks["now"], [{}] * CLAIMS)
    new = NewHolder(name="measure", pid=os.getpid(), pid_started=0.0, namespace="", lease=3600.0)
    holder = await jobs.store.write(lambda book, now: book.hold(new, now))
    claim = Claim(holder=holder, queues={"default": 1}, limit=1)
    return lambda: _asked(jobs.store.write(lambda book, now: book.claim(claim, now)))


async def _asked(reply: Reply[Claims]) -> Claims:
    claims = await reply
    assert len(claims.jobs) == 1
    return claims


async def idle_here(peer: Peer, size: Size) -> float:
    """Milliseconds from enqueue to the start of a job, the worst of some, for an idle worker in this process."""
    with tempfile.TemporaryDirectory() as folder:
        async with jobs_in(os.path.join(folder, "jobs.db")) as jobs, Engine(processes=1) as engine, jobs.worker(engine):
            return await _worst_start(jobs)


async def idle_elsewhere(peer: Peer, size: Size) -> float:
    """As ``idle_here``, for an idle worker in another process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "jobs.db")
        async with jobs_in(path) as jobs:
            with lone_worker(path):
                return await _worst_start(jobs)


async def _worst_start(jobs: Jobs) -> float:
    now = jobs.tasks["now"]
    await (await now.enqueue()).wait(60)  # it works
    times = []
    for _ in range(TRIALS):
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        job = await (await now.enqueue()).wait(60)
        times.append((float(job.result()) - begun) * 1e3)
    return max(times)


async def recovery(peer: Peer, size: Size) -> float:
    """Seconds from the death of a whole engine to the next run of the job that it ran, in another process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "jobs.db")
        async with jobs_in(path) as jobs:
            with lone_worker(path) as first:
                job = await jobs.tasks["hold"].enqueue()
                while (await job.refresh()).state is not TaskState.RUNNING:
                    await asyncio.sleep(0.01)
                with lone_worker(path):
                    await _until_two_work(jobs)
                    first.kill()
                    killed = time.monotonic()
                    return float((await job.wait(60)).result() - killed)


async def _until_two_work(jobs: Jobs) -> None:
    while len((await jobs.statistics()).holders) < 2:
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def lone_worker(path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process work on the file ``path``."""
    process = subprocess.Popen([sys.executable, "-m", "stress._jobs_lone", path], stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _alone(name: str, title: str, unit: str, measure: Measure, goal: Goal) -> Figure:
    """Give a figure of the engine's own, with no competitor beside it."""
    return Figure(name, title, unit, measure, goals=(goal,), ours="engine-jobs")


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
    _alone(
        "jobs-claim-history", "A claim beside {many} finished jobs, 99th percentile, against one beside none", "x",
        claim_p99_ratio, Goal(most=1.5),
    ),
    _alone("jobs-idle", "An idle worker starts a job, the worst of 30", "ms", idle_here, Goal(most=20)),
    _alone(
        "jobs-idle-elsewhere", "An idle worker in another process starts a job, the worst of 30", "ms",
        idle_elsewhere, Goal(most=200),
    ),
    _alone("jobs-recovery", "The job of a killed engine runs again; lease 5 s", "s", recovery, Goal(most=LEASE + 1)),
)  # fmt: skip
