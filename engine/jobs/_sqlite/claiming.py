"""The claim: what has expired goes, what is due is opened, the most urgent rows become RUNNING."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._moment import Moment
from .._records import Claim, Claimed, Claims, Gate
from .cancelling import cancel_expired
from .candidates import Candidate, fail, run_whole
from .damage import reads

if TYPE_CHECKING:
    import apsw

__all__ = ["claim"]

#: Rows that one claim cancels, opens per queue and clock, or locks: what it does to others' rows has a bound.
AT_ONCE = 1000

_NOTHING = Claims((), False, None)

_LOOK = """
    SELECT
        (SELECT min(due_steady) FROM jobs WHERE gate = 1 AND queue = ?1 AND due_steady IS NOT NULL),
        (SELECT min(due_wall) FROM jobs WHERE gate = 1 AND queue = ?1 AND due_wall IS NOT NULL),
        EXISTS (SELECT 1 FROM jobs WHERE gate = 3 AND queue = ?1)
    WHERE NOT EXISTS (SELECT 1 FROM queues WHERE name = ?1)
"""
_OPEN = (
    "UPDATE jobs SET gate = CASE suspect WHEN 0 THEN 0 ELSE 3 END, due_steady = NULL, due_wall = NULL WHERE id IN"
    " (SELECT id FROM jobs WHERE gate = 1 AND queue = ? AND {due} <= ? ORDER BY {due} LIMIT ?)"
)
_OPEN_STEADY = _OPEN.format(due="due_steady")
_OPEN_WALL = _OPEN.format(due="due_wall")
# The first two columns are the order. Rows are read one by one, as far as the claim goes. Texts as bytes, for one may
# be damaged: that is looked at in those that are claimed.
_MEET = """
    SELECT ifnull(-priority, 0), id, CAST(name AS BLOB), CAST(lock AS BLOB),
        lock IS NOT NULL AND EXISTS (SELECT 1 FROM jobs AS run WHERE run.state = 'running' AND run.lock = jobs.lock),
        token = 0 AND (ifnull(expires_steady <= ?, 0) OR ifnull(expires_wall <= ?, 0)),
        queue
    FROM jobs WHERE gate = {gate} AND queue = ? ORDER BY priority DESC, id
