"""How a task comes in: what is taken from its submitter, whether the engine is open, and the queue.

Guarantees
    Callers: any thread, the collector and signal handlers included; nothing here waits.
    A task whose ``submit`` returned is accepted; one whose ``submit`` raised is not, nor does it cost a wake-up.
    Lock order: the registry's lock is released before a lane, a mailbox's loop or user code is called.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _sigint
from ._lanes.chunk import Chunk
from ._records import Call
from ._routing import is_fleeting
from ._states import TERMINAL
from ._states import Lane as LaneName
from ._task import Task, Waiter
from .errors import EngineClosed, EngineForked

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["Admission"]

_PREPARED_MOST = 512  #: calls remembered as prepared; past that the memory starts anew
_UNSET: Any = object()


class Admission:
    """The part of the scheduler that accepts tasks."""

    def __init__(self, scheduler: Scheduler, exported: tuple[tuple[str, Any], ...]) -> None:
        self._scheduler = scheduler
        self._registry = scheduler.registry
        self.snapshot_function: Callable[[Callable[..., Any]], bool]  #: the process lane's; set by Core
        self._exported = exported
        self._prepared: set[Call] = set()

    def submit(
        self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any] | None, *,
        at_home: bool = False, waiter: Waiter | None = None,
    ) -> Task[Any]:  # fmt: skip
        """Accept one call; never waits.

        ``at_home``: a coroutine runs on the engine's loop, whichever runs here. ``waiter`` is there before anything can
        happen to the task.

        Raises:
            EngineFull: max_pending tasks wait already.
            EngineClosed, EngineForked: the engine does not run here.
        """
        task: Task[Any] = Task(self._scheduler, 0, call, args, kwargs, self._scheduler.now(), self._scheduler.wall())
        if waiter is not None:
            task._waiters = [waiter]
        lane = call.lane
        if lane is LaneName.PROCESS:
            if type(args) is Chunk:  # type: ignore[comparison-overlap]  # its lane knows what it is
                args.task = task
            if call not in self._prepared:
                self._prepare(call)
            if self._exported:
                task._context = {a: v for a, var in self._exported if (v := var.get(_UNSET)) is not _UNSET}
        else:
            task._context = contextvars.copy_context()
            if lane is LaneName.LOOP:
                task._loop = self._scheduler.home if at_home else self._scheduler.waiters.mailbox()
        registry = self._registry
        if self._scheduler.forked or self._scheduler.home.loop.is_closed():
            self.check_open()
        if registry.is_entered():  # called by the collector or a signal handler: accept it when the section is left
            self._scheduler.later(self._admit_late, task)
            return task
        try:
            with registry.lock:
                if self._scheduler.phase != "running":
                    self._check_phase_locked()
                wake = registry.admit_locked(task)
            if call.total_timeout is not None:
                self._scheduler.deadlines.watch_task(task, call.total_timeout)
            if wake is not None:
                wake()
        except Exception:
            raise
        except BaseException:  # Ctrl-C in the middle: nobody will have this task, and nobody may miss its wake-up
            self._take_back(task)
            raise
        return task

    def submit_rest(self, like: Task[Any], chunk: Chunk) -> Task[Any] | None:
        """Accept what ``like``, a chunk that is accepted and not over, does not run: past every bound, before others.

        None: another thread has just cancelled that, and this with it.

        Raises:
            EngineClosed: the engine has ended.
        """
        created, wall = self._scheduler.now(), self._scheduler.wall()
        task: Task[Any] = Task(self._scheduler, 0, like._call, chunk, None, created, wall)  # type: ignore[arg-type]  # args, for its lane
        chunk.task = task
        with self._registry.lock:
            if like._state in TERMINAL:
                return None
            task._context = like._context
            if self._scheduler.phase == "closed":
                self._check_phase_locked()
            wake = self._registry.admit_locked(task, is_bounded=False, first=True)
        if wake is not None:
            wake()
        return task

    def _take_back(self, task: Task[Any]) -> None:
        """Mend what a Ctrl-C in ``submit`` broke off: end the task if it was accepted, and wake every taker."""
        with _sigint.deferred():
            with self._registry.lock:
                wakes = self._registry.mend_locked(task)
            for wake in wakes:
                wake()
            if task.id in self._registry.live:
                task.cancel()

    def _admit_late(self, task: Task[Any]) -> None:
        """Accept a task that was submitted from inside a section; past every bound, as its handle is out already."""
        with self._registry.lock:
            is_running = self._scheduler.phase == "running"
            wake = self._registry.admit_locked(task, is_bounded=False)
        if not is_running or task._cancel_requested:
            self._scheduler.endings.cancel(task, task._rare.cancel_message)
        elif task._call.total_timeout is not None:
            self._scheduler.deadlines.watch_task(task, task._call.total_timeout)
        if wake is not None:
            wake()

    def _prepare(self, call: Call) -> None:
        """Let the process lane take its snapshot of the function, or see whether the one that it has still holds."""
        if len(self._prepared) >= _PREPARED_MOST:
            self._prepared.clear()
        is_final = self.snapshot_function(call.fn)
        if is_final and not is_fleeting(call.fn):  # not before: a Ctrl-C may have come instead of a snapshot
            self._prepared.add(call)

    def check_open(self) -> None:
        """Raise EngineClosed or EngineForked unless a submit from here would be accepted."""
        if self._scheduler.forked:
            raise EngineForked
        if self._scheduler.home.loop.is_closed() and self._scheduler.phase != "closed":
            raise EngineClosed(
                "expected the engine's event loop to be open, got a closed one: cannot schedule new futures "
                "after shutdown; create the Engine inside the running loop"
            )
        with self._registry.lock:
            self._check_phase_locked()

    def _check_phase_locked(self) -> None:
        if self._scheduler.phase == "closed" or (
            self._scheduler.phase == "draining" and self._scheduler.waiters.running_attempt() is None
        ):
            verb = "has stopped" if self._scheduler.phase == "closed" else "is stopping"
            raise EngineClosed(f"expected the engine to be running, got one that {verb}: cannot schedule new futures "
                               f"after {self._scheduler.refusal}; create a new Engine")  # fmt: skip
