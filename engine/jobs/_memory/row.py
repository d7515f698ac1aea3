"""One job in memory, as it stands at one instant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine import TaskState

from .._moment import Moment
from .._moves import FAILURES_KEPT, Standing
from .._records import Claimed, Failure, Filter, Gate, HolderInfo, JobInfo, NewJob

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """What was enqueued, and how it stands."""

    id: int
    new: NewJob
    created_at: float
    standing: Standing
    token: int = 0
    due_steady: float | None = None
    due_wall: float | None = None
    expires_steady: float | None = None
    holder: int | None = None
    started_at: float | None = None
    completed_at: float | None = None
    result: str | None = None
    progress: str | None = None
    failures: tuple[Failure, ...] = ()

    @classmethod
    def of(cls, job_id: int, new: NewJob, now: Moment) -> Row:
        """Make the row of a job that is enqueued at ``now``."""
        row = cls(
            job_id, new, now.wall,
            Standing(TaskState.PENDING, Gate.LATER, 0, 0, new.max_crashes, False, False, False),
            due_steady=now.steady + new.delay if new.delay else None,
            due_wall=new.at,
            expires_steady=None if new.expires_in is None else now.steady + new.expires_in,
        )  # fmt: skip
        return row.standing_as(gate=Gate.READY) if row.is_due(now) else row

    @property
    def state(self) -> TaskState:
        """Say how it stands."""
        return self.standing.state

    @property
    def gate(self) -> Gate | None:
        """Say what it waits for."""
        return self.standing.gate

    @property
    def order(self) -> tuple[int, int]:
        """Give the key by which claims sort."""
        return (-self.new.priority, self.id)

    @property
    def waits_for_its_first_claim(self) -> bool:
        """Say whether its queueing lock and its expiry count."""
        return self.state is TaskState.PENDING and not self.token

    def changed(self, **changes: Any) -> Row:
        """Return it with other values."""
        return replace(self, **changes)

    def standing_as(self, **changes: Any) -> Row:
        """Return it as it stands then."""
        return replace(self, standing=replace(self.standing, **changes))

    def held_by_nobody(self, due_steady: float | None = None) -> Row:
        """Return it without a holder; what it waited for before its run is over."""
        return replace(self, holder=None, due_wall=None, due_steady=due_steady)

    def having_failed(self, failure: Failure | None) -> Row:
        """Return it with one more in its history."""
        if failure is None:
            return self
        return replace(self, failures=(*self.failures, failure)[-FAILURES_KEPT:])

    def is_due(self, now: Moment) -> bool:
        """Say whether the time has come from which it may run."""
        steady, wall = self.due_steady, self.due_wall
        return (steady is None or steady <= now.steady) and (wall is None or wall <= now.wall)

    def due_in(self, now: Moment) -> float:
        """Return the seconds until then."""
        steady = 0.0 if self.due_steady is None else self.due_steady - now.steady
        wall = 0.0 if self.due_wall is None else self.due_wall - now.wall
        return max(steady, wall)

    @property
    def due_at(self) -> float | None:
        """Return what people are told of it."""
        if self.gate is not Gate.LATER:
            return None
        return self.due_steady if self.due_wall is None else self.due_wall

    def has_expired(self, now: Moment) -> bool:
        """Say of a row that waits for its first claim whether the time for that is over."""
        steady, wall = self.expires_steady, self.new.expires_at
        return (steady is not None and steady <= now.steady) or (wall is not None and wall <= now.wall)

    def is_wanted(self, wanted: Filter) -> bool:
        """Say whether ``wanted`` describes it, but for its bound."""
        is_on_page = wanted.below is None or (self.id > wanted.below if wanted.oldest_first else self.id < wanted.below)
        return (
            is_on_page
            and (not wanted.ids or self.id in wanted.ids)
            and (not wanted.states or self.state in wanted.states)
            and (not wanted.queues or self.new.queue in wanted.queues)
            and (not wanted.names or self.new.name in wanted.names)
            and (wanted.parent is None or self.new.parent == wanted.parent)
        )

    def claimed(self) -> Claimed:
        """Return what its claimer gets."""
        new, standing = self.new, self.standing
        return Claimed(
            self.id, self.token, new.queue, new.name, new.args, standing.attempt, new.priority, standing.crashes,
            self.created_at, new.lock, standing.alone, new.max_crashes, new.then,
        )  # fmt: skip

    def info(self, holder: HolderInfo | None) -> JobInfo:
        """Return how it looks from outside; ``holder`` has it."""
        new, standing = self.new, self.standing
        return JobInfo(
            id=self.id, queue=new.queue, name=new.name, args=new.args, state=standing.state, gate=standing.gate,
            attempt=standing.attempt, token=self.token, crashes=standing.crashes, suspect=standing.suspect,
            cancel_requested=standing.cancel_requested, priority=new.priority, max_crashes=new.max_crashes,
            lock=new.lock, queueing_lock=new.queueing_lock, created_at=self.created_at,
            due_at=self.due_at,
            started_at=self.started_at, completed_at=self.completed_at,
            expires_at=self.expires_steady if new.expires_at is None else new.expires_at,
            holder=holder.name if holder else None, lease_until=holder.lease_until if holder else None,
            result=self.result, progress=self.progress, parent=new.parent, schedule=new.schedule,
            error=self.failures[-1].error if self.failures else None,
        )  # fmt: skip
