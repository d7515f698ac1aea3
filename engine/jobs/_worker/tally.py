"""What a worker has claimed, and what became of it, in numbers."""

from collections import defaultdict

from engine import TaskState

from .._records import End, Ending

__all__ = ["Tally"]

#: How an ending counts that was not the end of its job.
_COUNTED_AS = {End.RETRY: "retried", End.CRASH: "retried", End.SNOOZE: "snoozed", End.GIVE_BACK: "given_back"}


class Tally:
    """Counts by the names that ``WorkerStatistics`` has for them. Home loop only."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, int] = defaultdict(int)

    def claimed(self) -> None:
        """Count a job."""
        self.counts["claimed"] += 1

    def recorded(self, ending: Ending, what: TaskState | Exception | None) -> None:
        """Count the end of a run: ``what`` is the state of its row, None if fenced, or why it could not be recorded."""
        if what is TaskState.COMPLETED:
            self.counts["completed"] += 1
        elif isinstance(what, Exception):
            self.counts["unrecorded"] += 1
        elif what is None:
            self.counts["fenced"] += 1
        elif what is TaskState.PENDING:
            self.counts["retried" if ending.failure is not None else _COUNTED_AS[ending.end]] += 1
        else:
            self.counts[what.value] += 1
