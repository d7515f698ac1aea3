"""The books that every promise of a book is tried on, and a desk at which a test works with one.

A new book joins by a line in ``KITS``.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import apsw

from engine import TaskState
from engine.jobs._book import Book
from engine.jobs._memory.book import MemoryBook
from engine.jobs._moment import Moment
from engine.jobs._records import (
    Cancelled,
    Claim,
    Claimed,
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
)
from engine.jobs._sqlite.book import SQLiteBook
from engine.jobs._sqlite.schema import migrate

__all__ = ["HOUR", "KITS", "START", "YEAR", "Desk", "Kit", "Transaction", "failure_of", "new_job"]

T = TypeVar("T")

#: Runs one operation as the book's store would: in a transaction that is kept, also where the operation raises.
Transaction = Callable[[Callable[[Book], Any]], Any]
#: Opens a fresh book in a folder.
Kit = Callable[[Path], AbstractContextManager[Transaction]]

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
#: The clocks are far apart, so that whoever takes one for the other is wrong by years.
START = Moment(wall=1_800_000_000.0, steady=1_700_000_000.0, boot="first boot")


@contextlib.contextmanager
def memory(_: Path) -> Iterator[Transaction]:
    """Give a book in memory."""
    book = MemoryBook()

    def transaction(operation: Callable[[Book], Any]) -> Any:
        book.begin()
        return operation(book)

    yield transaction


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Transaction]:
    """Give a book in a file; each transaction is kept also where the operation raises, for it has changed nothing."""
    connection = apsw.Connection(str(folder / "jobs.db"))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "off")  # the machine does not go down here
    migrate(connection, "jobs.db")
    schema = connection.execute("SELECT * FROM sqlite_schema").fetchall()
    book = SQLiteBook(connection)

    def transaction(operation: Callable[[Book], Any]) -> Any:
        connection.execute("BEGIN IMMEDIATE")
        try:
            return operation(book)
        finally:
            connection.execute("COMMIT")

    with contextlib.closing(connection):
        yield transaction
        assert connection.pragma("integrity_check") == "ok"
        assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == schema


KITS: dict[str, Kit] = {"memory": memory, "sqlite": sqlite}


def failure_of(claimed: Claimed, kind: str = "error") -> Failure:
    """Return a failure of one run."""
    return Failure(START.wall, claimed.attempt, claimed.token, kind, f"OSError: of {claimed.id}", "Traceback ...", "me")


class Desk:
    """A book, and a clock that only the test moves. Each call is a transaction of its own."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self.now = START

    def do(self, operation: Callable[[Book, Moment], T]) -> T:
        """Do ``operation`` on the book, now."""
        result: T = self._transaction(lambda book: operation(book, self.now))
        return result

    # -- time

    def wait(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.now = replace(self.now, wall=self.now.wall + seconds, steady=self.now.steady + seconds)

    def set_the_clock(self, by: float) -> None:
        """Have somebody set the wall's clock."""
        self.now = replace(self.now, wall=self.now.wall + by)

    def reboot(self) -> None:
        """Have the machine start anew, a minute later."""
        self.wait(60.0)
        self.now = replace(self.now, boot=self.now.boot + "'")

    # -- into the queue

    def add(self, **options: Any) -> int:
        """Enqueue one job, by default to queue "q"."""
        return self.add_all([options])[0]

    def add_all(self, jobs: Sequence[dict[str, Any]]) -> list[int]:
        """Enqueue jobs in one call."""
        new = [new_job(**options) for options in jobs]
        return self.do(lambda book, now: book.enqueue(new, now))

    # -- holders

    def hold(self, name: str = "host:1:w", *, lease: float = 30.0) -> int:
        """Add a holder."""
        new = NewHolder(name=name, pid=1, pid_started=0.5, namespace="pid:[1]", lease=lease)
        return self.do(lambda book, now: book.hold(new, now))

    def rescue(self, is_dead: Callable[[HolderInfo], bool] = lambda holder: False) -> list[Rescued]:
        """Rescue."""
        return self.do(lambda book, now: book.rescue(now, is_dead))

    def rescue_from(self, holder: int) -> list[Rescued]:
        """Rescue what a holder has that is dead for certain."""
        return self.rescue(lambda info: info.id == holder)

    # -- running

    def claim(self, holder: int, *queues: str, limit: int = 100, **options: Any) -> Claims:
        """Claim from ``queues``, by default "q", each with room for all."""
        rooms = options.pop("rooms", dict.fromkeys(queues or ("q",), 100))
        wanted = Claim(holder=holder, queues=rooms, limit=limit, **options)
        return self.do(lambda book, now: book.claim(wanted, now))

    def claim_one(self, holder: int, *queues: str, **options: Any) -> Claimed:
        """Claim the most urgent job; there must be one."""
        (claimed,) = self.claim(holder, *queues, limit=1, **options).jobs
        return claimed

    def end(self, run: Claimed, end: End = End.COMPLETED, **more: Any) -> TaskState | None:
        """Say how one run ended."""
        (state,) = self.do(lambda book, now: book.end([Ending(run.id, run.token, end, **more)], now))
        return state

    def finish(self, holder: int, *queues: str, end: End = End.COMPLETED) -> int:
        """Run the most urgent job; return its id."""
        run = self.claim_one(holder, *queues)
        assert self.end(run, end) is not None
        return run.id

    # -- from outside

    def cancel(self, job_id: int) -> Cancelled:
        """Cancel a job."""
        return self.do(lambda book, now: book.cancel(job_id, now))

    def requeue(self, job_id: int) -> bool:
        """Requeue a job."""
        return self.do(lambda book, now: book.requeue(job_id, now))

    def pause(self, queue: str, paused: bool = True) -> None:
        """Pause a queue."""
        self.do(lambda book, now: book.pause(queue, paused))

    def tick(self, schedule: str, at: float, **options: Any) -> int | None:
        """Enqueue a job for a period."""
        return self.do(lambda book, now: book.tick(schedule, at, new_job(schedule=schedule, **options), now))

    # -- looks

    def find(self, **wanted: Any) -> list[JobInfo]:
        """Look at jobs, oldest first."""
        return self.do(lambda book, now: book.find(Filter(**{"oldest_first": True, **wanted})))

    def info(self, job_id: int) -> JobInfo:
        """Look at one job."""
        (info,) = self.find(ids=(job_id,))
        return info

    def gate(self, job_id: int) -> Gate | None:
        """Say what one job waits for."""
        return self.info(job_id).gate

    def state(self, job_id: int) -> TaskState:
        """Say how one job stands."""
        return self.do(lambda book, now: book.states([job_id]))[job_id]

    def failures(self, job_id: int) -> list[Failure]:
        """Look at a job's history."""
        return self.do(lambda book, now: book.failures(job_id))

    def queue(self, queue: str = "q") -> QueueStatistics:
        """Look at one queue."""
        (found,) = (each for each in self.do(lambda book, now: book.statistics(now)).queues if each.queue == queue)
        return found

    def count(self, counter: str) -> int:
        """Look at one counter."""
        return self.do(lambda book, now: book.statistics(now)).counters[counter]

    def everything(self) -> tuple[object, ...]:
        """Look at all that can be seen."""
        jobs = self.find(limit=10**6)
        return (jobs, [self.failures(job.id) for job in jobs], self.do(lambda book, now: book.statistics(now)))


def new_job(**options: Any) -> NewJob:
    """Return a job of queue "q"."""
    return NewJob(**{"queue": "q", "name": "f", "args": "{}", **options})
