"""The engine's side of the lanes: every task passes here on its way in, between attempts, and out.

Guarantees
    Shared state lives in the registry and changes only under its lock; this module decides under it and acts outside.
    Callers: any thread, but for what is posted to the home loop: timers and ``Lane.interrupt``.
    Lock order: the registry's lock is released before a lane, a mailbox's loop or a waiter is called.
    A task settles once, whoever is first: end of the attempt, cancel, timeout, crash. The others see a terminal state
    and only let the attempt run out (design/0003 lists the interleavings and the tests that force them).
"""

from __future__ import annotations

import copy
import logging
import queue
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._admission import Admission
from ._clock import Monotonic, now
from ._deadlines import Deadlines
from ._endings import Endings, attempt_timeout
from ._lanes.base import Attempt, Lane, Outcome, Taker
from ._lanes.chunk import Chunk
from ._latch import Wait, next_of, wait_for
from ._mailbox import Mailbox
from ._records import Progress, describe_error
from ._registry import Registry
from ._states import TERMINAL, TaskState
from ._states import Lane as LaneName
from ._task import NOTHING_RARE, Task, Waiter
from ._verdict import Facts, decide
from ._waiters import Waiters
from .errors import WorkerCrashed

__all__ = ["Counters", "Scheduler"]

log = logging.getLogger("engine")


@dataclass(slots=True)
class Counters:
    """What happened so far; guarded by the registry's lock."""

    retries: int = 0
    timeouts: int = 0
    abandoned: int = 0
    late: int = 0  #: results that came after their task had settled, and were dropped


