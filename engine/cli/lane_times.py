"""How long the tasks of each lane ran and waited."""

from collections.abc import Iterable
from dataclasses import dataclass

from engine import Lane, TaskInfo, TaskState

__all__ = ["LaneTime", "LaneTimes"]


@dataclass(slots=True)
class LaneTime:
    """Sums over the finished tasks of one lane."""

    tasks: int = 0
    failed: int = 0  #: of these, those that failed or were cancelled
    run_seconds: float = 0.0  #: between start and end
    wait_seconds: float = 0.0  #: between submit and start

    def add(self, info: TaskInfo) -> None:
        """Count one finished task."""
        assert info.completed_at is not None
        self.tasks += 1
        self.failed += info.state is not TaskState.COMPLETED
        if info.started_at is None:
            self.wait_seconds += info.completed_at - info.created_at
        else:
            self.wait_seconds += info.started_at - info.created_at
            self.run_seconds += info.completed_at - info.started_at


class LaneTimes:
    """Sums up what ``engine.tasks()`` remembers, which is the last ``history`` tasks: so it has to look in time.

    ``absorb`` may be shown the same task again and counts it once, provided no look in between left it out.
    """

    def __init__(self) -> None:
        self.lanes = {lane: LaneTime() for lane in (Lane.THREAD, Lane.PROCESS, Lane.LOOP)}
        self._seen: set[int] = set()

    def absorb(self, infos: Iterable[TaskInfo]) -> None:
        """Count the finished tasks among ``infos`` that were not there the last time."""
        seen = set()
        for info in infos:
            if info.completed_at is None:
                continue
            seen.add(info.id)
            if info.id not in self._seen:
                self.lanes[info.lane].add(info)
        self._seen = seen
