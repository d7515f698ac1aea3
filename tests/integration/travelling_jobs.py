"""Tasks of a module that worker processes import, as an application's is. ``JOBS_PATH`` says where its file is."""

import os

from engine.jobs import Jobs

jobs = Jobs(os.environ.get("JOBS_PATH", "/nonexistent/jobs.db"))


@jobs.task(name="travel.double", lane="process")
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@jobs.task(name="travel.enqueue_more", lane="process")
def enqueue_more(number: int) -> tuple[int, int]:
    """Enqueue from inside the worker process, through the store that it opens itself."""
    job = double.options(queue="more").enqueue(number).result(20)
    jobs.close()
    return os.getpid(), job.id


@jobs.task(name="travel.add")
async def add(first: int, second: int) -> int:
    """Add, on a loop."""
    return first + second
