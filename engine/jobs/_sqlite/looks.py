"""Looks at the rows, which change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engine import TaskState

from .._moment import Moment
from .._records import Failure, Filter, Gate, JobInfo, QueueStatistics, Statistics
from .damage import check_kinds, reads
from .holders import all_holders
from .ids import MOST, can_be_id

if TYPE_CHECKING:
    import apsw

__all__ = ["failures", "find", "states", "statistics"]

_FIND = """
    SELECT id, queue, name, args, state, gate, attempt, token, crashes, suspect, cancel_requested, priority,
        max_crashes, lock, queueing_lock, created_at, ifnull(due_wall, due_steady), started_at, completed_at,
        ifnull(expires_wall, expires_steady),
        (SELECT holders.name FROM holders WHERE holders.id = jobs.holder),
        (SELECT lease_until FROM holders WHERE holders.id = jobs.holder),
        result, progress, parent, schedule,
        (SELECT error FROM failures WHERE failures.job = jobs.id ORDER BY failures.id DESC LIMIT 1)
    FROM jobs {index} {where} ORDER BY id {order} LIMIT ?
"""
_FIND_KINDS = (
    "int text text text text int? int int int int int int int text? text? real real? real? real? real? text? real?"
    " text? text? int? text? text?"
)
#: Where a look at rows in one state goes. SQLite itself would go through all rows by id, which is their order.
_INDEX_OF = {TaskState.RUNNING: "INDEXED BY jobs_running"}


@reads
def find(connection: apsw.Connection, wanted: Filter) -> list[JobInfo]:
    """Return the rows that ``wanted`` describes."""
    conditions: list[str] = []
    values: list[Any] = []
    for condition, bound in _conditions(wanted):
        conditions.append(condition)
        values += bound
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    index = _INDEX_OF.get(wanted.states[0], "") if len(wanted.states) == 1 and not wanted.ids else ""
    sql = _FIND.format(index=index, where=where, order="ASC" if wanted.oldest_first else "DESC")
    found: list[JobInfo] = []
    for row in connection.execute(sql, (*values, min(wanted.limit, MOST))):
        check_kinds(row, _FIND_KINDS)
        found.append(_info(*row))
    return found


def _conditions(wanted: Filter) -> Iterator[tuple[str, Sequence[Any]]]:
    """Give the conditions of a look, each with what is bound to it. Only our own words are in the text."""
    if wanted.ids:
        yield "id IN (SELECT value FROM json_each(?))", [json.dumps([id for id in wanted.ids if can_be_id(id)])]
    if wanted.states:  # as text, or no index of one state would be used
        names = ", ".join(f"'{TaskState(state).value}'" for state in wanted.states)
        yield (f"state = {names}" if len(wanted.states) == 1 else f"state IN ({names})"), []
    if wanted.queues:
        yield f"queue IN ({_marks(wanted.queues)})", wanted.queues
    if wanted.names:
        yield f"name IN ({_marks(wanted.names)})", wanted.names
    if wanted.parent is not None:
        yield "parent = ?", [max(-MOST, min(wanted.parent, MOST))]
    if wanted.below is not None:
        edge = max(-MOST, min(wanted.below, MOST))
        yield ("id > ?" if wanted.oldest_first else "id < ?"), [edge]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _info(
    id: int, queue: str, name: str, args: str, state: str, gate: int | None, attempt: int, token: int, crashes: int,
    suspect: int, cancel_requested: int, priority: int, max_crashes: int, lock: str | None, queueing_lock: str | None,
    created_at: float, due_at: float | None, started_at: float | None, completed_at: float | None,
    expires_at: float | None, holder: str | None, lease_until: float | None, result: str | None, progress: str | None,
    parent: int | None, schedule: str | None, error: str | None,
) -> JobInfo:  # fmt: skip
    return JobInfo(
        id=id, queue=queue, name=name, args=args, state=TaskState(state), gate=None if gate is None else Gate(gate),
        attempt=attempt, token=token, crashes=crashes, suspect=bool(suspect), cancel_requested=bool(cancel_requested),
        priority=priority, max_crashes=max_crashes, lock=lock, queueing_lock=queueing_lock, created_at=created_at,
        due_at=due_at, started_at=started_at, completed_at=completed_at, expires_at=expires_at, holder=holder,
        lease_until=lease_until, result=result, progress=progress, parent=parent, schedule=schedule, error=error,
    )  # fmt: skip


@reads
def failures(connection: apsw.Connection, job_id: int) -> list[Failure]:
    """Return why runs of a job did not complete, oldest first."""
    if not can_be_id(job_id):
        return []
    rows = connection.execute(
        "SELECT at, attempt, token, kind, error, traceback, worker FROM failures WHERE job = ? ORDER BY id", (job_id,)
    )
    found: list[Failure] = []
    for row in rows:
        check_kinds(row, "real int int text text text text")
        found.append(Failure(*row))
    return found


@reads
def states(connection: apsw.Connection, ids: Sequence[int]) -> dict[int, TaskState]:
    """Return the states of those of ``ids`` that are there."""
    listed = json.dumps([id for id in ids if can_be_id(id)])
    rows = connection.execute("SELECT id, state FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (listed,))
    return {row[0]: TaskState(row[1]) for row in rows}


# Each part of it reads one index, and no row. So a million finished rows are counted without being read.
_COUNTS = """
    SELECT queue, 'ready', count(*), min(id) FROM jobs WHERE gate = 0 GROUP BY queue
    UNION ALL SELECT queue, 'later', count(*), 0 FROM jobs WHERE gate = 1 AND due_steady IS NOT NULL GROUP BY queue
    UNION ALL SELECT queue, 'later', count(*), 0 FROM jobs WHERE gate = 1 AND due_wall IS NOT NULL GROUP BY queue
    UNION ALL SELECT queue, 'locked', count(*), 0 FROM jobs WHERE gate = 2 GROUP BY queue
    UNION ALL SELECT queue, 'suspects', count(*), 0 FROM jobs WHERE gate = 3 GROUP BY queue
    UNION ALL SELECT queue, 'running', count(*), 0 FROM jobs WHERE state = 'running' GROUP BY queue
    UNION ALL SELECT queue, state, count(*), 0 FROM jobs WHERE completed_at IS NOT NULL GROUP BY state, queue
"""


@reads
def statistics(connection: apsw.Connection, now: Moment) -> Statistics:
    """Count everything."""
    paused = {row[0] for row in connection.execute("SELECT name FROM queues")}
    counts: dict[str, dict[str, Any]] = {queue: {"paused": True} for queue in paused}
    for row in connection.execute(_COUNTS):
        check_kinds(row, "text text int int")
        queue, what, number, oldest = row
        of_queue = counts.setdefault(queue, {})
        of_queue[what] = of_queue.get(what, 0) + number
        if what == "ready":
            of_queue["oldest_ready"] = max(0.0, now.wall - _created_at(connection, oldest))
    return Statistics(
        queues=tuple(QueueStatistics(queue=queue, **counts[queue]) for queue in sorted(counts)),
        holders=tuple(all_holders(connection)),
        counters={row[0]: row[1] for row in connection.execute("SELECT name, value FROM counters")},
    )


def _created_at(connection: apsw.Connection, job_id: int) -> float:
    return float(connection.execute("SELECT created_at FROM jobs WHERE id = ?", (job_id,)).get)
