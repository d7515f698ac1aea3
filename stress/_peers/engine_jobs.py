"""Durable jobs of the engine, on the loop lane, behind the contract of the queues."""

import asyncio

from engine import Engine
from engine.jobs import Jobs
from stress._peers.queues import QueuePeer

__all__ = ["EngineJobs"]


class EngineJobs(QueuePeer):
    """``Jobs`` on SQLite with default settings: synchronous="full"."""

    async def open(self, path: str) -> None:
        self._jobs = Jobs(path)
        self._nothing = self._jobs.task(name="nothing")(nothing)
        self._jobs.open()

    async def shut(self) -> None:
        self._jobs.close()

    async def enqueue(self, jobs: int, callers: int) -> None:
        async def call_one_by_one() -> None:
            for _ in range(jobs // callers):
                await self._nothing.enqueue(number=1)

        await asyncio.gather(*[call_one_by_one() for _ in range(callers)])

    async def enqueue_many(self, jobs: int) -> None:
        await self._jobs.enqueue_many(self._nothing, [{"number": number} for number in range(jobs)])

    async def work(self, jobs: int) -> None:
        async with Engine() as engine, self._jobs.worker(engine) as worker:
            while worker.statistics().completed < jobs:  # it counts what is recorded
                await asyncio.sleep(0.01)


async def nothing(number: int) -> None:
    """Do nothing."""
