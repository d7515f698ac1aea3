"""What pool threads do with every task: claim and begin it in one section, end it in another.

Guarantees
    As of ``_claims`` and ``_outcomes``. Callers: pool threads, which never wait for the registry's lock while they
    could run (``Registry.enter``), and into which an exception may be thrown at any call or jump back (design/0002).
    ``take`` and ``return_taken`` are what those and the registry say, written out: without the calls a flood in threads
    is a fifth faster. ``tests/property/test_short_ways.py`` goes both ways and compares all that there is afterwards.
"""

from __future__ import annotations

from typing import Any

from ._claims import Claims
from ._clock import ordered_after
from ._lanes.base import Attempt, Outcome, Taker, new_attempt
from ._outcomes import UNHEARD, Outcomes
from ._records import describe_error
from ._states import Lane, TaskState, check_move
from ._task import NOTHING_RARE
from ._telling import NO_KWARGS

__all__ = ["Taking"]

_PENDING, _RUNNING, _COMPLETED = TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED  # as in _registry


class Taking(Claims, Outcomes):
    """The part of the scheduler that pool threads ask."""

    def take(self, lane: Lane, taker: Taker) -> Attempt | None:
        """Claim and begin the next attempt of ``lane`` in one section, on a thread of its own; None parks it."""
        registry = self.registry
        slots, ready = registry.slots[lane], registry.ready[lane]
        attempt = None
        lock = registry.lock
        if not lock.acquire(False):
            registry.enter()
        try:
            has_room = slots.limit is None or slots.taken < slots.limit or slots.has_room()
            task = ready.first() if has_room else None
            if task is None:
                slots.park()
            else:
                taker.claimed = attempt = new_attempt(
                    task._call, task.id, task._attempts + 1, task._args, task._kwargs or NO_KWARGS, task._context,
                    task._loop, task,
                )  # fmt: skip
                ready.take_first(task)  # as Registry.claim_locked
                slots.taken += 1
                if slots.floor is not None:
                    slots.note_claim(task._call.priority)
                if task._attempts == 0:
                    registry.waiting -= 1
                task._attempt = attempt
                registry.attempts.add(attempt)
                if task._state is not _PENDING:  # as Registry.start_locked
                    check_move(task._state, _RUNNING)
                counts = registry.counts[lane]
                counts[_PENDING] -= 1
                counts[_RUNNING] += 1
                task._state = _RUNNING
                task._attempts = attempt.number
                at, created = self.now(), task._created
                task._started = at if at > created else ordered_after(at, created)
                attempt.worker = taker.name
                attempt.started_at = at  # last: what breaks in before leaves an attempt that has not begun
        finally:
            lock.release()
        if attempt is None or registry.dropped or registry.room_waiters or attempt.timeout is not None:
            self._after_claim(attempt)
        return attempt

    def return_taken(self, attempt: Attempt, value: Any) -> None:
        """Record that an ``attempt`` that ``take`` gave returned ``value``: as ``end_taken``, at less cost."""
        registry, task = self.registry, attempt.task
        quiet = None
        lock = registry.lock
        if not lock.acquire(False):
            registry.enter()
        try:
            if (
                task._waiters is None and task._state is _RUNNING and task._attempt is attempt
                and task._rare is NOTHING_RARE and not task._cancel_requested
                and not (attempt.over or attempt.expired or attempt.waits or attempt.abandoned)
            ):  # fmt: skip
                lane = attempt.lane
                slots = registry.slots[lane]  # as Registry.release_locked
                slots.taken -= 1
                attempt.over = True
                registry.attempts.discard(attempt)
                if (slots.parked or slots.spawnable > 0) and registry.ready[lane]:
                    attempt.wake = slots.to_wake()
                task._result = value  # as Registry.complete_locked
                at, started = self.now(), task._started
                task._completed = at = at if at > started else ordered_after(at, started)
                task._worker = worker = attempt.worker
                if task._state is not _RUNNING:
                    check_move(task._state, _COMPLETED)
                counts = registry.counts[lane]
                counts[_RUNNING] -= 1
                counts[_COMPLETED] += 1
                task._state = _COMPLETED
                task._args, task._kwargs, task._context, task._loop = (), None, None, None  # as Registry._close_locked
                registry.history.append((
                    task.id, attempt.name, lane, _COMPLETED, attempt.number, task._anchor, started, at, worker, None,
                    None, task._created, None,
                ))  # fmt: skip
                del registry.live[task.id]
                attempt.ending = UNHEARD
                task._attempt = None
                is_over = True
            else:
                is_over = self._return_locked(attempt, value, self.now())
            if registry.quiet_waiters:
                quiet = registry.quiet_locked()
        finally:
            lock.release()
        if not is_over:
            self.end_taken(attempt, Outcome(value=value))
        elif (
            attempt.ending is UNHEARD and attempt.wake is None and quiet is None
            and attempt.timer is None and attempt.callbacks is None and task._timer is None
        ):  # fmt: skip
            attempt.fn, attempt.args, attempt.kwargs, attempt.context = None, (), NO_KWARGS, None  # as Telling.leave
        else:
            self._conclude(attempt, quiet)

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
