"""Calling hooks: what users want to be told of runs."""

import asyncio
import inspect
import logging
from collections.abc import Iterable
from typing import Any

from engine import Engine, EngineClosed, RemoteError

from .._current_job import CurrentJob

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
        except asyncio.CancelledError as error:
            if _is_cut_off():
                raise
            _logger.error("job %d (%s): the hook %s %r cancelled itself", job.id, job.name, event, hook, exc_info=error)
        except EngineClosed:
            _logger.warning("job %d (%s): the engine has stopped before its hook %s", job.id, job.name, event)
        except Exception as error:
            told = error.__cause__ if isinstance(error, RemoteError) and error.__cause__ is not None else error
            _logger.error("job %d (%s): the hook %s %r failed", job.id, job.name, event, hook, exc_info=told)


def _is_cut_off() -> bool:
    """Say whether it is we who are cancelled, not a hook that lets a CancelledError of its own out."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
