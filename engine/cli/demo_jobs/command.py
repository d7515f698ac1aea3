"""``engine demo --jobs FILE``: from what was typed to a run."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator

from engine.jobs import JobsError

from ..demo_work import Work
from ..jobs.target import jobs_at
from ..refusals import Failed, Refused
from .run import DurableRun

__all__ = ["durable_run"]


@contextlib.contextmanager
def durable_run(arguments: argparse.Namespace, work: Work) -> Iterator[DurableRun]:
    """Give a run of ``work`` over the file of jobs that was named; close the file at the end.

    Raises:
        Refused: the file is of no use.
    """
    path = arguments.jobs
    if not path:
        raise Refused(f"expected --jobs to be a file, got {path!r}")
    try:
        work.root.encode()
    except UnicodeEncodeError:
        raise Refused(f"expected PATH to be text, for jobs keep it as JSON, got {work.root!r}") from None
    logger = logging.getLogger("engine.jobs")
    level, jobs = logger.level, jobs_at(path)
    logger.setLevel(logging.ERROR)  # what was rescued, the run itself says at its end
    try:
        yield DurableRun(jobs, path, work, sys.stdout, is_any_work=arguments.path is None)
    except JobsError as error:
        raise Failed(str(error)) from error
    finally:
        jobs.close()
        logger.setLevel(level)
