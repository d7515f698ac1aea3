"""One engine of several that work on one file and have one table of schedules; the clock of the wall is a file.

``python -m tests.integration.schedule_engine jobs.db clock.txt``: says "ready", and stops when its input ends.
"""

import asyncio
import sys
import time
from pathlib import Path

from engine import Engine
from engine.jobs import Jobs, SQLiteStore
from engine.jobs._moment import Moment
from engine.jobs._schedules import ticker as _ticker

__all__ = ["jobs_at"]


def jobs_at(path: Path, clock: Path) -> Jobs:
    """Make the Jobs that all of them have."""
    store = SQLiteStore(path, "normal", clock=lambda: Moment(float(clock.read_text()), time.monotonic(), "this"))
    jobs = Jobs(store)

    @jobs.periodic("*/5 * * * *", name="skips", period_as="at")
    @jobs.periodic("*/5 * * * *", name="catches-up", period_as="at", catch_up="last")
    @jobs.task(name="note")
    async def note(at: str) -> str:
        return at

    return jobs


async def _work(jobs: Jobs) -> None:
    loop = asyncio.get_running_loop()
    async with Engine(processes=1, threads=1) as engine, jobs.worker(engine):
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Work until the input ends."""
    _ticker.LOOK = 0.02  # so soon it sees that the clock was set
    with jobs_at(Path(sys.argv[1]), Path(sys.argv[2])) as jobs:
        asyncio.run(_work(jobs))


if __name__ == "__main__":
    main()