"""
_MEET_READY = _MEET.format(gate=0)
_MEET_ALONE = _MEET.format(gate=3)
_OF_IDS = "id IN (SELECT value FROM json_each(?))"


@dataclass(slots=True)
class _Look:
    """What a queue has besides its READY rows."""

    due_steady: float | None
    due_wall: float | None
    has_suspects: bool

    def due_in(self, now: Moment) -> float | None:
        steady = None if self.due_steady is None else self.due_steady - now.steady
        wall = None if self.due_wall is None else self.due_wall - now.wall
        return min((due for due in (steady, wall) if due is not None), default=None)


@dataclass(slots=True)
class _Met:
    """What becomes of the rows that a claim met."""

    claimed: list[int] = field(default_factory=list)
    locked: list[int] = field(default_factory=list)
    is_more: bool = False  #: stopped at a bound of its own


def claim(connection: apsw.Connection, claim: Claim, now: Moment) -> Claims:
    """Do a claim; what the book promises of it is said there."""
    if connection.execute("SELECT 1 FROM holders WHERE id = ?", (claim.holder,)).get is None:
        return _NOTHING
    is_more = cancel_expired(connection, now, AT_ONCE) == AT_ONCE
    looks = _open_due(connection, claim, now)
    met = _meet(connection, claim, list(looks), now)
    if met.locked:
        connection.execute(f"UPDATE jobs SET gate = 2 WHERE {_OF_IDS}", (json.dumps(met.locked),))
    jobs, damaged = _run(connection, claim, met.claimed, now)
    dues = [due for look in looks.values() if (due := look.due_in(now)) is not None]
    next_due = 0.0 if is_more or met.is_more or damaged else max(0.0, min(dues)) if dues else None
    return Claims(tuple(jobs), _has_suspects(connection, claim, looks), next_due)


@reads
def _open_due(connection: apsw.Connection, claim: Claim, now: Moment) -> dict[str, _Look]:
    """Open what is due in those queues that are not paused; return how each is after it."""
    looks = {}
    for queue in claim.queues:
        look = _look(connection, queue)
        due = None if look is None else look.due_in(now)
        if due is not None and due <= 0:
            connection.execute(_OPEN_STEADY, (queue, now.steady, AT_ONCE))
            connection.execute(_OPEN_WALL, (queue, now.wall, AT_ONCE))
            look = _look(connection, queue)
        if look is not None:
            looks[queue] = look
    return looks


@reads
def _look(connection: apsw.Connection, queue: str) -> _Look | None:
    row = connection.execute(_LOOK, (queue,)).get
    return None if row is None else _Look(row[0], row[1], bool(row[2]))


@reads
def _meet(connection: apsw.Connection, claim: Claim, queues: list[str], now: Moment) -> _Met:
    """Go through the rows in their order until enough are found; change nothing."""
    met = _Met()
    room = dict.fromkeys(queues, 1) if claim.alone else dict(claim.queues)
    limit = 1 if claim.alone else claim.limit
    passed: Counter[str] = Counter()
    locks: set[bytes] = set()
    passed_over = {name.encode() for name in claim.passed_over}
    cursors = [
        (queue, connection.execute(_MEET_ALONE if claim.alone else _MEET_READY, (now.steady, now.wall, queue)))
        for queue in queues
        if room[queue] > 0
    ]

    def rows_of(queue: str, cursor: apsw.Cursor) -> Iterator[tuple[Any, ...]]:
        while room[queue] > 0 and passed[queue] < claim.look_ahead and (row := next(cursor, None)) is not None:
            yield row

    skipped = 0
    try:
        for _, id, name, lock, is_held, has_expired, queue in heapq.merge(*(rows_of(*each) for each in cursors)):
            if len(met.claimed) >= limit:
                break
            if has_expired:
                skipped += 1
            elif name in passed_over and not claim.alone:
                passed[queue] += 1
            elif is_held or lock in locks:
                met.locked.append(id)
            else:
                met.claimed.append(id)
                room[queue] -= 1
                if lock is not None:
                    locks.add(lock)
            if len(met.locked) + skipped >= AT_ONCE:
                met.is_more = True
                break
    finally:
        for _, cursor in cursors:
            cursor.close()
    return met


def _run(connection: apsw.Connection, claim: Claim, ids: list[int], now: Moment) -> tuple[list[Claimed], int]:
    """Make rows RUNNING; return them in the order of ``ids``, and how many were damaged: those are FAILED."""
    if not ids:
        return [], 0
    gate = Gate.ALONE if claim.alone else Gate.READY
    whole, damaged = run_whole(connection, ids, gate, (int(claim.alone), claim.holder, now.wall))
    if damaged:
        fail(connection, damaged, now)
    return [_claimed(row, alone=claim.alone) for row in whole], len(damaged)


def _claimed(row: Candidate, *, alone: bool) -> Claimed:
    """Return a row as it stands when it is claimed."""
    return Claimed(
        row.id, row.token + 1, row.queue.decode(), row.name.decode(), row.args.decode(), row.attempt + 1, row.priority,
        row.crashes + alone, row.created_at, None if row.lock is None else row.lock.decode(), alone, row.max_crashes,
        None if row.then is None else row.then.decode(),
    )  # fmt: skip


def _has_suspects(connection: apsw.Connection, claim: Claim, looks: dict[str, _Look]) -> bool:
    """Say whether suspects wait still."""
    before = [queue for queue, look in looks.items() if look.has_suspects]
    if not claim.alone:
        return bool(before)
    return any(look is not None and look.has_suspects for look in (_look(connection, queue) for queue in before))
