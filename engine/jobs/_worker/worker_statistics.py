"""What a worker has done so far."""

from dataclasses import dataclass

__all__ = ["WorkerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """Counts since the worker started; ends are counted once they are recorded."""

    claimed: int = 0
    completed: int = 0
    failed: int = 0  #: for good
    cancelled: int = 0
    retried: int = 0  #: attempts that failed, with another to come; crashes and unknown names too
    snoozed: int = 0
    given_back: int = 0
    fenced: int = 0  #: runs that had lost their claim: nothing of them was recorded
    unrecorded: int = 0  #: ends that the store has not taken, or not yet
    claims: int = 0  #: times that the store was asked for jobs
    lost_leases: int = 0
    running: int = 0  #: now
    queues: dict[str, int]  #: of those, per queue
