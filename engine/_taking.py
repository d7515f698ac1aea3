"""What pool threads ask: to take an attempt, to end it, and to do both at once.

Guarantees
    Shared state lives in the registry and changes only under its lock, for which a pool thread does not wait; this
    module decides under it and acts outside (design/0002).
    Callers: threads of a lane's own. An exception may strike them at any instant: ``Taker`` says what is under way.
    Between the begin of an attempt and its function no code of a user's runs, but for what the collector calls and what
    a queue drops.
"""

from __future__ import annotations

from typing import Any

from ._claims import Claims
from ._lanes.base import Attempt, Outcome, Taker
from ._outcomes import UNHEARD, Outcomes
from ._records import describe_error
from ._states import Lane
from ._task import Task

__all__ = ["Taking"]

#: Types whose values end without code of a user's; by id, as a metaclass may have an ``==`` and a hash of its own.
_INERT = frozenset(map(id, (type(None), bool, int, float, str, bytes)))


class Taking(Claims, Outcomes):
    """The part of the scheduler that threads which run attempts themselves turn to."""

    def take(self, lane: Lane, taker: Taker) -> Attempt | None:
        """Claim and begin the next attempt of ``lane`` in one section; None parks the taker."""
        attempt = None
        lock = self.registry.enter()
        try:
            task = self.registry.next_locked(lane)
            if task is None:
                self.registry.slots[lane].park()
            else:
                attempt = self._take_locked(task, taker, self.now())
        finally:
            lock.release()
        self._after_claim(attempt)
        return attempt

    def _take_locked(self, task: Task[Any], taker: Taker, at: float) -> Attempt:
        attempt = self._claim_locked(task, taker)
        attempt.worker = taker.name
        self.registry.start_locked(task, attempt, at)
        return attempt

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

    def return_taken(self, attempt: Attempt, value: Any, taker: Taker) -> bool:
        """Record that an ``attempt`` that ``take`` gave returned ``value``: as ``end_taken``, at less cost.

        True: in the same section it has claimed and begun the next one, which is of the same call; nothing lay between
        the two that may run code of a user's. False parks nobody.
        """
        registry, task = self.registry, attempt.task
        is_inert = _is_inert(attempt, value)
        comes = False
        quiet = None
        lock = registry.enter()
        try:
            at = self.now()
            is_over = self._return_locked(attempt, value, at)
            if is_over and registry.quiet_waiters:
                quiet = registry.quiet_locked()
            elif is_over and is_inert and _asks_for_nothing(attempt):
                following = registry.next_locked(attempt.lane)
                if following is not None and following._call is task._call and not registry.dropped:
                    self._take_locked(following, taker, at)
                    comes = True
                del following
        finally:
            lock.release()
        if not is_over:
            self.end_taken(attempt, Outcome(value=value))
        elif not comes:
            self._conclude(attempt, quiet)
        else:  # what ``_conclude`` would do is nothing, and what it would drop of the attempt nobody misses
            self._after_claim(taker.claimed)
        return comes


def _is_inert(attempt: Attempt, value: Any) -> bool:
    """Say whether no code of a user's runs as what ``attempt`` held ends, but its function, and what it returned."""
    if id(type(value)) not in _INERT or attempt.kwargs or len(attempt.context):
        return False
    return _INERT.issuperset(map(id, map(type, attempt.args)))


def _asks_for_nothing(attempt: Attempt) -> bool:
    """Say whether the end of ``attempt`` is to be told to nobody."""
    task = attempt.task
    return (
        attempt.ending == UNHEARD
        and attempt.wake is attempt.timer is attempt.callbacks is task._timer is task.__weakref__ is None
    )
