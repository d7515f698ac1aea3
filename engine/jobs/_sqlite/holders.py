"""Holders and their leases; and the counters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .._moment import Moment
from .._records import HolderInfo, NewHolder
from .damage import check_kinds, reads

if TYPE_CHECKING:
    import apsw

__all__ = ["add", "all_holders", "cancels_asked", "count", "forget", "renew"]


def add(connection: apsw.Connection, holder: NewHolder, now: Moment) -> int:
    """Add a holder with a fresh lease; return its id."""
    connection.execute(
        "INSERT INTO holders (name, pid, pid_started, namespace, boot, lease, lease_until, started_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            holder.name, holder.pid, holder.pid_started, holder.namespace, now.boot, holder.lease,
            now.steady + holder.lease, now.wall,
        ),
    )  # fmt: skip
    return connection.last_insert_rowid()


def renew(connection: apsw.Connection, holders: Iterable[int], now: Moment) -> set[int]:
    """Renew leases; return those of ``holders`` that are not there."""
    missing = set()
    for holder in holders:
        connection.execute(
            "UPDATE holders SET lease_until = ? + lease, boot = ? WHERE id = ?", (now.steady, now.boot, holder)
        )
        if not connection.changes():
            missing.add(holder)
    return missing


def forget(connection: apsw.Connection, holders: Iterable[int]) -> None:
    """Delete holders."""
    connection.executemany("DELETE FROM holders WHERE id = ?", [(holder,) for holder in holders])


@reads
def all_holders(connection: apsw.Connection) -> list[HolderInfo]:
    """Return every holder, in the order of ids."""
    rows = connection.execute(
        "SELECT id, name, pid, pid_started, namespace, boot, lease, lease_until, started_at,"
        " (SELECT count(*) FROM jobs WHERE state = 'running' AND holder = holders.id) FROM holders ORDER BY id"
    )
    return [_info(*row) for row in rows]


def _info(*row: Any) -> HolderInfo:
    check_kinds(row, "int text int real text text real real real int")
    id, name, pid, pid_started, namespace, boot, lease, lease_until, started_at, running = row
    return HolderInfo(
        id=id, name=name, pid=pid, pid_started=pid_started, namespace=namespace, boot=boot, lease=lease,
        lease_until=lease_until, started_at=started_at, running=running,
    )  # fmt: skip


@reads
def cancels_asked(connection: apsw.Connection, holders: Iterable[int]) -> list[tuple[int, int]]:
    """Return (id, token) of what runs for ``holders`` and is to be cancelled."""
    found: list[tuple[int, int]] = []
    for holder in holders:
        rows = connection.execute(
            "SELECT id, token FROM jobs WHERE state = 'running' AND holder = ? AND cancel_requested = 1", (holder,)
        )
        found += ((row[0], row[1]) for row in rows)
    return sorted(found)


def count(connection: apsw.Connection, counter: str, more: int) -> None:
    """Add to a counter."""
    connection.execute("UPDATE counters SET value = value + ? WHERE name = ?", (more, counter))
