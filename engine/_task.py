"""A submitted call and its outcome, awaitable from any event loop and any thread.

Guarantees
    Shared: every field of a Task.  Guarded by: the registry's lock; the engine writes them only under it.
    Callers: any thread. Reading a property takes no lock: each is one reference that is written once per move, and a
    terminal state is written last, after the outcome, so whoever sees it sees the outcome too.
    A Task speaks the asyncio future protocol: ``gather``, ``wait``, ``wait_for``, ``shield`` and ``as_completed`` take
    it as it is, from several loops at once. A waiter is (function, context, mailbox of its loop), called there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _checks, _clock
from ._latch import Latch
from ._records import Call, Complaint, Progress, TaskInfo, describe_error
from ._states import TERMINAL, Lane, TaskState

if TYPE_CHECKING:
    from ._lanes.base import Attempt
    from ._mailbox import Mailbox
    from ._scheduler import Scheduler

__all__ = ["NOTHING_RARE", "Task", "Waiter"]

T_co = TypeVar("T_co", covariant=True)
#: What to call, in which context, through which loop's mailbox (None: at once, by who settles; ours only), and the
#: attempt that lent its slot while it waits.
Waiter = tuple[Callable[[Any], object], "contextvars.Context | None", "Mailbox | None", "Attempt | None"]


class Rare:
    """What few tasks have, apart from the rest: so a million that wait take 48 MB less."""

    __slots__ = ("cancel_message", "complaint", "failure", "last_error", "progress", "timed_out", "traceback")

    def __init__(self) -> None:
        self.cancel_message: Any = None
        self.complaint: Complaint | None = None  #: of a failure that nobody has asked for yet
        self.failure: BaseException | None = None  #: the last attempt's that failed; dropped when the task settles
        self.last_error: str | None = None  #: its text, which stays
        self.progress: Progress | None = None
        self.timed_out: BaseException | None = None
        self.traceback: TracebackType | None = None


NOTHING_RARE = Rare()  #: of all tasks that have none of it


class Task(Generic[T_co]):
    """The handle of one call. Thread-safe; ``await`` it, or ask ``result()`` from a plain thread.

    Awaiting a cancelled task raises ``asyncio.CancelledError``; ``result()`` on a thread without a running loop raises
    ``concurrent.futures.CancelledError``. Cancelling an ``await`` of it cancels the task (``asyncio.shield`` keeps it).
    """

    __slots__ = (
        "__weakref__", "_anchor", "_args", "_attempt", "_attempts", "_call", "_cancel_requested", "_completed",
        "_context", "_created", "_error", "_kwargs", "_loop", "_rare", "_result", "_retrieved", "_scheduler",
        "_started", "_state", "_timer", "_waiters", "_worker", "id", "queued",
    )  # fmt: skip

    def __init__(
        self,
        scheduler: Scheduler,
        task_id: int,
        call: Call,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        created: float,
        anchor: float,
    ) -> None:
        self._scheduler = scheduler
        self.id = task_id  #: unique within its engine, ascending in the order of submission
        self._call = call
        self._args: tuple[Any, ...] = args
        self._kwargs = kwargs
        self._created = created
        self._anchor = anchor
        self.queued = False
        self._state = TaskState.PENDING
        self._attempts = 0
        self._attempt: Attempt | None = None
        self._started: float | None = None
        self._completed: float | None = None
        self._worker: str | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._retrieved = False
        self._waiters: list[Waiter] | None = None
        #: What it sees of its submitter's: the whole context, in the process lane the exported variables by address.
        self._context: contextvars.Context | dict[str, Any] | None = None
        self._loop: Mailbox | None = None
        self._timer: Any = None
        self._cancel_requested = False
        self._rare: Rare = NOTHING_RARE

    def _own_rare(self) -> Rare:
        """Return what is only this task's, to be written; under the registry's lock."""
        if self._rare is NOTHING_RARE:
            self._rare = Rare()
        return self._rare

    def _note_cancel(self, message: Any) -> None:
        """Note that somebody cancels it; under the registry's lock."""
        self._cancel_requested = True
        if message is not None or self._rare.cancel_message is not None:
            self._own_rare().cancel_message = message

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Give the name people see: the option's, else the function's qualified name."""
        return self._call.name

    @property
    def lane(self) -> Lane:
        """Give the lane it runs in."""
        return self._call.lane

    @property
    def state(self) -> TaskState:
        """Give the state now."""
        if self._state is TaskState.PENDING and self._attempt is not None:
            self._scheduler.observe(self)
        return self._state

    @property
    def attempt(self) -> int:
        """Give the number of attempts started so far."""
        if self._state is TaskState.PENDING and self._attempt is not None:
            self._scheduler.observe(self)
        return self._attempts

    @property
    def created_at(self) -> float:
        """Give the wall time of ``submit``, in seconds since the epoch."""
        return self._anchor

    @property
    def started_at(self) -> float | None:
        """Give the wall time at which the last attempt started, always after ``created_at``; None if none did."""
        if self._state is TaskState.PENDING and self._attempt is not None:
            self._scheduler.observe(self)
        if self._started is None:
            return None
        return _clock.ordered_after(_clock.wall_time(self._anchor, self._created, self._started), self._anchor)

    @property
    def completed_at(self) -> float | None:
        """Give the wall time at which the task settled, always after ``started_at``; None while it is live."""
        if self._completed is None:
            return None
        wall = _clock.wall_time(self._anchor, self._created, self._completed)
        return _clock.ordered_after(wall, self.started_at or self._anchor)

    @property
    def worker(self) -> str | None:
        """Give the worker that runs or ran the last attempt."""
        attempt = self._attempt
        return attempt.worker if attempt is not None and attempt.worker else self._worker

    @property
    def progress(self) -> Progress | None:
        """Give what the task last reported of itself; None if it never did."""
        return self._rare.progress

    def info(self) -> TaskInfo:
        """Return a picture of this instant that holds neither arguments nor result."""
        error = self._error
        return TaskInfo(
            self.id, self.name, self.lane, self.state, self.attempt, self.created_at, self.started_at,
            self.completed_at, self.worker, describe_error(error), self.progress, self._rare.last_error,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name} {self.state.value} in {self.lane.value}>"

    def _repr_html_(self) -> str:
        from ._html import html_of_task

        return html_of_task(self)

    # -- its outcome --------------------------------------------------------------------------------------------

    def done(self) -> bool:
        """Say whether the task is in a terminal state."""
        return self._state in TERMINAL

    def cancelled(self) -> bool:
        """Say whether the task ended CANCELLED."""
        return self._state is TaskState.CANCELLED

    def result(self, timeout: float | None = None) -> T_co:
        """Return what the function returned, or raise what it raised.

        On a thread that runs an event loop it never waits; elsewhere it waits up to ``timeout`` seconds.

        Raises:
            asyncio.InvalidStateError: not done, and this thread runs an event loop; use ``await``.
            TimeoutError: not done after ``timeout`` seconds; the task goes on.
            concurrent.futures.CancelledError: the task was cancelled (``asyncio.CancelledError`` where a loop runs).
            NestedDeadlock: too many tasks of this engine wait for one another.
        """
        if timeout is not None or self._state is not TaskState.COMPLETED:
            self._wait(timeout)
        state = self._state
        if state is TaskState.COMPLETED:
            return self._result  # type: ignore[no-any-return]  # what fn returned, of the type submit said
        if state is TaskState.CANCELLED:
            raise self._cancelled_error()
        self._retrieve()
        error = self._error
        assert error is not None
        try:
            # As it came, or each asker's frames would be added to it; past a ``with_traceback`` of user code.
            raise BaseException.with_traceback(error, self._rare.traceback)
        finally:
            del error, self  # or the traceback, through this frame, would hold the task that holds it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, None if it returned. Waits and raises as ``result`` does."""
        if timeout is None and self._state is TaskState.COMPLETED:
            return None
        self._wait(timeout)
        if self._state is TaskState.CANCELLED:
            raise self._cancelled_error()
        self._retrieve()
        return self._error

    def _retrieve(self) -> None:
        """Note that somebody has heard of the failure."""
        self._retrieved = True
        if self._rare.complaint is not None:
            self._rare.complaint.is_due = False

    def _forgive(self) -> None:
        """Note that nobody wants to hear of a failure, whether it has come or comes yet."""
        with self._scheduler.registry.lock:
            self._retrieve()

    def cancel(self, msg: Any = None) -> bool:
        """Ask the task to stop. True: it will not complete; False: it was done already.

        A task that has not started never will. A running thread or process task settles at once and is stopped behind
        the handle; a running coroutine settles when it ends.
        """
        return self._scheduler.endings.cancel(self, msg)

    def add_done_callback(
        self, fn: Callable[[Task[T_co]], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Have ``fn(task)`` called when the task is done: on the loop that runs here, else on the engine's.

        Raises:
            TypeError: ``fn`` is not callable, or ``context`` is none.
        """
        if not callable(fn):
            raise TypeError(
                f"expected fn to be a callable, got {_checks.shown(fn)}; pass the function, which gets the task"
            )
        if context is None:
            context = contextvars.copy_context()
        elif type(context) is not contextvars.Context:
            raise TypeError(f"expected context to be a contextvars.Context, got {_checks.shown(context)}")
        self._scheduler.waiters.add_callback(self, fn, context)

    def remove_done_callback(self, fn: Callable[[Task[T_co]], object]) -> int:
        """Forget every callback equal to ``fn``; return how many there were."""
        return self._scheduler.waiters.remove(self, fn)

    def _calls(self) -> bool:
        """Say whether it is this task's own coroutine that calls."""
        from ._lanes.loop import task_of

        attempt = self._attempt
        task = task_of(attempt) if attempt is not None and attempt.lane is Lane.LOOP else None
        return task is not None and task is asyncio.current_task()

    def __await__(self) -> Generator[Any, None, T_co]:
        if self._state not in TERMINAL:
            self._scheduler.waiters.refuse_itself(self)
            lender = self._scheduler.waiters.lend()
            try:
                yield self  # the asyncio task that awaits adds its wake-up as a done callback
            finally:
                self._scheduler.waiters.reclaim(lender)
        if self._state not in TERMINAL:
            raise RuntimeError("await was not used with a task of asyncio")
        if self._state is TaskState.COMPLETED:
            return self._result  # type: ignore[no-any-return]  # as in result
        try:
            return self.result()
        finally:
            del self  # as in result

    __iter__ = __await__

    # -- the asyncio future protocol ----------------------------------------------------------------------------

    @property
    def _asyncio_future_blocking(self) -> bool:
        # Stores nothing, so that tasks of two loops may await at once; asyncio only wants to see True once per yield.
        return True

    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, value: bool) -> None:
        pass

    @property
    def _cancel_message(self) -> Any:
        return self._rare.cancel_message  # gather reads it

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Answer the loop that runs here, or the engine's: a Task belongs to every loop."""
        return asyncio._get_running_loop() or self._scheduler.home.loop

    def _make_cancelled_error(self) -> asyncio.CancelledError:
        message = self._rare.cancel_message
        return asyncio.CancelledError() if message is None else asyncio.CancelledError(message)

    def _cancelled_error(self) -> BaseException:
        if asyncio._get_running_loop() is not None:
            return self._make_cancelled_error()
        message = self._rare.cancel_message
        return concurrent.futures.CancelledError(*(() if message is None else (message,)))

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None:
            timeout = _checks.seconds("timeout", timeout, zero=True)
        if self._state in TERMINAL:
            return
        if asyncio._get_running_loop() is not None:
            raise asyncio.InvalidStateError(
                f"expected task {self.id} ({self.name}) to be done, got {self.state.value};"
                " use await task: a thread that runs a loop cannot wait in result()"
            )
        self._scheduler.waiters.refuse_itself(self)
        done = Latch()
        wake = done.set
        if self._scheduler.waiters.add(self, wake) and not self._wait_for(done, timeout):
            self._scheduler.waiters.remove(self, wake)
            if self._state not in TERMINAL:
                raise TimeoutError(
                    f"expected task {self.id} ({self.name}) to be done within {timeout} s, got {self.state.value}"
                )

    def _wait_for(self, done: Latch, timeout: float | None = None) -> bool:
        """Wait for ``done``, which a waiter of this task sets; False after ``timeout`` seconds.

        Looks at the task itself now and then: a Ctrl-C may have come between its settling and the telling.
        """
        return self._scheduler.wait(done, timeout, self.done)

    def __reduce__(self) -> Any:
        raise TypeError(f"expected picklable arguments, got {self!r}; pass the task's result instead")
