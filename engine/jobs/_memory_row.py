"""One job in memory."""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from engine import TaskState

from ._moment import Moment
from ._moves import FAILURES_KEPT, Standing
from ._records import Claimed, Failure, Filter, Gate, HolderInfo, JobInfo, NewJob

__all__ = ["Row"]


@dataclass(slots=True)
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
    failures: deque[Failure] = field(default_factory=lambda: deque(maxlen=FAILURES_KEPT))

    @classmethod
    def of(cls, job_id: int, new: NewJob, now: Moment) -> "Row":
        """Make the row of a job that is enqueued at ``now``."""
        row = cls(job_id, new, now.wall, Standing(TaskState.PENDING, None, 0, 0, new.max_crashes, False, False, False))
        row.due_steady = now.steady + new.delay if new.delay else None
        row.due_wall = new.at
        row.expires_steady = now.steady + new.expires_in if new.expires_in is not None else None
        row.set(gate=Gate.READY if row.is_due(now) else Gate.LATER)
        return row

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

    def set(self, **changes: Any) -> None:
        """Change how it stands."""
        self.standing = replace(self.standing, **changes)

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
        """Say whether the time is over in which it could have been claimed for the first time."""
        if self.state is not TaskState.PENDING or self.token:
            return False
        steady, wall = self.expires_steady, self.new.expires_at
        return (steady is not None and steady <= now.steady) or (wall is not None and wall <= now.wall)

    def wait(self, due_steady: float | None = None) -> None:
        """Be held by nobody; what it waited for before its run is over."""
        self.holder = self.due_wall = None
        self.due_steady = due_steady

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
