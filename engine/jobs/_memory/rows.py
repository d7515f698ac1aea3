"""All jobs in memory, found by what verbs ask for; and how to take changes back."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from heapq import merge

from engine import TaskState

from .._records import Gate
from .row import Row

__all__ = ["Rows"]


class Rows:
    """Rows by id, and indexes over those that are live: what has ended costs no claim anything."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._lines: defaultdict[tuple[Gate, str], list[tuple[int, int]]] = defaultdict(list)  # -> the orders of rows
        self._locked: defaultdict[str | None, set[int]] = defaultdict(set)  # lock -> rows that wait for it
        self._locks: dict[str, int] = {}  # lock -> the RUNNING row that has it
        self._queueing_locks: dict[str, int] = {}  # -> the row that waits for its first claim with it
        self._expiring: set[int] = set()  # rows that wait for their first claim, and not for ever
        self._running: set[int] = set()
        self._changed: list[tuple[int, Row | None]] = []  # since ``begin``: the id, and the row as it was

    # -- rows

    def get(self, job_id: int) -> Row | None:
        """Return a row; None if it is not there."""
        return self._rows.get(job_id)

    def all(self, ids: Collection[int] = ()) -> list[Row]:
        """Return all rows by id, or those with ``ids`` where any are given."""
        return [self._rows[job_id] for job_id in sorted(self._rows.keys() & set(ids) if ids else self._rows)]

    def put(self, row: Row) -> Row:
        """Add a row, or have it be as it stands now; return it."""
        self._changed.append((row.id, self._rows.get(row.id)))
        self._replace(row.id, row)
        return row

    def remove(self, job_id: int) -> None:
        """Forget a row."""
        self._changed.append((job_id, self._rows[job_id]))
        self._replace(job_id, None)

    # -- live ones

    def waiting(self, gate: Gate, queues: Iterable[str]) -> Iterator[Row]:
        """Give the rows of ``queues`` that wait for ``gate`` now, the most urgent first; they may change meanwhile."""
        lines = [list(self._lines[gate, queue]) for queue in set(queues)]
        return (self._rows[job_id] for _, job_id in merge(*lines))

    def waiting_for_lock(self, lock: str) -> list[Row]:
        """Return the LOCKED rows with ``lock``, the most urgent first."""
        return sorted((self._rows[job_id] for job_id in self._locked[lock]), key=lambda row: row.order)

    def has_lock(self, lock: str | None) -> bool:
        """Say whether a RUNNING row has ``lock``."""
        return lock in self._locks

    def queued_with(self, queueing_lock: str) -> Row | None:
        """Return the row that waits for its first claim with ``queueing_lock``."""
        return self._rows.get(self._queueing_locks.get(queueing_lock, 0))

    def expiring(self) -> list[Row]:
        """Return the rows that may expire."""
        return [self._rows[job_id] for job_id in sorted(self._expiring)]

    def running(self) -> list[Row]:
        """Return the RUNNING rows by id."""
        return [self._rows[job_id] for job_id in sorted(self._running)]

    # -- changes

    def begin(self) -> None:
        """Forget what was changed so far: it stays."""
        self._changed.clear()

    def has_changed(self) -> bool:
        """Say whether anything was changed since ``begin``."""
        return bool(self._changed)

    def undo(self) -> None:
        """Have all be as it was at ``begin``."""
        while self._changed:
            self._replace(*self._changed.pop())

    def _replace(self, job_id: int, row: Row | None) -> None:
        if before := self._rows.pop(job_id, None):
            self._unindex(before)
        if row is not None:
            self._rows[job_id] = row
            self._index(row)

    def _index(self, row: Row) -> None:
        if row.gate is not None:
            insort(self._lines[row.gate, row.new.queue], row.order)
            if row.gate is Gate.LOCKED:
                self._locked[row.new.lock].add(row.id)
            if row.waits_for_its_first_claim:
                if row.new.queueing_lock is not None:
                    self._queueing_locks[row.new.queueing_lock] = row.id
                if row.expires_steady is not None or row.new.expires_at is not None:
                    self._expiring.add(row.id)
        elif row.state is TaskState.RUNNING:
            self._running.add(row.id)
            if row.new.lock is not None:
                self._locks[row.new.lock] = row.id

    def _unindex(self, row: Row) -> None:
        if row.gate is not None:
            line = self._lines[row.gate, row.new.queue]
            del line[bisect_left(line, row.order)]
            self._locked[row.new.lock].discard(row.id)
            self._expiring.discard(row.id)
            if row.waits_for_its_first_claim and row.new.queueing_lock is not None:
                del self._queueing_locks[row.new.queueing_lock]
        elif row.state is TaskState.RUNNING:
            self._running.discard(row.id)
            if row.new.lock is not None:
                del self._locks[row.new.lock]
