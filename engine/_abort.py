"""The last resort: ending an engine whose loop does not turn, or in whose sections a KeyboardInterrupt was raised.

``Stopper`` ends an engine with the help of its loop. Here nothing is awaited and nothing is taken for granted: tasks
and attempts may be in the middle of a step that an interrupt broke off.

Guarantees
    Any thread. Takes ``WAIT_SECONDS`` at most, for killed workers to be gone. Ctrl-C is held back meanwhile.
    Every live task is CANCELLED, every waiting thread released; no worker process is left alive.
    Descriptors and exit statuses of workers are ours only if the loop is closed or stands still; a loop that turns, or
    will turn again, cleans up after the deaths that it sees.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import _sigint
from ._clock import now
from ._lanes.loop import silence, task_of
from ._states import TERMINAL, Lane, TaskState

if TYPE_CHECKING:
    from ._core import Core
    from ._lanes.base import Attempt
    from ._task import Task, Waiter

__all__ = ["abort"]

WAIT_SECONDS = 1.0

log = logging.getLogger("engine")


def abort(core: Core, why: str, *, is_collected: bool = False) -> None:
    """End ``core`` here and now; ``why`` is what its cancelled tasks say. Idempotent.

    ``is_collected`` says that a ``__del__`` calls: then Ctrl-C is dropped meanwhile.
    """
    if core.stopper.ended.done() or core.scheduler.forked:
        return
    with _sigint.deferred(is_dropped=is_collected):
        try:
            _refuse(core)
            core.processes.kill()
            for task in _unfinished(core):
                _cancel(core, task, why)
            for attempt in _unfinished_attempts(core):
                _let_go(core, attempt)
            for lane in core.lanes.values():
                lane.kill()
            if core.loop.is_closed() or not core.loop.is_running():
                core.processes.bury(WAIT_SECONDS)
                if core.stopper.task is not None:  # it may never have had its first step
                    silence(core.stopper.task)
        except Exception:  # what is half done may be anything; the end must come all the same
            log.exception("an engine could not be ended in order")
        core.stopper.finish()


def _refuse(core: Core) -> None:
    with core.registry.lock:
        core.scheduler.phase = "closed"
        waiters = list(core.registry.room_waiters)
        core.registry.room_waiters.clear()
    for opened in waiters:
        opened()


def _unfinished(core: Core) -> list[Task[Any]]:
    with core.registry.lock:
        return list(core.registry.live.values())


def _unfinished_attempts(core: Core) -> list[Attempt]:
    with core.registry.lock:
        attempts, core.registry.attempts = list(core.registry.attempts), set()
        core.scheduler.counters.abandoned += sum(attempt.lane is not Lane.PROCESS for attempt in attempts)
    return attempts


def _cancel(core: Core, task: Task[Any], why: str) -> None:
    """Settle ``task``; one that an interrupt left between two states is put in order first."""
    registry = core.registry
    waiters: list[Waiter] | None = None
    held = task._args, task._kwargs, task._context  # dropped after the lock: __del__ is user code
    with registry.lock:
        if task._state in TERMINAL:
            registry.live.pop(task.id, None)
            waiters, task._waiters = task._waiters, None
        else:
            task._note_cancel(why)
            core.stopper.by_stop += 1
            waiters = registry.settle_locked(task, TaskState.CANCELLED, now())
    del held
    if waiters:
        core.scheduler.waiters.deliver(task, waiters)


def _let_go(core: Core, attempt: Attempt) -> None:
    """Ask ``attempt`` to end, tell those who wait for its slot, and keep asyncio from complaining about its task."""
    attempt.cancel_requested = True
    callbacks, attempt.callbacks = attempt.callbacks, None
    for fn in callbacks or ():
        fn()
    if attempt.lane is Lane.LOOP and attempt.loop.loop.is_closed() and (task := task_of(attempt)) is not None:
        silence(task)
