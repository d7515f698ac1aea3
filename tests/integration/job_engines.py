"""An engine with a worker in a process of its own, to be killed: ``python -m tests.integration.job_engines F LEASE``.

It prints "ready" when it claims, runs jobs until SIGTERM, and then prints its statistics as JSON.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine import Engine, Retry
from engine.jobs._current_job import current_job
from engine.jobs._jobs import Jobs
from engine.jobs._sqlite.store import SQLiteStore
from tests.support import REPOSITORY

__all__ = ["Child", "children_of", "make_jobs"]

_QUICK = Retry(max_attempts=1, base_delay=0.01)


def make_jobs(path: Path | str, lease: float) -> Jobs:
    """Make the Jobs that a test and its children have in common."""
    jobs = Jobs(SQLiteStore(path, "normal"), lease=lease)
    tasks: list[tuple[dict[str, Any], Callable[..., Any]]] = [
        ({}, hang_at_first), ({}, wait_for_file), ({}, number), ({}, block), ({"lane": "process"}, hang_in_process),
        ({"lane": "thread", "max_crashes": 2}, kill_engine),
    ]  # fmt: skip
    for settings, fn in tasks:
        jobs.task(retry=_QUICK, **settings)(fn)
    return jobs


# -- what the jobs do -------------------------------------------------------------------------------------------------


def _token() -> int:
    job = current_job()
    assert job is not None
    return job.token


async def hang_at_first() -> int:
    """Never end, but where an earlier run is over."""
    if _token() == 1:
        await asyncio.Event().wait()
    return _token()


async def wait_for_file(path: str) -> int:
    """Say that it has begun, and end once the file is there; an earlier run's successor at once."""
    Path(path + ".begun").touch()
    while _token() == 1 and not Path(path).exists():
        await asyncio.sleep(0.005)
    return _token()


async def number(n: int) -> int:
    return n


async def block(seconds: float) -> int:
    """Hold up the loop."""
    time.sleep(seconds)
    return _token()


def hang_in_process(pid_file: str) -> int:
    """Say in which process it runs, and never end at first."""
    if _token() == 1:
        Path(pid_file).write_text(str(os.getpid()))
        while True:
            time.sleep(1)
    return _token()


def kill_engine() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- the child --------------------------------------------------------------------------------------------------------


async def _work(path: str, lease: float) -> None:
    jobs, told = make_jobs(path, lease), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with Engine(processes=1, threads=2) as engine, jobs.worker(engine, drain_timeout=0) as worker:
        print("ready", flush=True)
        await told.wait()
    jobs.close()
    print(json.dumps(dataclasses.asdict(worker.statistics())), flush=True)


class Child:
    """Such a process, seen from the test."""

    def __init__(self, path: Path, lease: float) -> None:
        command = [sys.executable, "-m", __spec__.name, str(path), str(lease)]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._stdout = self.process.stdout

    async def ready(self) -> "Child":
        """Wait until it claims."""
        assert await asyncio.to_thread(self._stdout.readline) == "ready\n"
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def died(self, number: signal.Signals) -> None:
        """Wait until a signal has ended it."""
        assert await asyncio.to_thread(self.process.wait, 30) == -number

    async def statistics(self) -> dict[str, Any]:
        """Have it drain, and return what it did."""
        self.send(signal.SIGTERM)
        told: dict[str, Any] = json.loads(await asyncio.to_thread(self._stdout.read))
        assert await asyncio.to_thread(self.process.wait, 30) == 0
        return told

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self._stdout.close()


@contextlib.contextmanager
def children_of(path: Path, lease: float) -> Iterator[Any]:
    """Give a function that starts a child; all of them are gone afterwards."""
    started: list[Child] = []

    async def start() -> Child:
        started.append(Child(path, lease))
        return await started[-1].ready()

    try:
        yield start
    finally:
        for child in started:
            child.close()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], float(sys.argv[2])))
