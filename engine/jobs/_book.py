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
    """Rows of jobs, holders, schedules and queues.

    When a row with a lock leaves RUNNING, or is cancelled or expires while it is READY or ALONE, and nobody holds the
    lock then, the best LOCKED row of that lock *in each queue* is opened: one queue's pause is not another's. (Of many
    that expire at once, all are cancelled first, and each lock opens once.) An id that cannot be one is that of a job
    that is not there.
    """

    # -- into the queue

    def enqueue(self, jobs: Sequence[NewJob], now: Moment) -> list[int]:
        """Add PENDING rows; return their ids, ascending in the order of ``jobs``.

        They are READY, or LATER where ``delay`` or ``at`` is ahead. A row that has expired does not hold its queueing
        lock any more: it is cancelled for the new one.

        Raises:
            AlreadyEnqueued: a ``queueing_lock`` is taken (``job_id`` is None if by another of ``jobs``); none is added.
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
        """Forget a holder and give back what it still holds, as End.GIVE_BACK does; return how many jobs that were.

        A holder that is not there (any more) gives 0.
        """

    def rescue(self, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
        """Take everything from the holders whose lease is over, of another boot, or of which ``is_dead`` is true.

        Their jobs become suspects, PENDING and ALONE, with their attempt given back and a Failure of kind "lost";
        those that ran alone and have reached ``max_crashes`` are FAILED, those whose cancel was asked
        CANCELLED. The holders are forgotten. The answer is in the order of ids; a lease is over at ``lease_until``.
        """

    # -- running

    def claim(self, claim: Claim, now: Moment) -> Claims:
        """Cancel what has expired in any queue; open what is due in these; move the most urgent READY rows to RUNNING.

        Order: priority, highest first, then id; queues compete by the same order, each within its own room. Rows are
        met in that order until ``limit`` are claimed; those of a queue without room (left) are not met. One that is
        passed over stays READY; after ``look_ahead`` of those no more of its queue are met. One whose lock is held, by
        a RUNNING row or by one claimed just now, becomes LOCKED.

        ``alone`` meets ALONE rows instead, whatever their names, and claims one. Paused queues are as if not asked
        for, in all parts of the answer. A holder that does not exist (any more) gets ``Claims((), False, None)``, and
        changes nothing. A book may cancel, open and lock a bounded number of rows a claim, and answers ``next_due`` 0
        when there is more; else all that was due is open.
        """

    def end(self, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        """Record how runs ended; return the state of each row then, None where the token was not the row's: fenced.

        An ending that is fenced changes nothing but the counter. Where a cancel was asked, all but COMPLETED gives
        CANCELLED. COMPLETED enqueues the follow-ups, but those whose queueing lock is taken. CRASH at ``max_crashes``
        gives FAILED. What ran alone and ends is no suspect any more, and the crash that was counted before the run is
        taken back (CRASH counts it again).
        """

    def report(self, job_id: int, token: int, progress: str) -> bool:
        """Record the progress of a run; False where it is fenced."""

    def cancels_asked(self, holders: Iterable[int]) -> list[tuple[int, int]]:
        """Return (id, token) of the RUNNING rows of ``holders`` whose cancel was asked, in the order of ids."""

    # -- from outside

    def cancel(self, job_id: int, now: Moment) -> Cancelled:
        """Cancel a PENDING row; mark a RUNNING one."""

    def requeue(self, job_id: int, now: Moment) -> bool:
        """Make a terminal row PENDING and READY, with attempt and crashes 0; False if it is not terminal or not there.

        Its token goes up by one: so a queueing lock cannot keep it out, nor has it expired. Its result and progress go,
        its history stays.
        """

    def prune(self, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
        """Delete at most ``limit`` terminal rows that ended before the wall's ``completed_before``; return how many.

        One state after the other, as ``states`` says; of each those that ended first, by id where they ended together.
        """

    def pause(self, queue: str, paused: bool) -> None:
        """Have claims give nothing from ``queue``, or give again (and forget it, where it has no rows)."""

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
        """Count everything: queues that have rows or are paused, by name; holders by id; every counter, also at 0."""
