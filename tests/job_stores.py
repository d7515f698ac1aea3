"""What tests of stores of jobs share: a job, a holder, and short ways to ask."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, Filter, NewHolder, NewJob
from engine.jobs._sqlite import boot as _boot
from engine.jobs._sqlite.store import SQLiteStore

__all__ = ["JOB", "PATIENCE", "claim_all", "enqueue", "holder", "ids_in", "opened"]

PATIENCE = 20.0
JOB = NewJob(queue="q", name="job", args="{}")


def enqueue(book: Book, now: Moment) -> int:
    """Be an operation that adds one job."""
    return book.enqueue([JOB], now)[0]


def ids_in(store: SQLiteStore) -> list[int]:
    """Return the ids of all jobs, oldest first."""
    found = store.read(lambda book, now: book.find(Filter(limit=100_000, oldest_first=True)))
    return [job.id for job in found.result(PATIENCE)]


def holder(lease: float = 30.0) -> NewHolder:
    """Return a holder that is this process."""
    _boot.boot_id()
    me = _boot.this_process()
    return NewHolder(name="test", pid=me.pid, pid_started=me.started, namespace=me.namespace, lease=lease)


def claim_all(store: SQLiteStore, holder_id: int, limit: int = 100) -> tuple[Claimed, ...]:
    """Claim what is ready."""
    claim = Claim(holder=holder_id, queues={"q": limit}, limit=limit)
    return store.write(lambda book, now: book.claim(claim, now)).result(PATIENCE).jobs


@contextlib.contextmanager
def opened(path: Path, **options: Any) -> Iterator[SQLiteStore]:
    """Give a store in the file ``path``, and close it."""
    store = SQLiteStore(path, **options)
    try:
        yield store
    finally:
        store.close()
