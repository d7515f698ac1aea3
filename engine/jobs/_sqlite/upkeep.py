"""What is done to a row from outside its life: progress, requeue, prune; and the pause of a queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import TaskState

from .ids import can_be_id

if TYPE_CHECKING:
    import apsw

__all__ = ["pause", "prune", "report", "requeue"]


def report(connection: apsw.Connection, job_id: int, token: int, progress: str) -> bool:
    """Record the progress of a run; False where it is fenced."""
    if not can_be_id(job_id):
        return False
    connection.execute(
        "UPDATE jobs SET progress = ? WHERE id = ? AND token = ? AND state = 'running'", (progress, job_id, token)
    )
    return bool(connection.changes())


def requeue(connection: apsw.Connection, job_id: int) -> bool:
    """Make a terminal row READY again; False if it is none."""
    if not can_be_id(job_id):
        return False
    connection.execute(
        "UPDATE jobs SET state = 'pending', gate = 0, attempt = 0, crashes = 0, token = token + 1,"
        " completed_at = NULL, result = NULL, progress = NULL WHERE id = ? AND completed_at IS NOT NULL",
        (job_id,),
    )
    return bool(connection.changes())


def prune(connection: apsw.Connection, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
    """Delete terminal rows, state by state, and of each those first that ended first."""
    victims: list[int] = []
    for state in dict.fromkeys(states):
        victims += (
            row[0]
            for row in connection.execute(
                "SELECT id FROM jobs WHERE state = ? AND completed_at < ? ORDER BY completed_at, id LIMIT ?",
                (TaskState(state).value, completed_before, limit - len(victims)),
            )
        )
    ids = json.dumps(victims)
    connection.execute("DELETE FROM failures WHERE job IN (SELECT value FROM json_each(?))", (ids,))
    connection.execute("DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?))", (ids,))
    return len(victims)


def pause(connection: apsw.Connection, queue: str, paused: bool) -> None:
    """Note that claims give nothing from ``queue``, or forget it."""
    connection.execute(
        "INSERT OR IGNORE INTO queues VALUES (?)" if paused else "DELETE FROM queues WHERE name = ?", (queue,)
    )
