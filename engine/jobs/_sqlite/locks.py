"""Rows that wait for a lock: who is opened when it is free. Why none waits for ever: design/0014."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .damage import reads

if TYPE_CHECKING:
    import apsw

__all__ = ["open_next"]


@reads
def open_next(connection: apsw.Connection, lock: str) -> None:
    """Open, in each queue, the best of the LOCKED rows of ``lock``.

    To be called when a row with ``lock`` has left RUNNING, and when one has left READY or ALONE without being claimed,
    and no other runs. It costs one seek per queue that has such rows, and one more.
    """
    queue = ""
    while True:
        best = connection.execute(
            "SELECT queue, id FROM jobs WHERE gate = 2 AND lock = ? AND queue >= ?"
            " ORDER BY queue, priority DESC, id LIMIT 1",
            (lock, queue),
        ).get
        if best is None:
            return
        connection.execute("UPDATE jobs SET gate = CASE suspect WHEN 0 THEN 0 ELSE 3 END WHERE id = ?", (best[1],))
        queue = best[0] + "\0"  # the least text after it, in SQLite's order of bytes
