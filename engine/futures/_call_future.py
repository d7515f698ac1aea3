"""A ``concurrent.futures.Future`` that stands for a task of an engine.

Guarantees
    The task is the truth; the future follows it once, on the thread that settles the task. Who holds the future's lock
    and finds it pending ends it.
    ``Future`` guards itself with a Condition that user code holds too (``wait``, ``as_completed``), and that a Ctrl-C
    may leave held (``_latch``). So nobody who settles a task ever waits for it: where it is not free, a thread of
    its own does, which calls nothing of users; and ``result`` waits for a Latch.
    Callbacks run on the executor's callback thread, in the order in which the futures ended; those of asyncio, which
    only wake a loop, at once.
    ``cancel`` and the start of the task exclude each other (``Endings.cancel_unstarted``): True means it never ran.
"""

from __future__ import annotations

import concurrent.futures
import functools
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .._blocking_calls import refuse_to_block
from .._clock import now
from .._latch import Latch
from .._states import TERMINAL, Lane, TaskState
from .._waiters import is_of_asyncio
from ._broken import as_broken, as_raised, is_breaking

if TYPE_CHECKING:
    from .._task import Task, Waiter
    from ._ledger import Ledger

__all__ = ["CallFuture"]

T = TypeVar("T")

_PENDING = "PENDING"  #: the states of ``Future``, by their names there
_RUNNING = "RUNNING"  #: never ours: user code has called ``set_running_or_notify_cancel``
_FINISHED = "FINISHED"
_HELD_SECONDS = 5.0  #: after which a future's lock, which is held for microseconds, is taken for lost
_OPEN = (_PENDING, _RUNNING)
_CANCELLED = ("CANCELLED", "CANCELLED_AND_NOTIFIED")


