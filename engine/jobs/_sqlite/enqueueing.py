"""New rows, and what keeps them out."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from .._moment import Moment
from .._records import Gate, NewJob
from ..errors import AlreadyEnqueued
from .cancelling import cancel_pending
from .checksum import begin_of, goes_on
from .damage import reads

if TYPE_CHECKING:
    import apsw

__all__ = ["insert", "insert_many"]

_COLUMNS = (
    "queue, name, gate, priority, due_steady, due_wall, expires_steady, expires_wall, lock, queueing_lock,"
    " max_crashes, follow_ups, parent, schedule, created_at, checksum, args"
)
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join(['?'] * 17)})"
ROWS = 100  #: of one statement: some 1.1 us a row with its checksum, where one statement each costs 2.5 us


def insert(connection: apsw.Connection, jobs: Sequence[NewJob], now: Moment) -> list[int]:
    """Add rows; raises AlreadyEnqueued, and may then have added some."""
    ids: list[int] = []
    for job in jobs:
        if job.queueing_lock is not None:
            _take(connection, job.queueing_lock, ids, now)
        checksum = goes_on(job.args.encode(), begin_of(job))
        connection.execute(_INSERT, (*_values(job, now), checksum, job.args))
        ids.append(connection.last_insert_rowid())
    return ids


def insert_many(connection: apsw.Connection, like: NewJob, args: Sequence[str], now: Moment) -> range:
    """Add a row like ``like`` for each of ``args``; may have added some where it raises."""
    if not args:
        return range(0)
    values, begun = _values(like, now), begin_of(like)
    for start in range(0, len(args), ROWS):
        texts = args[start : start + ROWS]
        own = chain.from_iterable([(goes_on(text.encode(), begun), text) for text in texts])
        connection.execute(_insert_rows(len(texts)), (*values, *own))
    last = connection.last_insert_rowid()
    return range(last - len(args) + 1, last + 1)  # in one transaction of the one writer: no other's are between them


@functools.cache  # at most ROWS of them
def _insert_rows(number: int) -> str:
    """Return the statement for rows that differ in the last two columns only."""
    same = ", ".join(["?"] * 15)
    return f"INSERT INTO jobs ({_COLUMNS}) SELECT {same}, * FROM (VALUES {', '.join(['(?, ?)'] * number)})"


def _values(job: NewJob, now: Moment) -> tuple[Any, ...]:
    due_steady = now.steady + job.delay if job.delay is not None and job.delay > 0 else None
    due_wall = job.at if job.at is not None and job.at > now.wall else None
    expires = None if job.expires_in is None else now.steady + job.expires_in
    gate = Gate.READY if due_steady is due_wall is None else Gate.LATER
    return (
        job.queue, job.name, gate, job.priority, due_steady, due_wall, expires, job.expires_at, job.lock,
        job.queueing_lock, job.max_crashes, job.then, job.parent, job.schedule, now.wall,
    )  # fmt: skip


def _take(connection: apsw.Connection, queueing_lock: str, ours: Collection[int], now: Moment) -> None:
    """Make sure that nobody has ``queueing_lock``; cancel who has it and has expired."""
    holder = _who_has(connection, queueing_lock, now)
    if holder is None:
        return
    job_id, has_expired = holder
    is_ours = job_id in ours
    if has_expired and not is_ours:
        cancel_pending(connection, [job_id], now)
        return
    waits = "another job of this call waits" if is_ours else f"job {job_id} waits"
    raise AlreadyEnqueued(
        f"expected queueing_lock to be free, got {queueing_lock!r}, with which {waits}",
        queueing_lock=queueing_lock,
        job_id=None if is_ours else job_id,
    )


@reads
def _who_has(connection: apsw.Connection, queueing_lock: str, now: Moment) -> tuple[int, bool] | None:
    """Return who waits with ``queueing_lock``, and whether it has expired."""
    row = connection.execute(
        "SELECT id, ifnull(expires_steady <= ?, 0) OR ifnull(expires_wall <= ?, 0) FROM jobs"
        " WHERE queueing_lock = ? AND state = 'pending' AND token = 0",
        (now.steady, now.wall, queueing_lock),
    ).get
    return None if row is None else (row[0], bool(row[1]))
