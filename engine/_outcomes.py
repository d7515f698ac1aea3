"""How attempts end: the task settles, or is tried again; and giving up on one that does not.

Guarantees
    Shared state lives in the registry and changes only under its lock; this module decides under it and acts outside.
    Callers: any thread.
    A task settles once, whoever is first: end of the attempt, cancel, timeout, crash. The others see a terminal state
    and only let the attempt run out (design/0003 lists the interleavings and the tests that force them).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._clock import Monotonic
from ._endings import attempt_timeout
from ._lanes.base import Attempt, Outcome
from ._lanes.chunk import Chunk
from ._records import Progress, describe_error
from ._states import TERMINAL, Lane, TaskState
from ._task import NOTHING_RARE, Task, Waiter
from ._telling import Telling
from ._verdict import Facts, decide
from .errors import WorkerCrashed

__all__ = ["UNHEARD", "Counters", "Outcomes"]

log = logging.getLogger("engine")

UNHEARD: tuple[None, list[Waiter]] = (None, [])  #: of an attempt whose task is settled, and nobody waits for it yet


@dataclass(slots=True)
class Counters:
    """What happened so far; guarded by the registry's lock."""

    retries: int = 0
    timeouts: int = 0
    abandoned: int = 0
    late: int = 0  #: results that came after their task had settled, and were dropped


class Outcomes(Telling):
    """The part of the scheduler that lanes tell how it went."""

    counters: Counters
    now: Monotonic
    rng: Callable[[], float]
    is_leaving: bool

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record how ``attempt`` ended: settle its task, or try again."""
        if type(attempt.args) is Chunk and not attempt.over:
            attempt.args.ending(outcome)
        self.end_row([(attempt, outcome)])

    def returned(self, attempt: Attempt, value: Any) -> None:
        """Record that ``attempt``, which has begun, returned ``value``: as ``end``, at less cost."""
        registry = self.registry
        quiet = None
        with registry.lock:
            is_over = self._return_locked(attempt, value, self.now())
            if registry.quiet_waiters:
                quiet = registry.quiet_locked()
        if is_over:
            self._conclude(attempt, quiet)
        else:
            self.end(attempt, Outcome(value=value))

    def return_row(self, row: list[tuple[Attempt, Any, float, float]], worker: str) -> None:
        """Record that attempts ran on ``worker`` and returned: each with its value, its start and its end.

        As ``end`` for each, in that order, at less cost.
        """
        registry = self.registry
        if any(attempt.number > 1 for attempt, _, _, _ in row):  # what failed before is to be let go of too
            self.end_row([(each, Outcome(value, None, False, at, to, worker)) for each, value, at, to in row])
            return
        ended: list[Attempt] = []
        news: list[tuple[Attempt, Outcome, float | None]] = []
        with registry.lock:
            for attempt, value, started, completed in row:
                attempt.worker = worker
                if not self._return_locked(attempt, value, completed, started):
                    if attempt.over:
                        continue
                    outcome = Outcome(value, None, False, started, completed, worker)
                    self._end_locked(attempt, outcome, None)
                    if attempt.ending is not None and attempt.ending[0] is not None:
                        news.append((attempt, outcome, attempt.ending[0]))
                ended.append(attempt)
            quiet = registry.quiet_locked() if registry.quiet_waiters else None
        for attempt in ended:
            self._conclude(attempt, None)
        self.tell(None, None, None, quiet)
        for each in news:  # last, as in end_row
            self._log_end(*each)

    def _return_locked(self, attempt: Attempt, value: Any, at: float, started: float | None = None) -> bool:
        """Complete the task of ``attempt`` with ``value``; False where there is more to decide than that.

        ``started`` is when it began, if that has not been recorded yet.
        """
        task = attempt.task
        if task._attempt is not attempt or task._rare is not NOTHING_RARE or task._cancel_requested:
            return False
        if attempt.over or attempt.expired:
            return False
        if task._state is TaskState.PENDING and started is not None:
            self.registry.start_locked(task, attempt, started)
        elif task._state is not TaskState.RUNNING:
            return False
        attempt.wake = self.registry.release_locked(attempt)
        attempt.ending = None, self.registry.complete_locked(task, attempt, value, at)
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
                swallowed_is_failure=call.lane is Lane.LOOP,
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

    def _conclude(self, attempt: Attempt, quiet: list[Callable[[], object]] | None) -> None:
        """Do outside the lock what the end of ``attempt`` asks for; what was done of it is not done again."""
        self.leave(attempt)
        if attempt.ending == UNHEARD and attempt.wake is None and quiet is None and attempt.task._timer is None:
            return
        retry_in, waiters = attempt.ending or (None, None)
        if retry_in is not None:
            self.deadlines.retry_after(attempt.task, retry_in)
        wake, attempt.wake = attempt.wake, None
        if wake is not None:
            wake()
        self.tell(attempt.task, waiters, None, quiet)
        attempt.ending = None

    def _log_end(self, attempt: Attempt, outcome: Outcome, delay: float | None) -> None:
        if attempt.abandoned:
            log.info("task %d (%s), which was abandoned, has ended", attempt.task_id, attempt.name)
        if delay is not None:
            self._log_retry(attempt, outcome.error, delay)

    def _log_retry(self, attempt: Attempt, error: BaseException | None, delay: float) -> None:
        """Say that an attempt failed and when the next one comes: nobody else will ever see its error."""
        level = logging.WARNING if isinstance(error, WorkerCrashed) else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "task %d (%s): attempt %d failed, the next one comes in %.3g s: %s", attempt.task_id,
                    attempt.name, attempt.number, delay, describe_error(error) or "it timed out")  # fmt: skip

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
                _SWALLOWED if attempt.lane is Lane.LOOP else "")  # fmt: skip
        callbacks, attempt.callbacks = attempt.callbacks, None
        for fn in callbacks or ():
            fn()
        self.tell(task, waiters, wake, quiet)
        return refilled

    def fail_ready(self, lane: Lane, error: BaseException) -> None:
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

    def progress(self, attempt: Attempt, done: float, total: float | None, message: str) -> None:
        """Record how far ``attempt`` says it is."""
        report = Progress(done, total, str(message)[:200])
        with self.registry.lock:
            attempt.task._own_rare().progress = report


#: What a warning adds when ``Slots.abandon`` says no.
_SWALLOWED = (
    "; it swallows cancellations, and asyncio.run would wait for it for ever: let asyncio.CancelledError through"
)
_KEEPS_ITS_SLOT = (
    ", and keeps its slot: {running} abandoned tasks run in the {lane} lane, more than its {limit} slots, so others "
    "wait until one of them ends; call checkpoint() in such functions, or use lane='process', where they can be killed"
)
