"""What a worker logs: to stderr, a line a record, which no text of a row can break or colour."""

import logging
import sys

from engine.jobs import CurrentJob, Jobs

from ..units import plain

__all__ = ["log_each_job", "log_to_stderr"]

_jobs_logger = logging.getLogger("engine.jobs")

_FORM = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _PlainFormatter(logging.Formatter):
    """Escapes what a terminal would obey; the lines of a traceback stay lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of ``record``."""
        return "\n".join(plain(line) for line in super().format(record).split("\n"))

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return its first part, on one line: a message may hold the name of a job."""
        return plain(super().formatMessage(record))


def log_to_stderr(*, verbose: bool) -> None:
    """Log what ``engine`` says, and what the user's code says, unless that has said itself where to."""
    logging.getLogger("engine").setLevel(logging.INFO)
    if verbose:
        _jobs_logger.setLevel(logging.DEBUG)
    if logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PlainFormatter(_FORM))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)


def log_each_job(jobs: Jobs) -> None:
    """Have each run of a job logged as it begins and completes; failures are logged anyway."""

    async def begins(job: CurrentJob) -> None:
        _jobs_logger.debug("job %d (%s) begins, attempt %d", job.id, job.name, job.attempt)

    async def completed(job: CurrentJob, result: object) -> None:
        _jobs_logger.debug("job %d (%s) completed", job.id, job.name)

    jobs.before_run(begins)
    jobs.after_run(completed)
