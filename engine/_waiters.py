"""Who waits for a task: callbacks of event loops, and threads in ``result()``.

Guarantees
    Waiters are kept in ``Task._waiters`` under the registry's lock and called outside it, each on its own loop.
    An attempt of this engine that waits for a task lends its slot: from ``lend`` to ``reclaim``, or from ``add`` until
    the task settles or the waiter is removed, whichever is first; both ends happen under the same lock, so a slot is
    lent and reclaimed in pairs.
    A callback alone is no wait and lends nothing, but for asyncio's own (design/0009).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _current
from ._lanes.base import Attempt
from ._mailbox import Mailbox
from ._registry import Registry
from ._states import TERMINAL, Lane
from ._task import Task, Waiter
from .errors import EngineForked, NestedDeadlock

if TYPE_CHECKING:
    from ._scheduler import Scheduler

__all__ = ["Waiters", "is_a_wait", "is_of_asyncio"]

_LENT_PER_SLOT = 10  #: slots of a lane that may be lent for each it has, before one more wait is a NestedDeadlock


class Waiters:
    """The waiting side of one engine. ``front`` is what a RunningTask of this engine names as its own."""

    def __init__(self, registry: Registry, home: Mailbox, front: Scheduler) -> None:
        self._registry = registry
        self._home = home
        self._front = front
        self._mailboxes: dict[asyncio.AbstractEventLoop, Mailbox] = {}

    def running_attempt(self) -> Attempt | None:
        """Return the attempt of this engine that runs here, None outside one."""
        running = _current.running.get()
        return running.owner if running is not None and running.front is self._front else None

    def refuse_itself(self, task: Task[Any]) -> None:
        """Raise if it is ``task`` itself that would wait for ``task`` here: that could never end.

        Raises:
            RuntimeError: it is.
        """
        attempt = self.running_attempt()
        if attempt is not None and attempt.task is task:
            raise RuntimeError(f"expected task {task.id} ({task.name}) to wait for another task, got itself")

    def mailbox(self) -> Mailbox:
        """Return the mailbox of the loop that runs here, else the home loop's."""
        loop = asyncio._get_running_loop()
        if loop is None or loop is self._home.loop:
            return self._home
        with self._registry.lock:
            mailbox = self._mailboxes.get(loop)
            if mailbox is None:
                _gone = [self._mailboxes.pop(old) for old in list(self._mailboxes) if old.is_closed()]
                mailbox = self._mailboxes[loop] = Mailbox(loop)
        return mailbox

    def add_callback(self, task: Task[Any], fn: Callable[[Any], object], context: contextvars.Context) -> None:
        """Have ``fn(task)`` called in ``context`` on the loop that runs here, once ``task`` is done."""
        mailbox = self.mailbox()
        if not self.add(task, fn, context, mailbox, waits=is_of_asyncio(fn)):
            self.deliver(task, [(fn, context, mailbox, None)])

    def add(
        self,
        task: Task[Any],
        fn: Callable[[Any], object],
        context: contextvars.Context | None = None,
        mailbox: Mailbox | None = None,
        *,
        waits: bool = True,
    ) -> bool:
        """Have ``fn`` called when ``task`` is done. False: it is done.

        If that is for somebody who ``waits`` here, the attempt that runs here lends its slot until then. Without a
        ``mailbox``, ``fn`` is called by whoever settles the task and must be one of ours: quick and safe.

        Raises:
            NestedDeadlock: too many attempts wait already.
        """
        if self._front.forked and task._state not in TERMINAL:
            raise EngineForked
        lender = self.running_attempt() if waits else None
        wake = None
        with self._registry.lock:
            if task._state in TERMINAL:
                return False
            if lender is not None and (lender.over or lender.task is task):
                lender = None
            if lender is not None:
                wake = self._lend_locked(lender)
            if task._waiters is None:
                task._waiters = []
            task._waiters.append((fn, context, mailbox, lender))
        if wake is not None:
            wake()
        return True

    def lend(self) -> Attempt | None:
        """Lend the slot of the attempt that runs here, which is about to wait; ``reclaim`` what this returns.

        Raises:
            NestedDeadlock: too many attempts wait already. ``await task`` asks here first: asyncio cannot bear a raise
                in ``add_done_callback``, and would never wake the caller.
        """
        if self._front.forked:
            raise EngineForked
        lender = self.running_attempt()
        if lender is None:
            return None
        with self._registry.lock:
            if lender.over:
                return None
            wake = self._lend_locked(lender)
        if wake is not None:
            wake()
        return lender

    def reclaim(self, lender: Attempt | None) -> None:
        """End one ``lend``."""
        if lender is not None:
            with self._registry.lock:
                self._registry.waited_locked(lender)

    def _lend_locked(self, lender: Attempt) -> Callable[[], None] | None:
        slots = self._registry.slots[lender.lane]
        bound = _LENT_PER_SLOT * (slots.limit or 1)
        if not lender.waits and slots.lent >= bound:
            lane = lender.lane.value
            option = "threads" if lender.lane is Lane.THREAD else "coroutines"
            raise NestedDeadlock(
                f"expected at most {bound} tasks of the {lane} lane to wait for tasks of this engine, got one more "
                f"task {lender.task_id} ({lender.name}); submit without waiting, or raise {option}={slots.limit}"
            )
        return self._registry.waits_locked(lender)

    def remove(self, task: Task[Any], fn: Callable[[Any], object]) -> int:
        """Forget the waiters that call ``fn``; return how many there were."""
        with self._registry.lock:
            waiters = list(task._waiters or ())
        gone = {id(waiter): waiter for waiter in waiters if waiter[0] == fn}  # == may be user code: outside the lock
        removed = 0
        with self._registry.lock:
            kept = []
            for waiter in task._waiters or ():
                if id(waiter) not in gone:
                    kept.append(waiter)
                    continue
                removed += 1
                if waiter[3] is not None:
                    self._registry.waited_locked(waiter[3])
            if removed:
                task._waiters = kept or None
        return removed

    @staticmethod
    def deliver(task: Task[Any], waiters: list[Waiter]) -> None:
        """Call each waiter of the settled ``task`` on its loop: directly where that is this one. Uses the list up."""
        here = asyncio._get_running_loop()
        while waiters:
            fn, context, mailbox, _ = waiters.pop(0)
            if mailbox is None:
                fn(task)
                continue
            call = fn if is_a_wait(fn) else functools.partial(_call_back, fn)
            if mailbox.loop is here:
                here.call_soon(call, task, context=context)
            else:
                mailbox.post(call, task, context=context)


