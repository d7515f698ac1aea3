"""What a worker says before it begins."""

import os
import platform
from collections.abc import Iterable, Iterator, Mapping

from engine import Engine, Lane, __version__
from engine.jobs import Jobs

from ..units import count, plain

__all__ = ["introduction"]

_NAMED_MOST = 12  #: tasks or queues that are named; the others are counted


def introduction(
    jobs: Jobs, engine: Engine, name: str, queues: Mapping[str, int | None] | None, concurrency: int | None
) -> Iterator[str]:
    """Yield what the worker called ``name`` is going to do, a line each."""
    lanes = engine.snapshot().lanes
    slots = {lane: lanes[lane].slots for lane in (Lane.PROCESS, Lane.THREAD, Lane.LOOP)}
    yield f"engine {__version__}, Python {platform.python_version()}, pid {os.getpid()}"
    yield f"{plain(name)} works on {plain(jobs.name)}"
    served = jobs.queues if queues is None else queues
    yield f"queues     {_listed(_bounded(queue, most) for queue, most in served.items())}"
    yield f"tasks      {_listed(jobs.tasks)}"
    yield f"schedules  {_listed(map(str, jobs.schedules.values()))}"
    processes = count(slots[Lane.PROCESS], "worker process", "worker processes")
    at_once = "" if concurrency is None else f"at most {count(concurrency, 'job')} at once, in "
    yield f"runs       {at_once}{processes}, {count(slots[Lane.THREAD], 'thread')}, and the event loop"


def _bounded(queue: str, most: int | None) -> str:
    return queue if most is None else f"{queue} (at most {most:,} at once)"


def _listed(names: Iterable[str]) -> str:
    names = [plain(name) for name in names]
    more = f", and {len(names) - _NAMED_MOST:,} more" if len(names) > _NAMED_MOST else ""
    return (", ".join(names[:_NAMED_MOST]) + more) or "none"
