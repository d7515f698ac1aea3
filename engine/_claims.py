"""How lanes come by attempts: claimed when a slot is free, begun, or given back unbegun.

Guarantees
    Shared state lives in the registry and changes only under its lock; this module decides under it and acts outside.
    Callers: any thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from math import inf
from typing import Any

from ._clock import Monotonic
from ._lanes.base import Attempt, Taker, new_attempt
from ._mailbox import Mailbox
from ._states import Lane, TaskState
from ._task import Task
from ._telling import NO_KWARGS, Telling

__all__ = ["Claims"]


class Claims(Telling):
    """The part of the scheduler that lanes ask for work."""

    now: Monotonic

    def claim(self, lane: Lane, taker: Taker | None = None, *, begin_on: Mailbox | None = None) -> Attempt | None:
        """Take the next attempt of ``lane``, and begin it if it belongs to ``begin_on``; None parks the lane."""
        with self.registry.lock:
            attempt = self._claim_locked(lane, taker)
            if attempt is not None and attempt.loop is begin_on is not None:
                self.registry.start_locked(attempt.task, attempt, self.now())
        self._after_claim(attempt)
        return attempt

    def _claim_locked(self, lane: Lane, taker: Taker | None) -> Attempt | None:
        task = self.registry.next_locked(lane)
        if task is None:
            return None
        attempt = _attempt_of(task)
        if taker is not None:
            taker.claimed = attempt
        self.registry.claim_locked(attempt)
        return attempt

    def _after_claim(self, attempt: Attempt | None) -> None:
        if self.registry.dropped:
            self.registry.let_go()
        if attempt is None:
            return
        if self.registry.room_waiters:
            self.open_room()
        if attempt.timeout is not None:
            self.deadlines.watch(attempt)

    def claim_like(self, attempt: Attempt, most: int) -> list[Attempt]:
        """Take up to ``most`` further attempts of the call of ``attempt``, while no other task comes first."""
        registry = self.registry
        call = attempt.task._call
        claimed: list[Attempt] = []
        with registry.lock:
            for task in registry.take_like_locked(call, most):
                task._attempt = following = _attempt_of(task)
                claimed.append(following)
            registry.attempts.update(claimed)
        if registry.dropped:
            registry.let_go()
        if registry.room_waiters:
            for _ in claimed:
                self.open_room()
        if call.timeout is not None:
            for following in claimed:
                self.deadlines.watch(following)
        return claimed

    def let_overtake(self, lane: Lane, attempts: Iterable[Attempt]) -> None:
        """Have ``overtake`` of ``lane`` called, once, at the next submit more urgent than one of ``attempts``."""
        with self.registry.lock:
            self.registry.slots[lane].floor = min([each.task._call.priority for each in attempts], default=inf)

    def is_overtaken(self, line: list[Attempt]) -> bool:
        """Say whether a task waits, or stands in ``line``, that is more urgent than one before it."""
        with self.registry.lock:
            priorities = [attempt.task._call.priority for attempt in line]
            first = self.registry.ready[line[0].lane].first()
            if first is not None:
                priorities.append(first._call.priority)
        if self.registry.dropped:
            self.registry.let_go()
        return any(before < after for before, after in itertools.pairwise(priorities))

    def has_ready(self, lane: Lane) -> int:
        """Count what waits for ``lane``; none parks it."""
        with self.registry.lock:
            ready = len(self.registry.ready[lane])
            if not ready:
                self.registry.slots[lane].park()
            return ready

    def park(self, lane: Lane) -> None:
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

    def regrow(self, lane: Lane) -> None:
        """Give back the right to one more taker, and use it at once if work waits for it."""
        with self.registry.lock:
            slots = self.registry.slots[lane]
            slots.spawnable += 1
            wake = slots.to_wake() if self.registry.ready[lane] else None
        if wake is not None:
            wake()

    def retry_due(self, task: Task[Any]) -> None:
        """Queue ``task`` for its next attempt, unless it settled during the backoff."""
        with self.registry.lock:
            if task._state is not TaskState.PENDING or task.queued or task._attempt is not None:
                return
            wake = self.registry.requeue_locked(task)
        if wake is not None:
            wake()


def _attempt_of(task: Task[Any]) -> Attempt:
    return new_attempt(
        task._call, task.id, task._attempts + 1, task._args, task._kwargs or NO_KWARGS, task._context, task._loop, task
    )