def is_a_wait(fn: Callable[[Any], object]) -> bool:
    """Say whether ``fn`` is how asyncio waits for a future: it resumes a coroutine, or is ``gather``'s and the like."""
    return is_of_asyncio(fn) or _wakes_a_task(fn)


def is_of_asyncio(fn: Callable[[Any], object]) -> bool:
    """Say whether ``fn`` is the callback with which ``gather``, ``wait``, ``shield`` and the like wait for a future."""
    inner = fn.func if isinstance(fn, functools.partial) else fn
    module = getattr(inner, "__module__", None)
    return isinstance(module, str) and (module == "asyncio.tasks" or f"{module}.".startswith("asyncio."))


def _wakes_a_task(fn: Callable[[Any], object]) -> bool:
    """Say whether ``fn`` resumes a coroutine of asyncio that awaits."""
    return isinstance(getattr(fn, "__self__", None), asyncio.Task)


def _call_back(fn: Callable[[Any], object], task: Task[Any]) -> None:
    """Call a user's callback, which must not end the loop: with it every other task would be lost.

    Any other exception is logged by the loop. KeyboardInterrupt goes on where Ctrl-C is raised, on the main thread.
    """
    try:
        fn(task)
    except (SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        message = f"Exception in the done callback {fn!r} of {task!r}; the loop goes on"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
