"""Ends of runs: by their workers, given back, or rescued."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine import TaskState

from .._moment import Moment
from .._moves import is_over, lost
from .._records import End, Ending, Failure, HolderInfo, NewJob, Rescued
from ..errors import AlreadyEnqueued
from .enqueueing import insert
from .holders import all_holders, count, forget
from .runs import Change, Run, add_failures, complete, leave, runs_of_holders, runs_of_ids

if TYPE_CHECKING:
    import apsw

__all__ = ["end", "give_back", "rescue"]


def end(connection: apsw.Connection, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
    """Record how runs ended; None for those that are fenced."""
    if len({ending.id for ending in endings}) < len(endings):  # the first of two endings counts
        return _end_each(connection, endings, now)
    completed = complete(connection, endings, now)
    rest = [ending for ending in endings if ending.id not in completed]
    states = iter(_end_each(connection, rest, now) if rest else ())
    return [TaskState.COMPLETED if ending.id in completed else next(states) for ending in endings]


def _end_each(connection: apsw.Connection, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
    runs = runs_of_ids(connection, (ending.id for ending in endings))
    states: list[TaskState | None] = []
    changes: list[Change] = []
    failures: list[tuple[int, Failure]] = []
    follow_ups: list[NewJob] = []
    for ending in endings:
        run = runs.get(ending.id)
        if run is None or run.token != ending.token:
            states.append(None)
            continue
        del runs[ending.id]  # a second ending of this run is fenced
        after = run.after_end(ending.end, ending.delay)
        states.append(after.state)
        changes.append(Change(run, after, ending.delay, ending.result if ending.end is End.COMPLETED else None))
        if ending.failure is not None:
            failures.append((run.id, ending.failure))
        if ending.end is End.COMPLETED:
            follow_ups += ending.follow_ups
    leave(connection, changes, now)
    add_failures(connection, failures)
    _enqueue_each(connection, follow_ups, now)
    if fenced := states.count(None):
        count(connection, "fenced", fenced)
    return states


def _enqueue_each(connection: apsw.Connection, jobs: Sequence[NewJob], now: Moment) -> None:
    for job in jobs:
        try:
            insert(connection, [job], now)
        except AlreadyEnqueued:  # one like it waits: that is what its queueing lock asks for
            pass


def give_back(connection: apsw.Connection, holder: int, now: Moment) -> int:
    """Give back what ``holder`` runs, and forget it; return how many jobs that were."""
    runs = runs_of_holders(connection, [holder])
    leave(connection, [Change(run, run.after_end(End.GIVE_BACK, 0.0)) for run in runs], now)
    forget(connection, [holder])
    return len(runs)


def rescue(connection: apsw.Connection, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
    """Take everything from holders that are lost, and forget them."""
    gone = {info.id: info for info in all_holders(connection) if is_over(info, now) or is_dead(info)}
    if not gone:
        return []
    rescued: list[Rescued] = []
    changes: list[Change] = []
    failures: list[tuple[int, Failure]] = []
    for holder, run in _runs_with_holders(connection, gone):
        after = run.after_rescue()
        changes.append(Change(run, after))
        failures.append((run.id, lost(run.attempt, run.token, holder.name, now)))
        rescued.append(Rescued(run.id, run.name, holder.name, after.state, after.crashes))
    leave(connection, changes, now)
    add_failures(connection, failures)
    forget(connection, gone)
    count(connection, "rescued", len(rescued))
    count(connection, "lost_holders", len(gone))
    return rescued


def _runs_with_holders(connection: apsw.Connection, holders: dict[int, HolderInfo]) -> list[tuple[HolderInfo, Run]]:
    pairs = [(info, run) for info in holders.values() for run in runs_of_holders(connection, [info.id])]
    return sorted(pairs, key=lambda pair: pair[1].id)
