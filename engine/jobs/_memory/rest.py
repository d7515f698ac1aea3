"""What a book in memory has besides jobs: holders, periods, queues that are paused, counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from engine import TaskState

from .._moment import Moment
from .._records import Gate, HolderInfo, NewHolder, QueueStatistics
from .row import Row

__all__ = ["Rest"]


@dataclass(slots=True)
class Rest:
    """All of it; it is little, so that it can be copied before each operation."""

    holders: dict[int, HolderInfo] = field(default_factory=dict)
    ticks: dict[str, float] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    counters: dict[str, int] = field(default_factory=lambda: {"fenced": 0, "rescued": 0, "lost_holders": 0})
    last_id: int = 0
    last_holder: int = 0

    def copy(self) -> Rest:
        """Return another one with the same."""
        return Rest(
            self.holders.copy(), self.ticks.copy(), self.paused.copy(), self.counters.copy(), self.last_id,
            self.last_holder,
        )  # fmt: skip

    def hold(self, holder: NewHolder, now: Moment) -> int:
        """Add a holder."""
        self.last_holder += 1
        self.holders[self.last_holder] = HolderInfo(
            id=self.last_holder, name=holder.name, pid=holder.pid, pid_started=holder.pid_started,
            namespace=holder.namespace, boot=now.boot, lease=holder.lease, lease_until=now.steady + holder.lease,
            started_at=now.wall,
        )  # fmt: skip
        return self.last_holder

    def renew(self, holder: int, now: Moment) -> bool:
        """Renew a lease; False if there is none."""
        info = self.holders.get(holder)
        if info is not None:
            self.holders[holder] = replace(info, lease_until=now.steady + info.lease, boot=now.boot)
        return info is not None

    def count(self, rows: Iterable[Row], now: Moment) -> tuple[QueueStatistics, ...]:
        """Count ``rows`` queue by queue."""
        queues: dict[str, list[Row]] = {queue: [] for queue in self.paused}
        for row in rows:
            queues.setdefault(row.new.queue, []).append(row)
        return tuple(self._count(queue, queues[queue], now) for queue in sorted(queues))

    def _count(self, queue: str, rows: list[Row], now: Moment) -> QueueStatistics:
        gates = Counter(row.gate for row in rows)
        states = Counter(row.state for row in rows)
        oldest = next((row for row in rows if row.gate is Gate.READY), None)
        return QueueStatistics(
            queue=queue, paused=queue in self.paused, ready=gates[Gate.READY], later=gates[Gate.LATER],
            locked=gates[Gate.LOCKED], suspects=gates[Gate.ALONE], running=states[TaskState.RUNNING],
            completed=states[TaskState.COMPLETED], failed=states[TaskState.FAILED],
            cancelled=states[TaskState.CANCELLED],
            oldest_ready=max(0.0, now.wall - oldest.created_at) if oldest else None,
        )  # fmt: skip
