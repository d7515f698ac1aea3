"""How the rows of a book in memory move; the verbs are made of these."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine import TaskState

from .._moment import Moment
from .._moves import TERMINAL, Standing, after_end, before_run
from .._records import Claim, Ending, Gate, NewJob
from ..errors import AlreadyEnqueued
from .rest import Rest
from .row import Row
from .rows import Rows

__all__ = ["MemoryMoves"]


class MemoryMoves:
    """Rows, what else a book has, and the moves that several verbs share."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._rest = Rest()
        self._rest_before = Rest()

    # -- transactions

    def begin(self) -> None:
        """Keep what was done so far."""
        self._rows.begin()
        self._rest_before = self._rest.copy()

    def has_changed(self) -> bool:
        """Say whether anything was changed since ``begin``."""
        return self._rows.has_changed() or self._rest != self._rest_before

    def undo(self) -> None:
        """Have everything be as it was at ``begin``."""
        self._rows.undo()
        self._rest = self._rest_before.copy()

    # -- into the queue

    def enqueue(self, jobs: Sequence[NewJob], now: Moment) -> list[int]:
        """Add rows, or none of them."""
        self._cancel_waiting(self._in_the_way(jobs, now), now)
        return [self._add(job, now) for job in jobs]

    def _in_the_way(self, jobs: Sequence[NewJob], now: Moment) -> list[Row]:
        """Return the expired rows that have the queueing locks of ``jobs``; raise if others have them."""
        expired: list[Row] = []
        seen: set[str] = set()
        for lock in (job.queueing_lock for job in jobs if job.queueing_lock is not None):
            row = self._rows.queued_with(lock)
            if lock in seen:
                raise _taken(lock, None)
            if row is not None and not row.has_expired(now):
                raise _taken(lock, row.id)
            seen.add(lock)
            expired += [row] if row is not None else []
        return expired

    def _add(self, job: NewJob, now: Moment) -> int:
        self._rest.last_id += 1
        return self._rows.put(Row.of(self._rest.last_id, job, now)).id

    def _enqueue_unless_queued(self, job: NewJob, now: Moment) -> int | None:
        """Enqueue ``job`` unless one with its queueing lock waits already."""
        try:
            return self.enqueue([job], now)[0]
        except AlreadyEnqueued:
            return None

    # -- to RUNNING, and from there

    def _claim_ready(self, rooms: dict[str, int], claim: Claim, now: Moment) -> list[Row]:
        looks = dict.fromkeys(rooms, claim.look_ahead)
        claimed: list[Row] = []
        for row in self._rows.waiting(Gate.READY, rooms):
            queue = row.new.queue
            if len(claimed) >= claim.limit:
                break
            if rooms[queue] <= 0 or looks[queue] <= 0:
                continue
            if row.new.name in claim.passed_over:
                looks[queue] -= 1
            elif self._rows.has_lock(row.new.lock):
                self._rows.put(row.standing_as(gate=Gate.LOCKED))
            else:
                rooms[queue] -= 1
                claimed.append(self._start(row, claim, now))
        return claimed

    def _claim_alone(self, rooms: dict[str, int], claim: Claim, now: Moment) -> list[Row]:
        for row in self._rows.waiting(Gate.ALONE, rooms):
            if not self._rows.has_lock(row.new.lock):
                return [self._start(row, claim, now)]
            self._rows.put(row.standing_as(gate=Gate.LOCKED))
        return []

    def _start(self, row: Row, claim: Claim, now: Moment) -> Row:
        standing = before_run(row.standing, alone=claim.alone)
        return self._rows.put(
            row.changed(standing=standing, token=row.token + 1, holder=claim.holder, started_at=now.wall)
        )

    def _run(self, job_id: int, token: int) -> Row | None:
        """Return the row whose run has ``token``; None if that is fenced."""
        row = self._rows.get(job_id)
        return row if row is not None and (row.state, row.token) == (TaskState.RUNNING, token) else None

    def _end_run(self, row: Row, ending: Ending, now: Moment) -> Row:
        standing = after_end(row.standing, ending.end, delay=ending.delay)
        due = now.steady + ending.delay if standing.gate is Gate.LATER else None
        result = ending.result if standing.state is TaskState.COMPLETED else None
        ended = row.having_failed(ending.failure).held_by_nobody(due).changed(result=result)
        return self._leave(ended, standing, now)

    def _leave(self, row: Row, standing: Standing, now: Moment) -> Row:
        """Let a row leave RUNNING, and the next with its lock have its turn."""
        ended_at = now.wall if standing.state in TERMINAL else None
        left = self._rows.put(row.changed(standing=standing, completed_at=ended_at))
        self._open_waiters(row.new.lock)
        return left

    def _open_waiters(self, lock: str | None) -> None:
        """Open the most urgent row of each queue that waits for ``lock``, if nobody has it.

        One of each queue, because a worker need not serve them all, and one of them may be paused.
        """
        if lock is None or self._rows.has_lock(lock):
            return
        opened: set[str] = set()
        for row in self._rows.waiting_for_lock(lock):
            if row.new.queue not in opened:
                opened.add(row.new.queue)
                self._rows.put(row.standing_as(gate=Gate.ALONE if row.standing.suspect else Gate.READY))

    # -- without a run

    def _cancel_waiting(self, rows: Collection[Row], now: Moment) -> None:
        """End rows that wait; those that were to have their turn with a lock leave it to the next."""
        for row in rows:
            ended = row.standing_as(state=TaskState.CANCELLED, gate=None, suspect=False)
            self._rows.put(ended.changed(completed_at=now.wall))
        for lock in {row.new.lock for row in rows if row.gate in (Gate.READY, Gate.ALONE)}:
            self._open_waiters(lock)


def _taken(queueing_lock: str, job_id: int | None) -> AlreadyEnqueued:
    waits = "another job of this call waits" if job_id is None else f"job {job_id} waits"
    return AlreadyEnqueued(
        f"expected queueing_lock to be free, got {queueing_lock!r}, with which {waits}",
        queueing_lock=queueing_lock, job_id=job_id,
    )  # fmt: skip
