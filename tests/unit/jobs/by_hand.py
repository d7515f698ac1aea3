"""What a worker does to jobs, done by hand: claim one, end it."""

from engine.jobs import Job, Jobs
from engine.jobs._records import Claim, Claimed, End, Ending, Failure, NewHolder, NewJob

PATIENCE = 20.0
HOLDER = NewHolder(name="by hand", pid=1, pid_started=0.0, namespace="nobody's", lease=1e6)


def claim(jobs: Jobs, queue: str = "default") -> Claimed:
    """Claim the next job of ``queue``."""
    holder = jobs.store.write(lambda book, now: book.hold(HOLDER, now)).result(PATIENCE)
    wanted = Claim(holder=holder, queues={queue: 1}, limit=1)
    (claimed,) = jobs.store.write(lambda book, now: book.claim(wanted, now)).result(PATIENCE).jobs
    return claimed


def end(
    jobs: Jobs, run: Claimed, how: End = End.COMPLETED, result: str | None = "null", error: str | None = None,
    follow_ups: tuple[NewJob, ...] = (),
) -> None:  # fmt: skip
    """End a run."""
    failure = None if error is None else Failure(0.0, run.attempt, run.token, "error", error, "a traceback")
    ending = Ending(run.id, run.token, how, result if how is End.COMPLETED else None, failure, 0.0, follow_ups)
    jobs.store.write(lambda book, now: book.end([ending], now)).result(PATIENCE)


def fetched(jobs: Jobs, job: Job | int) -> Job:
    """Give a job as it is now."""
    return jobs.get(job if isinstance(job, int) else job.id).result(PATIENCE)
