"""The engine's own scheduler, where whoever waits does the work, and time is virtual."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._admission import Admission
from .._lanes.base import Attempt
from .._latch import Latch
from .._mailbox import Mailbox
from .._records import Call
from .._registry import Registry
from .._scheduler import Scheduler
from .._states import Lane
from .._task import Task
from .._waiters import Waiters, is_a_wait
from ..errors import PickleError

if TYPE_CHECKING:
    from .core import InlineCore

__all__ = ["InlineScheduler"]


class InlineScheduler(Scheduler):
    """A scheduler for one thread."""

    def __init__(self, core: InlineCore, registry: Registry, home: Mailbox) -> None:
        super().__init__(registry, home, core.exported)
        self.rng = core.rng
        self.now = core.clock.now
        self.is_inline = True
        self.wait = core.wait
        self.next_in = core.next_in
        self.waiters = InlineWaiters(registry, home, self)
        self.admission = InlineAdmission(self, core)

    def begin(self, attempt: Attempt, at: float) -> bool:
        """Record that ``attempt`` starts now, whatever the lane's clock says."""
        return super().begin(attempt, self.now())


class InlineAdmission(Admission):
    """Accepts a task, and runs it at once if nobody else does."""

    def __init__(self, scheduler: InlineScheduler, core: InlineCore) -> None:
        super().__init__(scheduler, core.exported)
        self._core = core

    def submit(self, call: Call, *given: Any, **more: Any) -> Task[Any]:
        """Accept one call, as the engine does.

        Raises:
            PickleError: a process task submits; in a worker process it would have no engine.
            RuntimeError: it is another thread's engine.
        """
        self._core.check_thread()
        attempt = self._scheduler.waiters.running_attempt()
        if attempt is not None and attempt.lane is Lane.PROCESS:
            raise PickleError(
                "expected a task of the thread or loop lane to submit, got one of the process lane, where there is no "
                "engine; return what is to be done next, or use lane='thread'"
            )
        task = super().submit(call, *given, **more)
        self._core.after_submit()
        try:
            return task
        finally:
            del attempt, task  # as in InlineCore.run_next


class InlineWaiters(Waiters):
    """Who awaits a task on a loop of the test's own has it run meanwhile."""

    def mailbox(self) -> Mailbox:
        """Return the home loop's: every coroutine runs there, in virtual time."""
        return self._home

    def add_callback(self, task: Task[Any], fn: Callable[[Any], object], context: contextvars.Context) -> None:
        """Have ``fn(task)`` called on the loop that runs here; if it is a wait, the task is done first."""
        loop = asyncio._get_running_loop()
        if loop is None or loop is self._home.loop:
            super().add_callback(task, fn, context)
            return
        if is_a_wait(fn):
            self._front.wait(_latch_of(self, task))
        mailbox = super().mailbox()
        if not self.add(task, fn, context, mailbox, waits=False):
            self.deliver(task, [(fn, context, mailbox, None)])


def _latch_of(waiters: Waiters, task: Task[Any]) -> Latch:
    done = Latch()
    if not waiters.add(task, done.set, waits=False):
        done.set()
    return done
