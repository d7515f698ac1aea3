"""Rows that end without a run: cancelled, or expired."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._moment import Moment
from .._records import Cancelled
from .damage import reads
from .ids import can_be_id
from .locks import open_next

if TYPE_CHECKING:
    import apsw

__all__ = ["cancel", "cancel_expired", "cancel_pending"]

_OF_IDS = "id IN (SELECT value FROM json_each(?))"
# Of rows that were to have their turn with a lock.
_FREE_LOCKS = (
    f"SELECT DISTINCT lock FROM jobs WHERE {_OF_IDS} AND lock IS NOT NULL AND gate IN (0, 3) AND NOT EXISTS"
    " (SELECT 1 FROM jobs AS run WHERE run.state = 'running' AND run.lock = jobs.lock)"
)

_EXPIRED = "SELECT id FROM jobs WHERE state = 'pending' AND token = 0 AND {expires} <= ? ORDER BY {expires} LIMIT ?"
_EXPIRED_STEADY = _EXPIRED.format(expires="expires_steady")
_EXPIRED_WALL = _EXPIRED.format(expires="expires_wall")


@reads
def cancel(connection: apsw.Connection, job_id: int, now: Moment) -> Cancelled:
    """Cancel a PENDING row; mark a RUNNING one."""
    if not can_be_id(job_id):
        return Cancelled.UNKNOWN
    state = connection.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).get
    if state is None:
        return Cancelled.UNKNOWN
    if state == "pending":
        cancel_pending(connection, [job_id], now)
        return Cancelled.NOW
    if state == "running":
        connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
        return Cancelled.ASKED
    return Cancelled.TOO_LATE


def cancel_expired(connection: apsw.Connection, now: Moment, limit: int) -> int:
    """Cancel at most ``limit`` rows that were never claimed and whose time is over; return how many those were."""
    expired: set[int] = set()  # a row may be there by both clocks
    for statement, now_is in ((_EXPIRED_STEADY, now.steady), (_EXPIRED_WALL, now.wall)):
        expired.update(row[0] for row in connection.execute(statement, (now_is, limit - len(expired))))
    if expired:
        cancel_pending(connection, expired, now)
    return len(expired)


def cancel_pending(connection: apsw.Connection, ids: Iterable[int], now: Moment) -> None:
    """Cancel rows that are PENDING, and open those that waited behind them for a lock."""
    listed = json.dumps(list(ids))
    locks: list[tuple[Any, ...]] = connection.execute(_FREE_LOCKS, (listed,)).fetchall()
    connection.execute(
        "UPDATE jobs SET state = 'cancelled', gate = NULL, suspect = 0, due_steady = NULL, due_wall = NULL,"
        f" completed_at = ? WHERE {_OF_IDS}",
        (now.wall, listed),
    )
    for (lock,) in locks:
        open_next(connection, lock)