class Scheduler:
    """Moves tasks through their life. One for each engine; it implements ``Front`` for the lanes."""

    def __init__(self, registry: Registry, home: Mailbox, exported: tuple[tuple[str, Any], ...]) -> None:
        self.registry = registry
        self.home = home
        self.lanes: dict[LaneName, Lane] = {}
        self.counters = Counters()
        self.waiters = Waiters(registry, home, self)
        self.endings = Endings(self)
        self.deadlines = Deadlines(home, self.endings.expire, self.endings.expire_total, self.retry_due)
        self.rng: Callable[[], float] = random.random
        self.now: Monotonic = now
        self.wall: Callable[[], float] = time.time
        self.is_inline = False  #: whoever waits does the work, on the one thread that there is
        self.wait: Wait = wait_for
        self.next_in: Callable[[queue.SimpleQueue[Any]], Any] = next_of
        self.phase = "running"  #: then "draining", then "closed"; guarded by the registry's lock
        self.forked = False
        self.is_leaving = False  #: the program ends, by Ctrl-C or because it is over: what is left behind is no news
        self.refusal = "shutdown"  #: after what a submit is refused; then "interpreter shutdown"
        self.keeper: object = None  #: what ties the engine to its loop; held here so that it lives while tasks do
        self.admission = Admission(self, exported)

    def later(self, fn: Callable[..., object], *args: Any) -> None:
        """Have ``fn(*args)`` called on the home loop, without a lock of ours: for calls from inside our sections."""
        if self.forked:  # the loop's wake-up pipe is the parent's
            return
        try:
            self.home.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop is closed, and nothing of it runs any more
            pass

    # -- what lanes call (Front) --------------------------------------------------------------------------------

    def claim(self, lane: LaneName, taker: Taker | None = None, *, begin_on: Mailbox | None = None) -> Attempt | None:
        """Take the next attempt of ``lane``, and begin it if it belongs to ``begin_on``; None parks the lane."""
        registry = self.registry
        attempt = opened = None
        with registry.lock:
            task = registry.next_locked(lane)
            if task is not None:
                attempt = _attempt_of(task)
                if taker is not None:
                    taker.claimed = attempt
                registry.claim_locked(attempt)
                opened = registry.room_opened_locked() if registry.room_waiters else None
                if attempt.loop is begin_on is not None:
                    registry.start_locked(task, attempt, self.now())
        if registry.dropped:
            registry.let_go()
        if opened is not None:
            opened()
        if attempt is not None and attempt.timeout is not None:
            self.deadlines.watch(attempt)
        return attempt

    def take(self, lane: LaneName, taker: Taker) -> Attempt | None:
        """Claim and begin the next attempt of ``lane`` in one section, on a thread of its own; None parks it."""
        registry = self.registry
        attempt = opened = None
        lock = registry.enter()
        try:
            task = registry.next_locked(lane)
            if task is not None:
                taker.claimed = attempt = _attempt_of(task)
                registry.claim_locked(attempt)
                opened = registry.room_opened_locked() if registry.room_waiters else None
                attempt.worker = taker.name
                registry.start_locked(task, attempt, self.now())
        finally:
            lock.release()
        if registry.dropped:
            registry.let_go()
        if opened is not None:
            opened()
        if attempt is not None and attempt.timeout is not None:
            self.deadlines.watch(attempt)
        return attempt

    def claim_like(self, attempt: Attempt, most: int) -> list[Attempt]:
        """Take up to ``most`` further attempts of the call of ``attempt``, while no other task comes first."""
        registry = self.registry
        call = attempt.task._call
        claimed: list[Attempt] = []
        with registry.lock:
            while len(claimed) < most:
                task = registry.next_locked(call.lane)
                if task is None or task._call is not call:
                    break
                following = _attempt_of(task)
                registry.claim_locked(following)
                claimed.append(following)
        if registry.dropped:
            registry.let_go()
        if registry.room_waiters:
            for _ in claimed:
                self._open_room()
        if call.timeout is not None:
            for following in claimed:
                self.deadlines.watch(following)
        return claimed

    def mend(self, lane: LaneName, attempt: Attempt | None) -> None:
        """Put in order what an exception broke off in a taker of ``lane``; give its ``attempt`` back if unbegun.

        Once it is over, those who wait for it are told, if they had not been.
        """
        self.registry.free()
        with self.registry.lock:
            self.registry.mend_taker_locked(lane, attempt)
            quiet = self.registry.quiet_locked()
        if attempt is None:
            return
        wake, attempt.wake = attempt.wake, None
        if wake is not None:
            wake()
        if attempt.over:
            self._conclude(attempt, quiet)
        elif attempt.started_at is None:
            self.give_back(attempt)

    def free(self) -> None:
        """Leave the section that an exception thrown into this taker's thread may have left it in."""
        self.registry.free()

    def has_ready(self, lane: LaneName) -> int:
        """Count what waits for ``lane``; none parks it."""
        with self.registry.lock:
            ready = len(self.registry.ready[lane])
            if not ready:
                self.registry.slots[lane].park()
            return ready

    def park(self, lane: LaneName) -> None:
        """Have ``lane`` woken at the next submit."""
        with self.registry.lock:
            self.registry.slots[lane].park()

    def begin(self, attempt: Attempt, at: float) -> bool:
        """Record the start of ``attempt``; False if its task settled meanwhile."""
        with self.registry.lock:
            task = attempt.task
            if task._state is not TaskState.PENDING or task._attempt is not attempt:
                return False
            self.registry.start_locked(task, attempt, at)
            return True

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record how ``attempt`` ended: settle its task, or try again."""
        if type(attempt.args) is Chunk and not attempt.over:
            attempt.args.ending(outcome)
        self.end_row([(attempt, outcome)])

    def end_taken(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record how an ``attempt`` that ``take`` gave ended: as ``end``, at less cost."""
        registry = self.registry
        error_text = None if outcome.error is None else describe_error(outcome.error)
        _held = attempt.task._rare.failure if attempt.number > 1 else None  # as in end_row
        lock = registry.enter()
        try:
            if attempt.over:
                return
            self._end_locked(attempt, outcome, error_text)
            quiet = registry.quiet_locked() if registry.quiet_waiters else None
        finally:
            lock.release()
        delay = attempt.ending[0] if attempt.ending is not None else None
        is_news = delay is not None or attempt.abandoned
        self._conclude(attempt, quiet)
        if is_news:
            self._log_end(attempt, outcome, delay)

    def return_taken(self, attempt: Attempt, value: Any) -> None:
        """Record that an ``attempt`` that ``take`` gave returned ``value``: as ``end_taken``, at less cost."""
        registry = self.registry
        quiet = None
        lock = registry.enter()
        try:
            is_over = self._return_locked(attempt, value)
            if registry.quiet_waiters:
                quiet = registry.quiet_locked()
        finally:
            lock.release()
        if is_over:
            self._conclude(attempt, quiet)
        else:
            self.end_taken(attempt, Outcome(value=value))

    def returned(self, attempt: Attempt, value: Any) -> None:
        """Record that ``attempt``, which has begun, returned ``value``: as ``end``, at less cost."""
        registry = self.registry
        quiet = None
        with registry.lock:
            is_over = self._return_locked(attempt, value)
            if registry.quiet_waiters:
                quiet = registry.quiet_locked()
        if is_over:
            self._conclude(attempt, quiet)
        else:
            self.end(attempt, Outcome(value=value))

    def _return_locked(self, attempt: Attempt, value: Any) -> bool:
        """Complete the task of ``attempt`` with ``value``; False where there is more to decide than that."""
        task = attempt.task
        if task._attempt is not attempt or task._state is not TaskState.RUNNING or task._rare is not NOTHING_RARE:
            return False
        if attempt.over or attempt.expired or task._cancel_requested:
            return False
        attempt.wake = self.registry.release_locked(attempt)
        attempt.ending = None, self.registry.complete_locked(task, attempt, value, self.now())
        task._attempt = None
        return True

    def end_row(self, row: list[tuple[Attempt, Outcome]]) -> None:
        """Record how several attempts ended, in that order: one section for all, and one look who waits for quiet."""
        registry = self.registry
        texts = [None if outcome.error is None else describe_error(outcome.error) for _, outcome in row]
        # Another may take its place: dropped after the lock, since a __del__ is user code.
        _held = [attempt.task._rare.failure for attempt, _ in row if attempt.number > 1]
        ended = []
        with registry.lock:
            for (attempt, outcome), error_text in zip(row, texts, strict=True):
                if not attempt.over:
                    self._end_locked(attempt, outcome, error_text)
                    ended.append((attempt, outcome))
            quiet = registry.quiet_locked() if registry.quiet_waiters else None
        news: list[tuple[Attempt, Outcome, float | None]] = []
        for attempt, outcome in ended:
            delay = attempt.ending[0] if attempt.ending is not None else None
            if delay is not None or attempt.abandoned:
                news.append((attempt, outcome, delay))
            self._conclude(attempt, None)
        for fn in quiet or ():
            fn()
        for attempt, outcome, delay in news:  # last: a filter of the program's that raises costs nobody an end
            self._log_end(attempt, outcome, delay)

    def _log_end(self, attempt: Attempt, outcome: Outcome, delay: float | None) -> None:
        if attempt.abandoned:
            log.info("task %d (%s), which was abandoned, has ended", attempt.task_id, attempt.name)
        if delay is not None:
            self._log_retry(attempt, outcome.error, delay)

    def _end_locked(self, attempt: Attempt, outcome: Outcome, error_text: str | None) -> None:
        registry, task = self.registry, attempt.task
        if outcome.worker is not None:
            attempt.worker = outcome.worker
        attempt.wake = registry.release_locked(attempt)
        if task._state in TERMINAL:
            self.counters.late += not outcome.cancelled
        else:
            if outcome.started_at is not None and task._state is TaskState.PENDING:
                registry.start_locked(task, attempt, outcome.started_at)
            attempt.ending = self._decide_locked(task, attempt, outcome, error_text)
        if task._attempt is attempt:
            task._attempt = None
            task._worker = attempt.worker

    def _conclude(self, attempt: Attempt, quiet: list[Callable[[], object]] | None) -> None:
        """Do outside the lock what the end of ``attempt`` asks for; what was done of it is not done again."""
        self.leave(attempt)
        retry_in, waiters = attempt.ending or (None, None)
        if retry_in is not None:
            self.deadlines.retry_after(attempt.task, retry_in)
        wake, attempt.wake = attempt.wake, None
        if wake is not None:
            wake()
        self.tell(attempt.task, waiters, None, quiet)
        attempt.ending = None

    def _log_retry(self, attempt: Attempt, error: BaseException | None, delay: float) -> None:
        """Say that an attempt failed and when the next one comes: nobody else will ever see its error."""
        level = logging.WARNING if isinstance(error, WorkerCrashed) else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "task %d (%s): attempt %d failed, the next one comes in %.3g s: %s", attempt.task_id,
                    attempt.name, attempt.number, delay, describe_error(error) or "it timed out")  # fmt: skip

    def _decide_locked(
        self, task: Task[Any], attempt: Attempt, outcome: Outcome, error_text: str | None
    ) -> tuple[float | None, list[Waiter] | None]:
        call = task._call
        timeout = task._rare.timed_out
        if timeout is None and attempt.expired:
            timeout = attempt_timeout(attempt)
        if outcome.error is None and not (outcome.cancelled or timeout or task._cancel_requested):
            return None, self.registry.complete_locked(task, attempt, outcome.value, outcome.completed_at or self.now())
        verdict = decide(
            Facts(
                attempt=attempt.number, error=outcome.error, cancelled=outcome.cancelled, retryable=outcome.retryable,
                cancel_requested=task._cancel_requested, timeout=timeout,
                final=task._rare.timed_out is not None or attempt.abandoned, retry=call.retry,
                swallowed_is_failure=call.lane is LaneName.LOOP,
            ),
            self.rng,
        )  # fmt: skip
        if verdict.error is timeout:
            error_text = describe_error(timeout)
        if verdict.error is not None and task._rare.timed_out is None:
            rare = task._own_rare()
            rare.failure, rare.last_error = verdict.error, error_text
        if verdict.state is TaskState.PENDING:
            self.counters.retries += 1
            self.registry.move_locked(task, TaskState.PENDING)
            return verdict.delay, None
        return None, self.registry.settle_locked(
            task, verdict.state, outcome.completed_at or self.now(), error=verdict.error, error_text=error_text
        )

    def give_back(self, attempt: Attempt) -> None:
        """Queue an attempt that never started again, before the others."""
        with self.registry.lock:
            if attempt.over:
                return
            wake = self.registry.release_locked(attempt)
            task = attempt.task
            if task._attempt is attempt:
                task._attempt = None
            if task._state is TaskState.RUNNING:  # somebody looked and took it for started; it was not
                self.registry.move_locked(task, TaskState.PENDING)
                task._attempts -= 1
            if task._state is TaskState.PENDING:
                wake = self.registry.requeue_locked(task, first=True) or wake
            quiet = self.registry.quiet_locked()
        self.leave(attempt)
        self.tell(task, None, wake, quiet)

    def abandon(self, attempt: Attempt) -> bool:
        """Give up on an attempt that cannot be stopped: settle its task, give its slot away if one more may be.

        Beyond that bound it keeps its slot until another abandoned attempt has ended, and False is the answer.
        """
        task = attempt.task
        timeout = attempt_timeout(attempt) if attempt.expired else None
        waiters = wake = None
        slots = self.registry.slots[attempt.lane]
        with self.registry.lock:
            if attempt.over or attempt.abandoned:
                return False
            attempt.name = attempt.full_name
            attempt.abandoned = True
            refilled = slots.abandon(waits=attempt.waits > 0)  # what is lent already is not given away twice
            running = slots.abandoned
            self.registry.attempts.discard(attempt)  # nobody waits for it any more
            self.counters.abandoned += 1
            if task._state not in TERMINAL:
                error = None if task._cancel_requested else (task._rare.timed_out or timeout)
                error_text = describe_error(error)
                if error is not None and error is timeout:
                    task._own_rare().last_error = error_text
                state = TaskState.FAILED if error is not None else TaskState.CANCELLED
                waiters = self.registry.settle_locked(task, state, self.now(), error=error, error_text=error_text)
            if self.registry.ready[attempt.lane]:
                wake = slots.to_wake()
            quiet = self.registry.quiet_locked()
        level = logging.DEBUG if self.is_leaving else logging.WARNING
        log.log(level, "task %d (%s) was asked to stop, did not, and was abandoned; it still runs in %s%s%s",
                attempt.task_id, attempt.name, attempt.worker, "" if refilled else _KEEPS_ITS_SLOT.format(
                    running=running, lane=attempt.lane.value, limit=slots.limit),
                _SWALLOWED if attempt.lane is LaneName.LOOP else "")  # fmt: skip
        callbacks, attempt.callbacks = attempt.callbacks, None
        for fn in callbacks or ():
            fn()
        self.tell(task, waiters, wake, quiet)
        return refilled

    def progress(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        """Record how far ``attempt`` says it is."""
        report = Progress(done, total, str(message)[:200])
        with self.registry.lock:
            attempt.task._own_rare().progress = report

    def regrow(self, lane: LaneName) -> None:
        """Give back the right to one more taker, and use it at once if work waits for it."""
        with self.registry.lock:
            slots = self.registry.slots[lane]
            slots.spawnable += 1
            wake = slots.to_wake() if self.registry.ready[lane] else None
        if wake is not None:
            wake()

    def fail_ready(self, lane: LaneName, error: BaseException) -> None:
        """Fail all that waits for ``lane``, each with its own copy of ``error``."""
        text = describe_error(error)
        settled = []
        held = []  # dropped after the lock: __del__ is user code
        with self.registry.lock:
            queue = self.registry.ready[lane]
            while (task := queue.pop()) is not None:
                held.append((task._args, task._kwargs, task._context))
                if task._attempts == 0:
                    self.registry.waiting -= 1
                mine = copy.copy(error)
                mine.__cause__ = error.__cause__
                at = self.now()
                settled.append(
                    (task, self.registry.settle_locked(task, TaskState.FAILED, at, error=mine, error_text=text))
                )
            quiet = self.registry.quiet_locked()
        for task, waiters in settled:
            self.tell(task, waiters, None, None)
        self.tell(None, None, None, quiet)

    def retry_due(self, task: Task[Any]) -> None:
        """Queue ``task`` for its next attempt, unless it settled during the backoff."""
        with self.registry.lock:
            if task._state is not TaskState.PENDING or task.queued or task._attempt is not None:
                return
            wake = self.registry.requeue_locked(task)
        if wake is not None:
            wake()

    # -- looking in ----------------------------------------------------------------------------------------------

    def when_over(self, task: Task[Any], fn: Callable[[], None]) -> bool:
        """Have ``fn()`` called once the attempt of the settled ``task`` is over. False: there is none."""
        with self.registry.lock:
            attempt = task._attempt
            if attempt is None or attempt.over or attempt.abandoned:
                return False
            if attempt.callbacks is None:
                attempt.callbacks = []
            attempt.callbacks.append(fn)
            return True

    def observe(self, task: Task[Any]) -> None:
        """Notice that a task which was sent to a worker process has started, if it has."""
        attempt = task._attempt
        if attempt is None or self.forked:
            return
        if attempt.started_at is None and attempt.lane is LaneName.PROCESS:
            started = self.lanes[attempt.lane].started(attempt)
            if started is not None:
                self.begin(attempt, started)

    def report_unretrieved(self, task_id: int, name: str, error: BaseException) -> None:
        """Log the failure of a task that nobody asked about; called when it is collected, takes no lock."""
        if self.forked or sys.is_finalizing():  # the parent says it; or logging itself is half taken down
            return
        log.error("task %d (%s) failed and nobody retrieved its exception: %s", task_id, name,
                  describe_error(error), exc_info=error)  # fmt: skip

    # -- telling, outside the lock ------------------------------------------------------------------------------

    def leave(self, attempt: Attempt) -> None:
        """Drop what ``attempt``, which is over, held, and tell who waited for its slot."""
        attempt.fn, attempt.args, attempt.kwargs, attempt.context = None, (), _NO_KWARGS, None
        if attempt.timer is not None:
            self.deadlines.forget(attempt)
        callbacks, attempt.callbacks = attempt.callbacks, None
        for fn in callbacks or ():
            fn()

    def tell(
        self,
        task: Task[Any] | None,
        waiters: list[Waiter] | None,
        wake: Callable[[], None] | None,
        quiet: list[Callable[[], object]] | None,
    ) -> None:
        """Call whom a change concerns: the waiters of a settled ``task``, a parked taker, who waits for quiet."""
        if self.registry.dropped:
            self.registry.let_go()
        if waiters is not None and task is not None:
            if task._rare.failure is not None:
                task._rare.failure = None  # here, outside the lock: what its traceback holds may have a __del__
            if task._timer is not None:
                self.deadlines.forget_task(task)
            if waiters:
                self.waiters.deliver(task, waiters)
            if self.registry.room_waiters:
                self._open_room()
        if wake is not None:
            wake()
        for fn in quiet or ():
            fn()

    def _open_room(self) -> None:
        with self.registry.lock:
            opened = self.registry.room_opened_locked()
        if opened is not None:
            opened()


#: What a warning adds when ``Slots.abandon`` says no.
_SWALLOWED = (
    "; it swallows cancellations, and asyncio.run would wait for it for ever: let asyncio.CancelledError through"
)
_KEEPS_ITS_SLOT = (
    ", and keeps its slot: {running} abandoned tasks run in the {lane} lane, more than its {limit} slots, so others "
    "wait until one of them ends; call checkpoint() in such functions, or use lane='process', where they can be killed"
)
_NO_KWARGS: dict[str, Any] = {}


def _attempt_of(task: Task[Any]) -> Attempt:
    call = task._call
    return Attempt(
        task.id, task._attempts + 1, call.name, call.fn, task._args, task._kwargs or _NO_KWARGS, call.lane,
        call.timeout, call.grace, task._context, task._loop, task,
    )  # fmt: skip
