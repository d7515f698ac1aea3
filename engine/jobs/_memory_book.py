"""The book in memory: the model of what every other book does, and the store of users' own tests."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from engine import TaskState

from ._memory_row import Row
from ._moment import Moment
from ._moves import TERMINAL, WRONG_CLOCK_SECONDS, Standing, after_end, after_rescue, before_run, lost
from ._records import (
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
    QueueStatistics,
    Rescued,
    Statistics,
)
from .errors import AlreadyEnqueued

__all__ = ["MemoryBook"]


class MemoryBook:
    """Keeps the contract of ``Book`` over dicts. What it takes and gives is immutable, or a copy.

    It belongs to whoever holds it, one thread at a time.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}  # in the order of their ids
        self._pending: dict[int, Row] = {}  # those of _rows that are PENDING
        self._running: dict[int, Row] = {}  # ... RUNNING
        self._locks: dict[str, int] = {}  # lock -> the RUNNING row that has it
        self._holders: dict[int, HolderInfo] = {}
        self._ticks: dict[str, float] = {}
        self._paused: set[str] = set()
        self._counters = {"fenced": 0, "rescued": 0, "lost_holders": 0}
        self._last_id = self._last_holder = 0
        self.changes = 0  #: grows with whatever is changed, leases apart

    # -- into the queue

    def enqueue(self, jobs: Sequence[NewJob], now: Moment) -> list[int]:
        """Add rows, or none of them."""
        expired = self._make_way(jobs, now)
        self._cancel_pending(expired, now)
        return [self._add(job, now) for job in jobs]

    def enqueue_many(self, like: NewJob, args: Sequence[str], now: Moment) -> range:
        """Add rows that differ in their arguments."""
        first = self._last_id + 1
        for each in args:
            self._add(replace(like, args=each), now)
        return range(first, self._last_id + 1)

    def _make_way(self, jobs: Sequence[NewJob], now: Moment) -> list[Row]:
        """Return the expired rows that have the queueing locks of ``jobs``; raise if others have them."""
        expired: list[Row] = []
        seen: set[str] = set()
        for lock in (job.queueing_lock for job in jobs if job.queueing_lock is not None):
            row = self._waiting_with(lock)
            if lock in seen or (row is not None and not row.has_expired(now)):
                taken = None if lock in seen or row is None else row.id
                raise AlreadyEnqueued(
                    f"expected queueing_lock to be free, got {lock!r}, with which "
                    + ("another job of this call waits" if taken is None else f"job {taken} waits"),
                    queueing_lock=lock, job_id=taken,
                )  # fmt: skip
            seen.add(lock)
            expired += [row] if row is not None else []
        return expired

    def _waiting_with(self, queueing_lock: str) -> Row | None:
        rows = (r for r in self._pending.values() if r.new.queueing_lock == queueing_lock and not r.token)
        return next(rows, None)

    def _add(self, job: NewJob, now: Moment) -> int:
        self.changes += 1
        self._last_id += 1
        row = Row.of(self._last_id, job, now)
        self._rows[row.id] = self._pending[row.id] = row
        return row.id

    # -- holders and their leases

    def hold(self, holder: NewHolder, now: Moment) -> int:
        """Add a holder."""
        self.changes += 1
        self._last_holder += 1
        self._holders[self._last_holder] = HolderInfo(
            id=self._last_holder, name=holder.name, pid=holder.pid, pid_started=holder.pid_started,
            namespace=holder.namespace, boot=now.boot, lease=holder.lease, lease_until=now.steady + holder.lease,
            started_at=now.wall,
        )  # fmt: skip
        return self._last_holder

    def renew(self, holders: Iterable[int], now: Moment) -> set[int]:
        """Renew leases; return who has none."""
        asked = set(holders)
        for each in asked & self._holders.keys():
            info = self._holders[each]
            self._holders[each] = replace(info, lease_until=now.steady + info.lease, boot=now.boot)
        return asked - self._holders.keys()

    def let_go(self, holder: int, now: Moment) -> int:
        """Give back all that ``holder`` has."""
        rows = self._held_by(holder)
        for row in rows:
            self._end_run(row, Ending(row.id, row.token, End.GIVE_BACK), now)
        self.changes += holder in self._holders
        self._holders.pop(holder, None)
        return len(rows)

    def rescue(self, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
        """Take everything from holders that are lost."""
        lost_holders = [info for info in self._all_holders() if _is_over(info, now) or is_dead(info)]
        rescued = [self._rescue(row, info, now) for info in lost_holders for row in self._held_by(info.id)]
        rescued.sort(key=lambda job: job.id)
        for info in lost_holders:
            del self._holders[info.id]
        self.changes += len(lost_holders)
        self._counters["lost_holders"] += len(lost_holders)
        self._counters["rescued"] += len(rescued)
        return rescued

    def _rescue(self, row: Row, holder: HolderInfo, now: Moment) -> Rescued:
        row.failures.append(lost(row.standing.attempt, row.token, holder.name, now))
        row.wait()
        self._leave(row, after_rescue(row.standing), now)
        return Rescued(row.id, row.new.name, holder.name, row.state, row.standing.crashes)

    def _held_by(self, holder: int) -> list[Row]:
        return sorted((r for r in self._running.values() if r.holder == holder), key=lambda row: row.id)

    def _all_holders(self) -> list[HolderInfo]:
        return [replace(info, running=len(self._held_by(info.id))) for info in self._holders.values()]

    # -- running

    def claim(self, claim: Claim, now: Moment) -> Claims:
        """Move the most urgent rows to RUNNING."""
        if claim.holder not in self._holders:
            return Claims((), suspects=False, next_due=None)
        rooms = {queue: room for queue, room in claim.queues.items() if queue not in self._paused}
        self._cancel_pending([row for row in self._pending.values() if row.has_expired(now)], now)
        for row in self._waiting(Gate.LATER, rooms):
            if row.is_due(now):
                self._set(row, gate=Gate.READY)
        claimed = (self._claim_alone if claim.alone else self._claim_ready)(rooms, claim, now)
        return Claims(
            tuple(row.claimed() for row in claimed),
            suspects=bool(self._waiting(Gate.ALONE, rooms)),
            next_due=min((row.due_in(now) for row in self._waiting(Gate.LATER, rooms)), default=None),
        )

    def _claim_ready(self, rooms: dict[str, int], claim: Claim, now: Moment) -> list[Row]:
        looks = dict.fromkeys(rooms, claim.look_ahead)
        claimed: list[Row] = []
        for row in self._waiting(Gate.READY, rooms):
            queue = row.new.queue
            if len(claimed) >= claim.limit:
                break
            if rooms[queue] <= 0 or looks[queue] <= 0:
                continue
            if row.new.name in claim.passed_over:
                looks[queue] -= 1
            elif row.new.lock in self._locks:
                self._set(row, gate=Gate.LOCKED)
            else:
                rooms[queue] -= 1
                claimed.append(self._start(row, claim, now))
        return claimed

    def _claim_alone(self, rooms: dict[str, int], claim: Claim, now: Moment) -> list[Row]:
        for row in self._waiting(Gate.ALONE, rooms):
            if row.new.lock not in self._locks:
                return [self._start(row, claim, now)]
            self._set(row, gate=Gate.LOCKED)
        return []

    def _set(self, row: Row, **changes: Any) -> None:
        self.changes += 1
        row.set(**changes)

    def _waiting(self, gate: Gate, queues: Iterable[str]) -> list[Row]:
        """Return the rows of ``queues`` that wait for ``gate``, the most urgent first."""
        wanted = set(queues)
        return sorted(
            (r for r in self._pending.values() if r.gate is gate and r.new.queue in wanted), key=lambda row: row.order
        )

    def _start(self, row: Row, claim: Claim, now: Moment) -> Row:
        self.changes += 1
        row.standing = before_run(row.standing, alone=claim.alone)
        row.token += 1
        row.holder, row.started_at = claim.holder, now.wall
        self._running[row.id] = self._pending.pop(row.id)
        if row.new.lock is not None:
            self._locks[row.new.lock] = row.id
        return row

    def end(self, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        """Record how runs ended."""
        return [self._end(ending, now) for ending in endings]

    def _end(self, ending: Ending, now: Moment) -> TaskState | None:
        row = self._running.get(ending.id)
        if row is None or row.token != ending.token:
            self.changes += 1
            self._counters["fenced"] += 1
            return None
        self._end_run(row, ending, now)
        if row.state is TaskState.COMPLETED:
            row.result = ending.result
            for job in ending.follow_ups:
                self._follow(job, now)
        return row.state

    def _end_run(self, row: Row, ending: Ending, now: Moment) -> None:
        if ending.failure is not None:
            row.failures.append(ending.failure)
        standing = after_end(row.standing, ending.end, delay=ending.delay)
        row.wait(now.steady + ending.delay if standing.gate is Gate.LATER else None)
        self._leave(row, standing, now)

    def _leave(self, row: Row, standing: Standing, now: Moment) -> None:
        """Let a row leave RUNNING, and the next with its lock have its turn."""
        self.changes += 1
        row.standing = standing
        del self._running[row.id]
        if row.state is TaskState.PENDING:
            self._pending[row.id] = row
        else:
            row.completed_at = now.wall
        if row.new.lock is not None:
            del self._locks[row.new.lock]
            self._open_waiters(row.new.lock)

    def _follow(self, job: NewJob, now: Moment) -> int | None:
        """Enqueue ``job`` unless one with its queueing lock waits already."""
        try:
            return self.enqueue([job], now)[0]
        except AlreadyEnqueued:
            return None

    def _open_waiters(self, lock: str | None) -> None:
        """Open the most urgent row of each queue that waits for ``lock``, if nobody has it.

        One of each queue, because a worker need not serve them all, and one of them may be paused.
        """
        if lock is None or lock in self._locks:
            return
        opened: set[str] = set()
        for row in sorted(self._pending.values(), key=lambda row: row.order):
            if row.new.lock == lock and row.gate is Gate.LOCKED and row.new.queue not in opened:
                opened.add(row.new.queue)
                self._set(row, gate=Gate.ALONE if row.standing.suspect else Gate.READY)

    def report(self, job_id: int, token: int, progress: str) -> bool:
        """Record progress."""
        row = self._running.get(job_id)
        if row is None or row.token != token:
            return False
        self.changes += 1
        row.progress = progress
        return True

    def cancels_asked(self, holders: Iterable[int]) -> list[tuple[int, int]]:
        """Return what is to be stopped."""
        asked = set(holders)
        rows = (r for r in self._running.values() if r.holder in asked and r.standing.cancel_requested)
        return sorted((row.id, row.token) for row in rows)

    # -- from outside

    def cancel(self, job_id: int, now: Moment) -> Cancelled:
        """Cancel a PENDING row, mark a RUNNING one."""
        row = self._rows.get(job_id)
        if row is None:
            return Cancelled.UNKNOWN
        if row.state is TaskState.RUNNING:
            self._set(row, cancel_requested=True)
            return Cancelled.ASKED
        if row.state is TaskState.PENDING:
            self._cancel_pending([row], now)
            return Cancelled.NOW
        return Cancelled.TOO_LATE

    def _cancel_pending(self, rows: Collection[Row], now: Moment) -> None:
        """End rows that wait; those that were to have their turn with a lock leave it to the next."""
        locks = {row.new.lock for row in rows if row.gate in (Gate.READY, Gate.ALONE)}
        for row in rows:
            del self._pending[row.id]
            self._set(row, state=TaskState.CANCELLED, gate=None, suspect=False)
            row.completed_at = now.wall
        for lock in locks:
            self._open_waiters(lock)

    def requeue(self, job_id: int, now: Moment) -> bool:
        """Have a job that has ended run again."""
        row = self._rows.get(job_id)
        if row is None or row.state not in TERMINAL:
            return False
        self._set(row, state=TaskState.PENDING, gate=Gate.READY, attempt=0, crashes=0)
        row.token += 1
        row.result = row.progress = row.completed_at = None
        row.wait()
        self._pending[row.id] = row
        return True

    def prune(self, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
        """Delete rows that ended long ago."""
        ended = [
            (states.index(row.state), row.completed_at, row.id)
            for row in self._rows.values()
            if row.state in states and row.completed_at is not None and row.completed_at < completed_before
        ]
        pruned = sorted(ended)[:limit]
        self.changes += len(pruned)
        for _, _, job_id in pruned:
            del self._rows[job_id]
        return len(pruned)

    def pause(self, queue: str, paused: bool) -> None:
        """Have a queue wait, or go on."""
        self.changes += paused != (queue in self._paused)
        (self._paused.add if paused else self._paused.discard)(queue)

    # -- periods

    def tick(self, schedule: str, at: float, job: NewJob | None, now: Moment) -> int | None:
        """Enqueue the job of one period."""
        last = self._ticks.get(schedule)
        if last is not None and at <= last <= now.wall + WRONG_CLOCK_SECONDS:
            return None
        self.changes += 1
        self._ticks[schedule] = at
        return None if job is None else self._follow(job, now)

    def last_tick(self, schedule: str) -> float | None:
        """Return the last period that was ticked."""
        return self._ticks.get(schedule)

    # -- looks

    def find(self, wanted: Filter) -> list[JobInfo]:
        """Return rows."""
        rows = [row for row in self._rows.values() if row.is_wanted(wanted)]
        if not wanted.oldest_first:
            rows.reverse()
        return [row.info(self._holders.get(row.holder or 0)) for row in rows[: wanted.limit]]

    def failures(self, job_id: int) -> list[Failure]:
        """Return a job's history."""
        row = self._rows.get(job_id)
        return [] if row is None else list(row.failures)

    def states(self, job_ids: Sequence[int]) -> dict[int, TaskState]:
        """Return the states of jobs."""
        return {each: self._rows[each].state for each in job_ids if each in self._rows}

    def statistics(self, now: Moment) -> Statistics:
        """Count everything."""
        queues = {row.new.queue for row in self._rows.values()} | self._paused
        return Statistics(
            queues=tuple(self._count(queue, now) for queue in sorted(queues)),
            holders=tuple(self._all_holders()),
            counters=dict(self._counters),
        )

    def _count(self, queue: str, now: Moment) -> QueueStatistics:
        rows = [row for row in self._rows.values() if row.new.queue == queue]
        gates = Counter(row.gate for row in rows)
        states = Counter(row.state for row in rows)
        oldest = next((row for row in rows if row.gate is Gate.READY), None)
        return QueueStatistics(
            queue=queue, paused=queue in self._paused, ready=gates[Gate.READY], later=gates[Gate.LATER],
            locked=gates[Gate.LOCKED], suspects=gates[Gate.ALONE], running=states[TaskState.RUNNING],
            completed=states[TaskState.COMPLETED], failed=states[TaskState.FAILED],
            cancelled=states[TaskState.CANCELLED],
            oldest_ready=max(0.0, now.wall - oldest.created_at) if oldest else None,
        )  # fmt: skip


def _is_over(holder: HolderInfo, now: Moment) -> bool:
    return holder.boot != now.boot or holder.lease_until <= now.steady
