"""The book in memory: the model of what every other book does, and the store of users' own tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from engine import TaskState

from .._moment import Moment
from .._moves import TERMINAL, WRONG_CLOCK_SECONDS, after_rescue, is_over, lost
from .._records import (
    Cancelled,
    Claim,
    Claims,
    End,
    Ending,
    Failure,
    Filter,
    Gate,
    HolderInfo,
    JobInfo,
    NewHolder,
    NewJob,
    Rescued,
    Statistics,
)
from .moves import MemoryMoves
from .row import Row

__all__ = ["MemoryBook"]


class MemoryBook(MemoryMoves):
    """Keeps the contract of ``Book`` over rows that are replaced and never changed, so what it gives is safe.

    It belongs to whoever holds it, one thread at a time.
    """

    # -- into the queue (``enqueue`` is one of the moves)

    def enqueue_many(self, like: NewJob, args: Sequence[str], now: Moment) -> range:
        """Add rows that differ in their arguments."""
        first = self._rest.last_id + 1
        for each in args:
            self._add(replace(like, args=each), now)
        return range(first, self._rest.last_id + 1)

    # -- holders and their leases

    def hold(self, holder: NewHolder, now: Moment) -> int:
        """Add a holder."""
        return self._rest.hold(holder, now)

    def renew(self, holders: Iterable[int], now: Moment) -> set[int]:
        """Renew leases; return who has none."""
        return {holder for holder in holders if not self._rest.renew(holder, now)}

    def let_go(self, holder: int, now: Moment) -> int:
        """Give back all that ``holder`` has."""
        rows = self._held_by(holder)
        for row in rows:
            self._end_run(row, Ending(row.id, row.token, End.GIVE_BACK), now)
        self._rest.holders.pop(holder, None)
        return len(rows)

    def rescue(self, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
        """Take everything from holders that are lost."""
        gone = {info.id: info for info in self._holders() if is_over(info, now) or is_dead(info)}
        rows = [row for row in self._rows.running() if row.holder in gone]
        rescued = [self._rescue(row, gone[row.holder or 0], now) for row in rows]
        for holder in gone:
            del self._rest.holders[holder]
        self._rest.counters["lost_holders"] += len(gone)
        self._rest.counters["rescued"] += len(rescued)
        return rescued

    def _rescue(self, row: Row, holder: HolderInfo, now: Moment) -> Rescued:
        failed = row.having_failed(lost(row.standing.attempt, row.token, holder.name, now))
        left = self._leave(failed.held_by_nobody(), after_rescue(row.standing), now)
        return Rescued(left.id, left.new.name, holder.name, left.state, left.standing.crashes)

    def _held_by(self, holder: int) -> list[Row]:
        return [row for row in self._rows.running() if row.holder == holder]

    def _holders(self) -> list[HolderInfo]:
        return [replace(info, running=len(self._held_by(info.id))) for info in self._rest.holders.values()]

    # -- running

    def claim(self, claim: Claim, now: Moment) -> Claims:
        """Move the most urgent rows to RUNNING."""
        if claim.holder not in self._rest.holders:
            return Claims((), suspects=False, next_due=None)
        rooms = {queue: room for queue, room in claim.queues.items() if queue not in self._rest.paused}
        self._cancel_waiting([row for row in self._rows.expiring() if row.has_expired(now)], now)
        for row in self._rows.waiting(Gate.LATER, rooms):
            if row.is_due(now):
                self._rows.put(row.standing_as(gate=Gate.READY))
        claimed = (self._claim_alone if claim.alone else self._claim_ready)(rooms, claim, now)
        return Claims(
            tuple(row.claimed() for row in claimed),
            suspects=any(self._rows.waiting(Gate.ALONE, rooms)),
            next_due=min((row.due_in(now) for row in self._rows.waiting(Gate.LATER, rooms)), default=None),
        )

    def end(self, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        """Record how runs ended."""
        return [self._end(ending, now) for ending in endings]

    def _end(self, ending: Ending, now: Moment) -> TaskState | None:
        row = self._run(ending.id, ending.token)
        if row is None:
            self._rest.counters["fenced"] += 1
            return None
        state = self._end_run(row, ending, now).state
        if state is TaskState.COMPLETED:
            for job in ending.follow_ups:
                self._enqueue_unless_queued(job, now)
        return state

    def report(self, job_id: int, token: int, progress: str) -> bool:
        """Record progress."""
        row = self._run(job_id, token)
        if row is not None:
            self._rows.put(row.changed(progress=progress))
        return row is not None

    def cancels_asked(self, holders: Iterable[int]) -> list[tuple[int, int]]:
        """Return what is to be stopped."""
        asked = set(holders)
        rows = [row for row in self._rows.running() if row.holder in asked]
        return [(row.id, row.token) for row in rows if row.standing.cancel_requested]

    # -- from outside

    def cancel(self, job_id: int, now: Moment) -> Cancelled:
        """Cancel a PENDING row, mark a RUNNING one."""
        row = self._rows.get(job_id)
        if row is None:
            return Cancelled.UNKNOWN
        if row.state is TaskState.RUNNING:
            self._rows.put(row.standing_as(cancel_requested=True))
            return Cancelled.ASKED
        if row.state is TaskState.PENDING:
            self._cancel_waiting([row], now)
            return Cancelled.NOW
        return Cancelled.TOO_LATE

    def requeue(self, job_id: int, now: Moment) -> bool:
        """Have a job that has ended run again."""
        row = self._rows.get(job_id)
        if row is None or row.state not in TERMINAL:
            return False
        anew = row.standing_as(state=TaskState.PENDING, gate=Gate.READY, attempt=0, crashes=0).held_by_nobody()
        self._rows.put(anew.changed(token=row.token + 1, result=None, progress=None, completed_at=None))
        return True

    def prune(self, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
        """Delete rows that ended long ago."""
        ended = [
            (states.index(row.state), row.completed_at, row.id)
            for row in self._rows.all()
            if row.state in states and row.completed_at is not None and row.completed_at < completed_before
        ]
        pruned = sorted(ended)[:limit]
        for _, _, job_id in pruned:
            self._rows.remove(job_id)
        return len(pruned)

    def pause(self, queue: str, paused: bool) -> None:
        """Have a queue wait, or go on."""
        (self._rest.paused.add if paused else self._rest.paused.discard)(queue)

    # -- periods

    def tick(self, schedule: str, at: float, job: NewJob | None, now: Moment) -> int | None:
        """Enqueue the job of one period."""
        last = self._rest.ticks.get(schedule)
        if last is not None and at <= last <= now.wall + WRONG_CLOCK_SECONDS:
            return None
        self._rest.ticks[schedule] = at
        return None if job is None else self._enqueue_unless_queued(job, now)

    def last_tick(self, schedule: str) -> float | None:
        """Return the last period that was ticked."""
        return self._rest.ticks.get(schedule)

    # -- looks

    def find(self, wanted: Filter) -> list[JobInfo]:
        """Return rows."""
        rows = [row for row in self._rows.all(wanted.ids) if row.is_wanted(wanted)]
        if not wanted.oldest_first:
            rows.reverse()
        return [row.info(self._rest.holders.get(row.holder or 0)) for row in rows[: wanted.limit]]

    def failures(self, job_id: int) -> list[Failure]:
        """Return a job's history."""
        row = self._rows.get(job_id)
        return [] if row is None else list(row.failures)

    def states(self, job_ids: Sequence[int]) -> dict[int, TaskState]:
        """Return the states of jobs."""
        return {row.id: row.state for row in map(self._rows.get, job_ids) if row is not None}

    def statistics(self, now: Moment) -> Statistics:
        """Count everything."""
        queues = self._rest.count(self._rows.all(), now)
        return Statistics(queues=queues, holders=tuple(self._holders()), counters=dict(self._rest.counters))
