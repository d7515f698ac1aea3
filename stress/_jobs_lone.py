"""A process that works on one file of jobs, for figures that need one: ``python -m stress._jobs_lone FILE``."""

import asyncio
import sys
import time

from engine import Engine
from engine.jobs import Jobs, current_job

__all__ = ["LEASE", "jobs_in"]

LEASE = 5.0  #: seconds


async def now() -> float:
    """Return when it began, on the clock that all processes share."""
    return time.monotonic()


async def hold_until_the_second_run() -> float:
    """Return when the second run began; the first one never ends."""
    began, job = time.monotonic(), current_job()
    assert job is not None
    if job.token == 1:
        await asyncio.sleep(3600)
    return began


def jobs_in(path: str) -> Jobs:
    """Return the jobs in the file ``path``, with the functions above."""
    jobs = Jobs(path, lease=LEASE)
    jobs.task(name="now")(now)
    jobs.task(name="hold")(hold_until_the_second_run)
    return jobs


async def work(path: str) -> None:
    """Work until we are killed."""
    async with Engine(processes=1) as engine, jobs_in(path).worker(engine):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
