"""New rows, and what keeps them out."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from .._moment import Moment
from .._records import Gate, NewJob
from ..errors import AlreadyEnqueued
from ._cancelling import cancel_pending
from ._damage import reads

if TYPE_CHECKING:
    import apsw

__all__ = ["insert", "insert_many"]

_COLUMNS = (
    "queue, name, gate, priority, due_steady, due_wall, expires_steady, expires_wall, lock, queueing_lock,"
    " max_crashes, follow_ups, parent, schedule, created_at, args"
)
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# One statement for all: some 0.7 us a row, where one statement each costs 2.5 us.
_INSERT_MANY = (
    f"INSERT INTO jobs ({_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, value FROM json_each(?)"
)


def insert(connection: apsw.Connection, jobs: Sequence[NewJob], now: Moment) -> list[int]:
    """Add rows; raises AlreadyEnqueued, and may then have added some."""
    ids: list[int] = []
    for job in jobs:
        if job.queueing_lock is not None:
            _take(connection, job.queueing_lock, ids, now)
        connection.execute(_INSERT, (*_values(job, now), job.args))
        ids.append(connection.last_insert_rowid())
    return ids


def insert_many(connection: apsw.Connection, like: NewJob, args: Sequence[str], now: Moment) -> range:
    """Add a row like ``like`` for each of ``args``."""
    if not args:
        return range(0)
    # Not ASCII only: a lone surrogate is then refused when it is bound, not stored as bytes that are no text.
    texts = json.dumps(args if isinstance(args, list) else list(args), ensure_ascii=False)
    connection.execute(_INSERT_MANY, (*_values(like, now), texts))
    last = connection.last_insert_rowid()
    return range(last - len(args) + 1, last + 1)  # one statement of the one writer: no other's are between them


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
