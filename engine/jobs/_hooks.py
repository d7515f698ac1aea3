"""Calling hooks: what users want to be told of runs."""

import inspect
import logging
from collections.abc import Iterable
from typing import Any

from engine import Engine, EngineClosed, RemoteError

from ._current_job import CurrentJob

__all__ = ["call_hooks"]

_logger = logging.getLogger("engine.jobs")


async def call_hooks(engine: Engine, event: str, hooks: Iterable[Any], job: CurrentJob, *more: Any) -> None:
    """Call ``hooks`` one after the other, coroutine functions on the loop and plain ones in a thread.

    They run in the engine like any other code of users. What one raises is logged, and changes nothing.
    """
    for hook in hooks:
        lane = None if inspect.iscoroutinefunction(hook) else "thread"
        try:
            await engine.options(lane=lane, name=event).run(hook, job, *more)
        except EngineClosed:
            _logger.warning("job %d (%s): the engine has stopped before its hook %s", job.id, job.name, event)
        except Exception as error:
            told = error.__cause__ if isinstance(error, RemoteError) and error.__cause__ is not None else error
            _logger.error("job %d (%s): the hook %s %r failed", job.id, job.name, event, hook, exc_info=told)
