"""The book in a file of SQLite: a connection, and the statements behind each verb.

Guarantees
    Shared: nothing. A book belongs to whoever has its connection, and is called inside a transaction that they began
    with IMMEDIATE (a look: with any). It begins none, ends none, and keeps nothing but the connection.
    A verb that raises has changed nothing: those of more than one statement that may raise do it in a savepoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from engine import TaskState

from .._book import Book
from .._moment import Moment
from .._records import (
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
from . import cancelling as _cancelling
from . import claiming as _claiming
from . import ending as _ending
from . import enqueueing as _enqueueing
from . import holders as _holders
from . import looks as _looks
from . import periods as _periods
from . import upkeep as _upkeep

if TYPE_CHECKING:
    import apsw

__all__ = ["SQLiteBook"]

_ENABLE_QPSG = 1007  #: ``apsw.SQLITE_DBCONFIG_ENABLE_QPSG``; this module does without importing apsw

P = ParamSpec("P")
T = TypeVar("T")


class SQLiteBook(Book):
    """The verbs of a queue, on one connection; what each promises is said in ``Book``."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        # Plans depend on the statements alone. Else SQLite makes one anew whenever other values are bound, which costs
        # ten times what the looks of a claim do.
        connection.config(_ENABLE_QPSG, 1)
        self._connection = connection

    def _wholly(self, verb: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``verb`` in a savepoint: what it did is undone if it raises."""
        connection = self._connection
        connection.execute("SAVEPOINT verb")
        try:
            outcome = verb(connection, *args, **kwargs)
            connection.execute("RELEASE verb")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls all of it back where a file is full, for one
                connection.execute("ROLLBACK TO verb")
                connection.execute("RELEASE verb")
            raise
        return outcome

    # -- into the queue

    def enqueue(self, jobs: Sequence[NewJob], now: Moment) -> list[int]:
        if len(jobs) == 1 and jobs[0].queueing_lock is None:  # one statement: it is done or it is not
            return _enqueueing.insert(self._connection, jobs, now)
        return self._wholly(_enqueueing.insert, jobs, now)

    def enqueue_many(self, like: NewJob, args: Sequence[str], now: Moment) -> range:
        return self._wholly(_enqueueing.insert_many, like, args, now)

    # -- holders and their leases

    def hold(self, holder: NewHolder, now: Moment) -> int:
        return _holders.add(self._connection, holder, now)

    def renew(self, holders: Iterable[int], now: Moment) -> set[int]:
        return self._wholly(_holders.renew, holders, now)

    def let_go(self, holder: int, now: Moment) -> int:
        return self._wholly(_ending.give_back, holder, now)

    def rescue(self, now: Moment, is_dead: Callable[[HolderInfo], bool]) -> list[Rescued]:
        return self._wholly(_ending.rescue, now, is_dead)

    # -- running

    def claim(self, claim: Claim, now: Moment) -> Claims:
        return self._wholly(_claiming.claim, claim, now)

    def end(self, endings: Sequence[Ending], now: Moment) -> list[TaskState | None]:
        return self._wholly(_ending.end, endings, now)

    def report(self, job_id: int, token: int, progress: str) -> bool:
        return _upkeep.report(self._connection, job_id, token, progress)

    def cancels_asked(self, holders: Iterable[int]) -> list[tuple[int, int]]:
        return _holders.cancels_asked(self._connection, holders)

    # -- from outside

    def cancel(self, job_id: int, now: Moment) -> Cancelled:
        return self._wholly(_cancelling.cancel, job_id, now)

    def requeue(self, job_id: int, now: Moment) -> bool:
        return _upkeep.requeue(self._connection, job_id)

    def prune(self, states: Sequence[TaskState], completed_before: float, limit: int) -> int:
        return self._wholly(_upkeep.prune, states, completed_before, limit)

    def pause(self, queue: str, paused: bool) -> None:
        _upkeep.pause(self._connection, queue, paused)

    # -- periods

    def tick(self, schedule: str, at: float, job: NewJob | None, now: Moment) -> int | None:
        return self._wholly(_periods.tick, schedule, at, job, now)

    def last_tick(self, schedule: str) -> float | None:
        return _periods.last_tick(self._connection, schedule)

    # -- looks

    def find(self, wanted: Filter) -> list[JobInfo]:
        return _looks.find(self._connection, wanted)

    def failures(self, job_id: int) -> list[Failure]:
        return _looks.failures(self._connection, job_id)

    def states(self, job_ids: Sequence[int]) -> dict[int, TaskState]:
        return _looks.states(self._connection, job_ids)

    def statistics(self, now: Moment) -> Statistics:
        return _looks.statistics(self._connection, now)
