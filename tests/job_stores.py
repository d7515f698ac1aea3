"""What tests of stores of jobs share: a job, a holder, and short ways to ask."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from engine.jobs._book import Book
from engine.jobs._moment import Moment
from engine.jobs._records import Claim, Claimed, Filter, NewHolder, NewJob
from engine.jobs._sqlite import boot as _boot
from engine.jobs._sqlite.store import SQLiteStore
from tests.support import eventually

__all__ = ["JOB", "PATIENCE", "claim_all", "enqueue", "hold_still", "holder", "ids_in", "opened"]

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


def hold_still(process: subprocess.Popen[Any], path: Path) -> None:
    """Stop a child of ours that shares the file ``path``, where it does not write.

    A commit is seen before its lock is given back: who stops a process for what it has committed may stop it with the
    lock of the file in its hands, and nobody writes until it goes on.
    """
    end = time.monotonic() + PATIENCE
    while True:
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG))
        if not is_locked(path):
            return
        process.send_signal(signal.SIGCONT)
        assert time.monotonic() < end, f"{path} is locked each time"
        time.sleep(0.01)


def is_locked(path: Path) -> bool:
    """Say whether somebody is writing to the file ``path`` at this moment."""
    with contextlib.closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            return True
        return False
