"""Ending a task before it ends by itself: cancel, timeout, total timeout.

Guarantees
    Callers: ``cancel`` any thread; ``expire`` and ``expire_total`` are timers of the home loop.
    Under the registry's lock each marks the task first (cancel requested, timed out), so that an attempt which ends in
    the same instant settles as this module would; the interleavings are in design/0003.
    Only who recalled an attempt, or who found it unclaimed or not begun, frees its slot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _current
from ._lanes.base import Attempt
from ._records import describe_error
from ._states import TERMINAL, Lane, TaskState
from .errors import EngineForked, TaskTimeout

if TYPE_CHECKING:
    from ._scheduler import Scheduler
    from ._task import Task, Waiter

__all__ = ["Endings", "attempt_timeout"]


_LOOK_AGAIN = 0.05  #: seconds until a total_timeout that gave way to an answer looks what became of it


def attempt_timeout(attempt: Attempt) -> TaskTimeout:
    """Build the error for an attempt that ran past its timeout."""
    return TaskTimeout(
        f"task {attempt.task_id} ({attempt.name}) did not end within timeout={attempt.timeout} s",
        task_id=attempt.task_id,
        lane=attempt.lane.value,
        attempt=attempt.number,
        timeout=attempt.timeout,
    )


class Endings:
    """The part of the scheduler that ends tasks on request."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._registry = scheduler.registry

    def cancel(self, task: Task[Any], message: Any = None) -> bool:
        """Cancel ``task``; True if it was live, and then it will not complete.

        Raises:
            EngineForked: it is the parent process's.
        """
        if self._scheduler.forked:
            if task._state in TERMINAL:
                return False
            raise EngineForked
        if self._registry.is_entered():  # called by the collector or a signal handler: mark it, and go on later
            if task._state in TERMINAL:
                return False
            task._note_cancel(message)
            if task.id:  # or it waits to be admitted, and is cancelled then
                self._scheduler.later(self.cancel, task, message)
            return True
        return self._end_early(task, None, message)

    def cancel_unstarted(self, task: Task[Any]) -> bool:
        """Cancel ``task`` unless an attempt of it has begun. True: it is CANCELLED, and no attempt runs.

        Between two attempts of a retry none runs. From inside a section (the collector, a signal handler) nothing is
        cancelled.
        """
        if self._scheduler.forked or self._registry.is_entered():
            return False
        self._scheduler.observe(task)
        waiters: list[Waiter] | None = None
        _held = task._args, task._kwargs, task._context  # as in _end_early
        with self._registry.lock:
            if task._state is not TaskState.PENDING:
                return task._state is TaskState.CANCELLED
            attempt = task._attempt
            if attempt is not None and (attempt.started_at is not None or attempt.recalling):
                return False  # it has begun; or somebody else ends it this instant
            in_socket = attempt is not None and attempt.lane is Lane.PROCESS
            if in_socket and attempt is not None:
                attempt.recalling = True  # not marked as cancelled: if it has begun, it goes on
            else:
                task._note_cancel(None)
                waiters = self._registry.settle_locked(task, TaskState.CANCELLED, self._scheduler.now())
        if not in_socket or attempt is None:
            self._leave_unstarted(task, attempt, waiters)
            return True
        return self._recall_unstarted(task, attempt)

    def _recall_unstarted(self, task: Task[Any], attempt: Attempt) -> bool:
        """Take ``attempt`` back from its worker and cancel its task; let it go on if it has begun."""
        recalled = self._scheduler.lanes[attempt.lane].recall(attempt)
        waiters: list[Waiter] | None = None
        with self._registry.lock:
            attempt.recalling = False
            given_back = task._state not in TERMINAL and task._attempt is not attempt
            if recalled and task._state not in TERMINAL and not given_back:
                task._note_cancel(None)
                waiters = self._registry.settle_locked(task, TaskState.CANCELLED, self._scheduler.now())
            asked = task._state not in TERMINAL and (task._cancel_requested or task._rare.timed_out is not None)
        if asked:  # by somebody who left it to us
            error = task._rare.timed_out
            assert error is None or isinstance(error, TaskTimeout)
            self._end_early(task, error, task._rare.cancel_message)
        elif given_back:  # its worker died meanwhile: it is in the queue, or another attempt of it was claimed
            return self.cancel_unstarted(task)
        elif recalled:
            self._leave_unstarted(task, attempt, waiters)
        return task._state is TaskState.CANCELLED and recalled

    def end_on(self, loop: asyncio.AbstractEventLoop) -> int:
        """Cancel and abandon the coroutines of ``loop``, but the one that calls; return how many there were.

        For a thread that is going to hold up ``loop`` until the engine has ended. Once it turns again, they see that
        they were cancelled.
        """
        caller = _current.running.get()
        with self._registry.lock:
            live = list(self._registry.live.values())
        tasks = [
            task for task in live
            if (mailbox := task._loop) is not None and mailbox.loop is loop and (caller is None or task.id != caller.id)
        ]  # fmt: skip
        for task in tasks:
            self.cancel(task, "the thread of its loop waits for the end of its engine")
            attempt = task._attempt
            if attempt is not None:
                self._scheduler.abandon(attempt)
        return len(tasks)

    def expire_total(self, task: Task[Any]) -> None:
        """End ``task``, whose total_timeout is over."""
        call = task._call
        self._scheduler.observe(task)
        attempt = task._attempt
        if attempt is not None and self._scheduler.lanes[attempt.lane].has_answered(attempt):
            self._scheduler.deadlines.watch_task(task, _LOOK_AGAIN)  # it may be tried again: then it ends here
            return
        before = f"; its last failure: {task._rare.last_error}" if task._rare.last_error else ""
        error = TaskTimeout(
            f"task {task.id} ({call.name}) did not end within total_timeout={call.total_timeout} s{before}",
            task_id=task.id,
            lane=call.lane.value,
            attempt=task._attempts,
            timeout=call.total_timeout,
            scope="total",
        )
        error.__cause__ = task._rare.failure  # what the last attempt raised, if it was being tried again
        if self._end_early(task, error, None):
            with self._registry.lock:
                self._scheduler.counters.timeouts += 1

    def expire(self, attempt: Attempt) -> None:
        """End ``attempt``, whose timeout may be over; called by its timer."""
        lane = self._scheduler.lanes[attempt.lane]
        started = attempt.started_at if attempt.started_at is not None else lane.started(attempt)
        if attempt.timeout is None:
            return
        left = attempt.timeout - (self._scheduler.now() - started) if started is not None else attempt.timeout
        if started is None or left > 0:
            self._scheduler.deadlines.watch(attempt, left)
            return
        if lane.has_answered(attempt):  # we are late, or are asked before the readers: what has arrived wins
            return
        task: Task[Any] = attempt.task
        error = attempt_timeout(attempt)
        text = describe_error(error)
        waiters = None
        with self._registry.lock:
            if attempt.over or attempt.expired or task._state in TERMINAL:
                return
            attempt.expired = True
            self._scheduler.counters.timeouts += 1
            if task._state is TaskState.PENDING:
                self._registry.start_locked(task, attempt, started)
            retry = task._call.retry
            if lane.name is not Lane.LOOP and not (retry is not None and retry.wants(error, attempt.number)):
                task._own_rare().last_error = text
                at = self._scheduler.now()
                waiters = self._registry.settle_locked(task, TaskState.FAILED, at, error=error, error_text=text)
        self._interrupt(attempt)
        self._scheduler.tell(task, waiters, None, None)

    def _end_early(self, task: Task[Any], error: TaskTimeout | None, message: Any) -> bool:
        """Settle ``task`` now if its lane allows, and see to it that its attempt ends. False: it was done."""
        text = describe_error(error)
        waiters: list[Waiter] | None = None
        _held = task._args, task._kwargs, task._context  # dropped after the lock: __del__ is user code
        with self._registry.lock:
            if task._state in TERMINAL:
                return False
            if error is None:
                task._note_cancel(message)
            elif task._rare.timed_out is None:
                task._own_rare().timed_out = error
            attempt = task._attempt
            begun = attempt is not None and attempt.started_at is not None
            in_socket = attempt is not None and not begun and attempt.lane is Lane.PROCESS
            if in_socket and attempt is not None:
                if attempt.recalling:
                    return True  # whoever recalls it settles it
                attempt.recalling = True
            elif begun and task._call.lane is Lane.LOOP:
                pass  # it settles when the coroutine ends
            else:
                at = self._scheduler.now()
                waiters = self._registry.settle_locked(task, _ended(error), at, error=error, error_text=text)
        if in_socket and attempt is not None:
            return self._recall(task, attempt, error, text, message)
        if attempt is not None and begun:
            self._interrupt(attempt)
            self._scheduler.tell(task, waiters, None, None)
        else:
            self._leave_unstarted(task, attempt, waiters)
        return True

    def _recall(
        self, task: Task[Any], attempt: Attempt, error: TaskTimeout | None, text: str | None, message: Any
    ) -> bool:
        """Take ``attempt`` back from its worker, or treat it as started: the lane says which."""
        lane = self._scheduler.lanes[attempt.lane]
        recalled = lane.recall(attempt)
        started = None if recalled else (lane.started(attempt) or self._scheduler.now())
        waiters = None
        with self._registry.lock:
            given_back = task._state not in TERMINAL and task._attempt is not attempt
            if task._state not in TERMINAL and not given_back:
                if started is not None and task._state is TaskState.PENDING:
                    self._registry.start_locked(task, attempt, started)
                at = self._scheduler.now()
                waiters = self._registry.settle_locked(task, _ended(error), at, error=error, error_text=text)
            completed = task._state is TaskState.COMPLETED
        if given_back:  # its worker died meanwhile: it is in the queue, or another attempt of it was claimed
            return self._end_early(task, error, message)
        if recalled:
            self._leave_unstarted(task, attempt, waiters)
        else:
            self._interrupt(attempt)
            self._scheduler.tell(task, waiters, None, None)
        return not completed

    def _leave_unstarted(self, task: Task[Any], attempt: Attempt | None, waiters: list[Waiter] | None) -> None:
        """Free the slot of an attempt that never starts, and tell who waits."""
        wake: Callable[[], None] | None = None
        with self._registry.lock:
            if attempt is not None and not attempt.over:
                wake = self._registry.release_locked(attempt)
            if task._attempt is attempt:
                task._attempt = None
            quiet = self._registry.quiet_locked()
        if attempt is not None:
            self._scheduler.leave(attempt)
        self._scheduler.tell(task, waiters, wake, quiet)

    def _interrupt(self, attempt: Attempt) -> None:
        attempt.cancel_requested = True
        lane = self._scheduler.lanes[attempt.lane]
        home = self._scheduler.home
        if home.is_here():
            lane.interrupt(attempt)
        else:
            home.post(lane.interrupt, attempt)


def _ended(error: TaskTimeout | None) -> TaskState:
    return TaskState.CANCELLED if error is None else TaskState.FAILED