class CallFuture(concurrent.futures.Future[T]):
    """What ``submit`` of an executor returns: a standard Future, and ``task``, which can do more."""

    _state: str
    _result: Any
    _exception: BaseException | None
    _waiters: list[Any]
    _done_callbacks: list[Callable[[concurrent.futures.Future[T]], Any]]

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger
        self._task: Task[T] | None = None

    @property
    def task(self) -> Task[T]:
        """Give the engine's handle of the call. ``future.task.cancel()`` stops it also when it runs."""
        task = self._task
        if task is None:
            raise RuntimeError("expected a future that submit has returned, got one that it is still making")
        return task

    # -- what users call ----------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call unless it runs or is done, as the standard says. True: it is cancelled, and never ran."""
        task = self._task
        if task is None or self.done():
            return self._state in _CANCELLED
        scheduler = task._scheduler
        cancelled = scheduler.endings.cancel_unstarted(task)
        if cancelled:
            if self._is_held_here():
                self._when_free(task, None)
            else:  # perhaps another thread has cancelled the task, and is on its way here
                self._wait_and_end(task, None, now() + _HELD_SECONDS)
        return cancelled

    def done(self) -> bool:
        """Say whether the call has ended, or was cancelled."""
        return self._state not in _OPEN

    def cancelled(self) -> bool:
        """Say whether the call was cancelled."""
        return self._state in _CANCELLED

    def running(self) -> bool:
        """Say whether the call runs now."""
        task = self._task
        return task is not None and not self.done() and task.state is TaskState.RUNNING

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised; wait for it up to ``timeout`` seconds.

        A task of the same engine that waits here lends its slot, so that nested calls cannot deadlock.

        Raises:
            TimeoutError: not done after ``timeout`` seconds; the call goes on.
            concurrent.futures.CancelledError: it was cancelled.
            concurrent.futures.process.BrokenProcessPool: its worker died, or could not read it.
            RuntimeError: this thread runs the loop that the engine needs; await ``asyncio.wrap_future(future)``.
        """
        error = self.exception(timeout)
        if error is None:
            return self._result  # type: ignore[no-any-return]  # what the call returned
        try:
            raise error
        finally:
            del error, self  # or the traceback, through this frame, would hold the future that holds it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, None if it returned. Waits and raises as ``result`` does."""
        self._wait(timeout)
        if self.cancelled():
            raise concurrent.futures.CancelledError
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        task = self._task
        if self.done() or task is None:
            return
        waiters = task._scheduler.waiters
        waiters.refuse_itself(task)
        refuse_to_block(task._scheduler)
        lender = waiters.lend()
        try:
            if not task._scheduler.wait(self._latch(), None if timeout is None else max(0.0, timeout)):
                raise TimeoutError
        finally:
            waiters.reclaim(lender)

    def _latch(self) -> Latch:
        """Return what is set when it has ended: who ends it changes the state first, and looks for this then."""
        latch: Latch = self.__dict__.setdefault("_over", Latch())
        if self.done():
            latch.set()
        return latch

    def __repr__(self) -> str:
        task = self._task
        inner = f" of {task!r}" if task is not None else ""
        return f"<{type(self).__name__} {'running' if self.running() else self._state.lower()}{inner}>"

    # -- what the task tells ------------------------------------------------------------------------------------

    def waiter(self) -> Waiter:
        """Return what the task is to be submitted with, so that it tells this future when it ends."""
        return self._settled, None, None, None

    def follow(self, task: Task[T]) -> None:
        """Stand for ``task``, which was just submitted."""
        self._task = task
        if self.done() and task._state not in TERMINAL:  # the executor broke meanwhile
            task.cancel()

    def take_back(self) -> None:
        """End what nobody will have."""
        self._ledger.leave(self)
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """End with ``error``, and see that the call ends. Any thread."""
        self._when_free(None, error)
        if self._task is not None:
            self._task.cancel()

    def _settled(self, task: Task[T]) -> None:
        error = task._error if task._state is TaskState.FAILED else None
        if error is None:
            self._when_free(task, None)
            return
        task._forgive()  # it is here from now on, where a failure that nobody asks for is not logged
        error, breaks = as_raised(error), False
        if task._call.lane is Lane.PROCESS:
            breaks = self._ledger.breaks and is_breaking(error)
            error = as_broken(error)
        self._when_free(task, error)
        if breaks:
            self._ledger.break_all()

    def _when_free(self, task: Task[T] | None, error: BaseException | None) -> None:
        """End with the lock held: here if nobody has it, else on a thread that does nothing else.

        A signal handler or the collector may come here in the middle of a ``wait`` that has the lock on this thread: it
        would miss an end that it has let in.
        """
        if self._is_held_here() or not self._condition.acquire(blocking=False):
            self._ledger.ends.post(functools.partial(self._wait_and_end, task, error, now() + _HELD_SECONDS))
            return
        try:
            self._end(task, error)
        finally:
            self._condition.release()

    def _is_held_here(self) -> bool:
        return self._condition._is_owned()  # type: ignore[attr-defined,no-any-return]  # of CPython's, as in _registry

    def _wait_and_end(self, task: Task[T] | None, error: BaseException | None, until: float) -> None:
        if not self._condition.acquire(timeout=max(0.0, until - now())):
            self._condition = threading.Condition()  # a Ctrl-C left it held: whoever waited for it has gone
            self._condition.acquire()
        try:
            self._end(task, error)
        finally:
            self._condition.release()

    def _end(self, task: Task[T] | None, error: BaseException | None) -> None:
        """Take a terminal state over and tell everybody, unless that has been done; the lock is held."""
        if self.done():
            self._ledger.leave(self)  # it still is there, if user code has ended it
            return
        self._state = _PENDING
        if error is not None:
            self.set_exception(error)
        elif task is not None and task._state is TaskState.COMPLETED:
            self._result = task._result
            self._state = _FINISHED
            if self._waiters:
                for waiter in self._waiters:
                    waiter.add_result(self)
            self._condition.notify_all()
            if self._done_callbacks:
                self._invoke_callbacks()
        else:
            super().cancel()
            self.set_running_or_notify_cancel()
        over = self.__dict__.get("_over")
        if over is not None:
            over.set()
        self._ledger.leave(self)

    def _invoke_callbacks(self) -> None:
        """Call what users have added, somewhere else; ``Future`` calls this once, when it ends."""
        over = self.__dict__.get("_over")
        if over is not None:
            over.set()  # here too: user code may end it with ``set_result``
        for fn in self._done_callbacks:
            call = functools.partial(_call_back, fn, self)
            if is_of_asyncio(fn):
                call()
            else:
                self._ledger.callbacks.post(call)


def _call_back(fn: Callable[[concurrent.futures.Future[T]], Any], future: concurrent.futures.Future[T]) -> None:
    """Call one callback; what it raises is logged, also where it is an exit: the others have their turn."""
    try:
        fn(future)
    except BaseException:
        if not sys.is_finalizing():
            concurrent.futures._base.LOGGER.exception("exception calling callback for %r", future)
