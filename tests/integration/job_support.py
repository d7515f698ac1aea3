"""What tests of durable jobs share: enqueueing and looking by the store's own verbs."""

import json
from typing import Any

from engine import TaskState
from engine.jobs._jobs import Jobs
from engine.jobs._moves import TERMINAL
from engine.jobs._records import Cancelled, Failure, Filter, JobInfo, NewJob, Rescued
from engine.jobs._tasks.job_task import JobTask
from tests.support import eventually_async

__all__ = ["Bench"]


class Bench:
    """A Jobs and its store."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.store = jobs.store

    async def enqueue(self, task: JobTask[..., Any] | str, /, times: int = 1, **new: Any) -> list[int]:
        """Enqueue ``times`` jobs; ``args`` may be said as a dict, or as the text of a row that nobody has checked."""
        args = new.pop("args", {})
        name, queue = (task, "default") if isinstance(task, str) else (task.name, task.queue)
        settled = {"queue": queue, "args": args if isinstance(args, str) else json.dumps(args), **new}
        if not isinstance(task, str):
            settled.setdefault("max_crashes", task.max_crashes)
        jobs = [NewJob(name=name, **settled)] * times
        return await self.store.write(lambda book, now: book.enqueue(jobs, now))

    async def look(self, job_id: int) -> JobInfo:
        """Return how a job stands."""
        (info,) = await self.store.read(lambda book, now: book.find(Filter(ids=(job_id,))))
        return info

    async def failures(self, job_id: int) -> list[Failure]:
        """Return why runs of a job did not complete."""
        return await self.store.read(lambda book, now: book.failures(job_id))

    async def ended(self, *job_ids: int, timeout: float = 20.0) -> list[JobInfo]:
        """Wait until jobs have ended; return how."""
        wanted = Filter(ids=job_ids, limit=len(job_ids), oldest_first=True)

        async def have_ended() -> list[JobInfo]:
            infos = await self.store.read(lambda book, now: book.find(wanted))
            return infos if all(info.state in TERMINAL for info in infos) else []

        return await eventually_async(have_ended, timeout, f"jobs {job_ids} have ended")

    async def running(self, *job_ids: int) -> None:
        """Wait until jobs run."""

        async def run() -> bool:
            states = await self.store.read(lambda book, now: book.states(job_ids))
            return set(states.values()) == {TaskState.RUNNING}

        await eventually_async(run, 20.0, f"jobs {job_ids} run")

    async def cancel(self, job_id: int) -> Cancelled:
        """Ask for a cancel."""
        return await self.store.write(lambda book, now: book.cancel(job_id, now))

    async def rescue_all(self) -> list[Rescued]:
        """Do as if every holder's lease were over."""
        return await self.store.write(lambda book, now: book.rescue(now, lambda holder: True))
