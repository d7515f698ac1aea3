"""The verbs of a queue. One contract, two books: ``MemoryBook``, which is the model, and ``SQLiteBook``.

Every verb is one state change of design/0014. It either raises and has changed nothing, or has done all that it says;
it never waits and never reads a clock. Whoever calls it holds the book: a lock, or the transaction of a writer thread.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from engine import TaskState

from ._moment import Moment
from ._records import (
    Cancelled,
    Claim,
    Claims,
    Ending,
    Failure,
    Filter,
    HolderInfo,
    JobInfo,
    NewHolder,
    NewJob,
    Rescued,
    Statistics,
)

__all__ = ["Book"]


class Book(Protocol):
    """Rows of jobs, holders, schedules and queues."""

    # -- into the queue

    def enqueue(self, jobs: Sequence[NewJob], now: Moment) -> list[int]:
        """Add PENDING rows; return their ids, ascending in the order of ``jobs``.

        Raises:
            AlreadyEnqueued: a ``queueing_lock`` is taken; none of ``jobs`` is added.
        """

    def enqueue_many(self, like: NewJob, args: Sequence[str], now: Moment) -> range:
        """Add a row like ``like`` for each of ``args``; return their ids. ``like`` has no queueing lock."""

    # -- holders and their leases

    def hold(self, holder: NewHolder, now: Moment) -> int:
        """Add a holder with a fresh lease; return its id, which was never used before."""

    def renew(self, holders: Iterable[int], now: Moment) -> set[int]:
        """Renew the leases of ``holders``; return those that are not there any more: they have lost all they held.

        A lease that is over, and that nobody has noticed, is renewed.
        """

    def let_go(self, holder: int, now: Moment) -> int:
        """Forget a holder and give back what it still holds, as End.GIVE_BACK does; return how many jobs that were."""

    def rescue(self, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
        """Take everything from the holders whose lease is over, of another boot, or of which ``is_dead`` is true.

        Their jobs become suspects, PENDING and ALONE, with their attempt given back and a Failure of kind "lost";
        those that ran alone and have reached ``max_crashes`` are FAILED, those whose cancel was asked
        CANCELLED. The holders are forgotten.
        """

    # -- running

    def claim(self, claim: Claim, now: Moment) -> Claims:
        """Open what is due, cancel what has expired, then move the most urgent READY rows to RUNNING.

        Order: priority, highest first, then id; queues compete by the same order, each within its own room. Paused
        queues give nothing. A row whose lock is held, by a RUNNING row or by one claimed just now, becomes LOCKED. A
        holder that does not exist (any more) gets nothing.
        """

    def end(self, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        """Record how runs ended; return the state of each row then, None where the token was not the row's: fenced.

        An ending that is fenced changes nothing but the counter. Where a cancel was asked, all but COMPLETED gives
        CANCELLED. COMPLETED enqueues the follow-ups. CRASH at ``max_crashes`` gives FAILED. What ran alone and ends
        is no suspect any more, and the crash that was counted before the run is taken back (CRASH counts it again).
        """

    def report(self, job_id: int, token: int, progress: str) -> bool:
        """Record the progress of a run; False where it is fenced."""

    def cancels_asked(self, holders: Iterable[int]) -> list[tuple[int, int]]:
        """Return (id, token) of the RUNNING rows of ``holders`` whose cancel was asked."""

    # -- from outside

    def cancel(self, job_id: int, now: Moment) -> Cancelled:
        """Cancel a PENDING row; mark a RUNNING one."""

    def requeue(self, job_id: int, now: Moment) -> bool:
        """Make a terminal row PENDING and READY, with attempt and crashes 0; False if it is not terminal or not there.

        Its token goes on, its result goes, its history stays.
        """

    def prune(self, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
        """Delete at most ``limit`` terminal rows that ended before the wall's ``completed_before``; return how many."""

    def pause(self, queue: str, paused: bool) -> None:
        """Have claims give nothing from ``queue``, or give again."""

    # -- periods

    def tick(self, schedule: str, at: float, job: NewJob | None, now: Moment) -> int | None:
        """Enqueue ``job`` for the period ``at`` (wall) unless that or a later one was ticked before; return its id.

        Without a job it only notes ``at``. A queueing lock that is taken counts as ticked, and gives None. A noted
        period that lies more than a day after ``now.wall`` comes from a clock that was wrong, and is forgotten.
        """

    def last_tick(self, schedule: str) -> float | None:
        """Return the last period that was ticked."""

    # -- looks

    def find(self, wanted: Filter) -> list[JobInfo]:
        """Return the rows that ``wanted`` describes."""

    def failures(self, job_id: int) -> list[Failure]:
        """Return why runs of a job did not complete, oldest first; the last 100 are kept."""

    def states(self, job_ids: Sequence[int]) -> dict[int, TaskState]:
        """Return the states of those of ``job_ids`` that are there."""

    def statistics(self, now: Moment) -> Statistics:
        """Count everything."""
