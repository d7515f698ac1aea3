"""``engine jobs prune``: delete jobs that ended long ago, in transactions that hold up nobody for long."""

import argparse
import sys
import time
from collections.abc import Iterator

from engine import TaskState
from engine.jobs import Jobs

from ..progress import LIVE_EVERY, LiveLine, is_live
from ..units import age, count
from .as_json import json_line

__all__ = ["prune"]

_BATCH = 1000  #: jobs in one transaction
_ENDED = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


def prune(jobs: Jobs, arguments: argparse.Namespace) -> int:
    """Delete what ended more than ``older_than`` ago; return the exit code."""
    states = tuple(TaskState(state) for state in arguments.state) or _ENDED
    before = jobs.store.now().wall - arguments.older_than
    deleted = 0
    for found in _batches(jobs, states, before):
        deleted += found
    if arguments.json:
        print(json_line({"deleted": deleted}))
    else:
        print(f"{count(deleted, 'job')} deleted that ended more than {age(arguments.older_than)} ago")
    return 0


def _batches(jobs: Jobs, states: tuple[TaskState, ...], before: float) -> Iterator[int]:
    """Delete a batch at a time and yield how many jobs that were; a terminal shows how far it is, if it takes long."""
    line = LiveLine(sys.stderr) if is_live(sys.stderr) else None
    deleted, found, shown = 0, _BATCH, time.monotonic()
    try:
        while found == _BATCH:
            found = jobs.store.write(lambda book, now: book.prune(states, before, _BATCH)).result()
            deleted += found
            if line is not None and time.monotonic() - shown >= LIVE_EVERY:
                shown = time.monotonic()
                line.write(f"{count(deleted, 'job')} deleted so far")
            yield found
    finally:
        if line is not None:
            line.leave()
