"""Live tasks, their states, and the queues in which they wait.

Guarantees
    Shared: the queues, the slots, the counters, the history, and every field of a live Task or Attempt.
    Guarded by: ``lock``, held for a few dictionary operations, never across await, I/O or user code.
    Callers: any thread; a method that ends in ``_locked`` wants the lock held, the others take it.
    Lock order: registry, then mailbox (innermost). A lane's own lock is never held while calling in here.
    A task reaches a terminal state once: ``settle_locked`` is the door, and the move table is asked there; beside it is
    ``complete_locked``, for what most tasks do.
    Decided under the lock, done outside it: methods return what to do as a list of waiters or a callable to wake.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._clock import ordered_after
from ._limits import Slots
from ._queue import ReadyQueue
from ._records import Call, Complaint, TaskInfo
from ._states import MOVES, TERMINAL, Lane, TaskState, check_move
from .errors import EngineFull

if TYPE_CHECKING:
    from ._lanes.base import Attempt
    from ._task import Task, Waiter

__all__ = ["Registry"]

#: For what every task does: a name of the module is read in a third of the time that a member of an enum takes.
_PENDING, _RUNNING, _COMPLETED = TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED


class Registry:
    """The one owner of shared engine state."""

    def __init__(self, *, max_pending: int | None, history: int, slots: dict[Lane, Slots]) -> None:
        self.lock = threading.RLock()  # the collector and signal handlers may call us from inside (design/0002)
        #: Says whether this thread is inside the critical section: the collector or a signal handler asks us then. As
        #: threading.Condition asks its RLock.
        self.is_entered: Callable[[], bool] = getattr(self.lock, "_is_owned", _never)
        self.max_pending = max_pending
        self.slots = slots
        self.dropped: list[Task[Any]] = []  #: what the queues took out; see ``let_go``
        self.ready: dict[Lane, ReadyQueue[Task[Any]]] = {lane: ReadyQueue(self.dropped) for lane in Lane}
        self.live: dict[int, Task[Any]] = {}
        self.attempts: set[Attempt] = set()
        self.waiting = 0  #: accepted, not claimed by a lane, first attempt: what max_pending bounds
        self.counts: dict[Lane, dict[TaskState, int]] = {lane: dict.fromkeys(TaskState, 0) for lane in Lane}
        self.history: deque[tuple[Any, ...]] = deque(maxlen=history)
        self.room_waiters: OrderedDict[Callable[[], object], None] = OrderedDict()  #: a set in order of arrival
        self.opening: dict[Callable[[], object], None] = {}  #: a set of those of them who are being told
        self.quiet_waiters: list[Callable[[], object]] = []
        self.last_id = 0
        self.exempt: set[int] = set()  #: tasks from which the engine is being stopped

    # -- the section of pool threads ----------------------------------------------------------------------------

    def enter(self) -> threading.RLock:
        """Take the lock as a pool thread does, which never waits for it while it could run (design/0002); return it.

        To be released in a ``finally``. What another thread throws in between, so that it is not, finds ``free``.
        """
        lock = self.lock
        if lock.acquire(False):
            return lock
        for _ in range(_MOST_TRIES):
            time.sleep(0)
            if lock.acquire(False):
                return lock
        lock.acquire()
        return lock

    def free(self) -> None:
        """Give back what ``enter`` took on this thread, which is in no section any more, if it is still held."""
        while self.is_entered():
            self.lock.release()

    # -- coming in ----------------------------------------------------------------------------------------------

    def admit_locked(
        self, task: Task[Any], *, is_bounded: bool = True, first: bool = False
    ) -> Callable[[], None] | None:
        """Accept ``task`` and queue it, before the others with ``first``; return whom to wake.

        Raises:
            EngineFull: ``max_pending`` tasks wait already.
        """
        if is_bounded and self.max_pending is not None and self.waiting >= self.max_pending:
            raise EngineFull(
                f"expected fewer than max_pending={self.max_pending} waiting tasks, got {self.waiting}; "
                "wait with run or map, or raise max_pending",
                max_pending=self.max_pending,
            )
        task.id = self.last_id + 1
        self.last_id = task.id
        call = task._call
        self.live[task.id] = task
        self.waiting += 1
        self.counts[call.lane][_PENDING] += 1
        self.ready[call.lane].push(task, call.priority, first=first)
        slots = self.slots[call.lane]
        if not slots.parked and slots.spawnable <= 0 and slots.floor is None:
            return None  # as they would say
        return slots.to_wake_for(call.priority)

    def mend_locked(self, task: Task[Any]) -> list[Callable[[], None]]:
        """Put in order what a Ctrl-C in ``admit_locked`` broke off; return whom to wake, as one may have been missed.

        ``task`` counts as accepted from the moment it has a number; everything else follows from the live tasks.
        """
        if not task.id:
            return []
        lane = task._call.lane
        self.last_id = max(self.last_id, task.id)
        if task._state is TaskState.PENDING:
            self.live[task.id] = task
        self.counts[lane][TaskState.PENDING] = sum(
            each._state is TaskState.PENDING for each in self.live.values() if each._call.lane is lane
        )
        self.ready[lane].mend(task)
        self.waiting = sum(each.queued and each._attempts == 0 for each in self.live.values())
        return [self.slots[lane].wake, self.slots[lane].grow]

    def requeue_locked(self, task: Task[Any], *, first: bool = False) -> Callable[[], None] | None:
        """Queue a PENDING task again, past the bound: a retry, or one that a worker did not start."""
        call = task._call
        if task._attempts == 0:  # given back by a worker: it waits for its first start again
            self.waiting += 1
        self.ready[call.lane].push(task, call.priority, first=first)
        return self.slots[call.lane].to_wake_for(call.priority)

    def next_locked(self, lane: Lane) -> Task[Any] | None:
        """Return the next task of ``lane``, if there is a slot for it; None parks the taker."""
        slots = self.slots[lane]
        has_room = slots.limit is None or slots.taken < slots.limit or slots.has_room()
        task = self.ready[lane].first() if has_room else None
        if task is None:
            slots.park()
        return task

    def take_like_locked(self, call: Call, most: int) -> list[Task[Any]]:
        """Take up to ``most`` tasks of ``call``, and a slot for each, while no other comes first; none parks the taker.

        For a lane that bounds itself.
        """
        slots, ready = self.slots[call.lane], self.ready[call.lane]
        tasks = ready.take_like(call, most)
        slots.taken += len(tasks)
        slots.note_claim(call.priority)
        self.waiting -= sum([task._attempts == 0 for task in tasks])
        if not ready:
            slots.park()
        return tasks

    def claim_locked(self, attempt: Attempt) -> None:
        """Take the task of ``attempt``, which ``next_locked`` has just returned, and a slot of its lane."""
        task: Task[Any] = attempt.task
        self.ready[attempt.lane].take_first(task)
        slots = self.slots[attempt.lane]
        slots.taken += 1
        if slots.floor is not None:
            slots.note_claim(task._call.priority)
        if task._attempts == 0:
            self.waiting -= 1
        task._attempt = attempt
        self.attempts.add(attempt)

    def mend_taker_locked(self, lane: Lane, attempt: Attempt | None) -> None:
        """Put in order what an exception, thrown into a pool thread, broke off: a claim, start or end of ``attempt``.

        Afterwards that was either claimed, or never was and is over; and if it is over, its task knows. Everything else
        follows from the live tasks.
        """
        task: Task[Any] | None = attempt.task if attempt is not None else None
        self.ready[lane].mend(task)
        if attempt is not None and task is not None:
            self._mend_attempt_locked(attempt, task)
        for state in (TaskState.PENDING, TaskState.RUNNING):
            self.counts[lane][state] = sum(
                each._state is state for each in self.live.values() if each._call.lane is lane
            )
        self.waiting = sum(each.queued and each._attempts == 0 for each in self.live.values())
        slots = self.slots[lane]
        slots.taken = sum(each.lane is lane for each in self.attempts) + slots.abandoned
        for opened in self.opening:  # it may stand in both
            self.room_waiters.pop(opened, None)

    def _mend_attempt_locked(self, attempt: Attempt, task: Task[Any]) -> None:
        if task._state in TERMINAL:
            if task.id in self.live:
                attempt.ending = None, self._close_locked(task, None)
        elif task._state is TaskState.RUNNING and task._attempt is attempt:
            task._attempts = attempt.number
            attempt.over = attempt.over and attempt.ending is not None  # else it ends once more
        elif not attempt.over:
            if not task.queued and task._attempt is None:  # out of the queue, and nobody noted who has it
                task._attempt = attempt
            attempt.over = task._attempt is not attempt
        if attempt.over:
            self.attempts.discard(attempt)
            if task._attempt is attempt:
                task._attempt = None
        elif not attempt.abandoned:
            self.attempts.add(attempt)

    def let_go(self) -> None:
        """Drop what the queues have taken out. Outside the lock: it may be the last reference, and run user code."""
        while self.dropped:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self.dropped.pop()

    def room_opened_locked(self) -> Callable[[], object] | None:
        """Return a waiter for room to call, if there is one and there is room for it; ``opening`` has it meanwhile."""
        if self.room_waiters and (self.max_pending is None or self.waiting < self.max_pending):
            opened = next(iter(self.room_waiters))
            self.opening[opened] = None
            del self.room_waiters[opened]
            return opened
        return None

    def is_full(self) -> bool:
        """Say whether a submit would be refused now."""
        with self.lock:
            return self.max_pending is not None and self.waiting >= self.max_pending

    # -- moving on ----------------------------------------------------------------------------------------------

    def move_locked(self, task: Task[Any], new: TaskState) -> None:
        """Change the state of ``task``, as the table allows."""
        old = task._state
        if new not in MOVES[old]:
            check_move(old, new)
        counts = self.counts[task._call.lane]
        counts[old] -= 1
        counts[new] += 1
        task._state = new

    def start_locked(self, task: Task[Any], attempt: Attempt, at: float) -> None:
        """Record that ``attempt`` of a PENDING ``task`` started at monotonic ``at``."""
        if task._state is not _PENDING:  # as move_locked does, without its table: every task comes through here
            check_move(task._state, _RUNNING)
        counts = self.counts[task._call.lane]
        counts[_PENDING] -= 1
        counts[_RUNNING] += 1
        task._state = _RUNNING
        task._attempts = attempt.number
        created = task._created
        task._started = at if at > created else ordered_after(at, created)
        attempt.started_at = at  # last: what breaks in before leaves an attempt that has not begun

    def complete_locked(self, task: Task[Any], attempt: Attempt, value: Any, at: float) -> list[Waiter]:
        """Record that ``attempt`` of a RUNNING ``task`` returned ``value``: as ``settle_locked``, at half the cost."""
        if task._state is not _RUNNING:
            check_move(task._state, _COMPLETED)
        task._result = value
        started: Any = task._started
        task._completed = at if at > started else ordered_after(at, started)
        task._worker = attempt.worker
        counts = self.counts[task._call.lane]
        counts[_RUNNING] -= 1
        counts[_COMPLETED] += 1
        task._state = _COMPLETED
        return self._close_locked(task, None)

    def settle_locked(
        self,
        task: Task[Any],
        state: TaskState,
        at: float,
        *,
        value: Any = None,
        error: BaseException | None = None,
        error_text: str | None = None,
    ) -> list[Waiter]:
        """Record the one terminal state of a live ``task``; return who waits for it, to be called outside the lock.

        ``error_text`` describes ``error`` for the history; made by the caller, since a str() may run user code.
        """
        if task._state is TaskState.PENDING and self.ready[task._call.lane].remove(task) and task._attempts == 0:
            self.waiting -= 1
        task._result = value
        task._error = error
        if error is not None:
            task._own_rare().traceback = _TRACEBACK.__get__(error)  # past a property of user code
        if error is not None and state is TaskState.FAILED and not task._retrieved:
            task._own_rare().complaint = Complaint(task._scheduler.report_unretrieved, task.id, task._call.name, error)
        before = task._started if task._started is not None else task._created
        task._completed = at if at > before else ordered_after(at, before)
        self.move_locked(task, state)
        attempt = task._attempt
        if attempt is not None and attempt.worker is not None:
            task._worker = attempt.worker
        return self._close_locked(task, error_text)

    def _close_locked(self, task: Task[Any], error_text: str | None) -> list[Waiter]:
        """Let go of a ``task`` that is terminal; return who waits for it. No call behind the change of hands."""
        task._args, task._kwargs, task._context, task._loop = (), None, None, None
        self.history.append(_record(task, error_text))
        for waiter in task._waiters or _NONE:
            if waiter[3] is not None:
                self.waited_locked(waiter[3])
        waiters, task._waiters = task._waiters, None
        del self.live[task.id]
        return _NONE if waiters is None else waiters

    # -- slots --------------------------------------------------------------------------------------------------

    def release_locked(self, attempt: Attempt) -> Callable[[], None] | None:
        """Free the slot of an ``attempt`` that is over or taken back; return whom to wake."""
        slots = self.slots[attempt.lane]
        slots.taken -= 1
        if attempt.waits:
            attempt.waits = 0
            slots.reclaim(abandoned=attempt.abandoned)
        if attempt.abandoned:
            slots.recover()
        attempt.over = True
        self.attempts.discard(attempt)
        return slots.to_wake() if (slots.parked or slots.spawnable > 0) and self.ready[attempt.lane] else None

    def waits_locked(self, attempt: Attempt) -> Callable[[], None] | None:
        """Lend the slot of ``attempt``, which waits for one more task; return whom to wake."""
        attempt.waits += 1
        slots = self.slots[attempt.lane]
        if attempt.waits > 1:
            return None
        slots.lend(abandoned=attempt.abandoned)
        return slots.to_wake() if self.ready[attempt.lane] else None

    def waited_locked(self, attempt: Attempt) -> None:
        """Take back what ``waits_locked`` lent, once it waits for nothing more."""
        if attempt.waits and not attempt.over:
            attempt.waits -= 1
            if attempt.waits == 0:
                self.slots[attempt.lane].reclaim(abandoned=attempt.abandoned)

    # -- looking in ---------------------------------------------------------------------------------------------

    def is_quiet_locked(self) -> bool:
        """Say whether nothing is live and no attempt still runs, but for what is exempt (it asked for the stop)."""
        if not self.exempt:
            return not self.live and not self.attempts
        return self.live.keys() <= self.exempt and all(a.task_id in self.exempt for a in self.attempts)

    def quiet_locked(self) -> list[Callable[[], object]] | None:
        """Return who waits for quiet, if it is quiet now. Each stays on the list until it has heard of it."""
        return list(self.quiet_waiters) if self.quiet_waiters and self.is_quiet_locked() else None

    def infos(self) -> Iterator[TaskInfo]:
        """Yield the remembered terminal tasks, oldest first, then the live ones."""
        with self.lock:
            past = list(self.history)
            live = list(self.live.values())
        for record in past:
            yield _info(record)
        for task in live:
            yield task.info()


def _never() -> bool:
    return False


_MOST_TRIES = 100  #: of some 0.07 ms each; whoever is in the section for so long is worth a wait
_NONE: list[Waiter] = []
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]


def _record(task: Task[Any], error_text: str | None) -> tuple[Any, ...]:
    """Keep what ``TaskInfo`` needs, cheaply: a tuple is made in 0.2 µs, a frozen dataclass in 2."""
    call = task._call
    return (task.id, call.name, call.lane, task._state, task._attempts, task._anchor, task._started, task._completed,
            task._worker, error_text, task._rare.progress, task._created, task._rare.last_error)  # fmt: skip


def _info(record: tuple[Any, ...]) -> TaskInfo:
    number, name, lane, state, attempt, anchor, started, completed, worker, error, progress, created, failed = record
    wall_start = None if started is None else ordered_after(anchor + (started - created), anchor)
    wall_end = ordered_after(anchor + (completed - created), wall_start if wall_start is not None else anchor)
    return TaskInfo(number, name, lane, state, attempt, anchor, wall_start, wall_end, worker, error, progress, failed)
