"""Durable jobs: the face."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self

from engine import TaskState

from .. import _checks
from .._lineage import check_no_import
from ._book import Book
from ._calls.bulk import enqueue_many
from ._calls.enqueuing import Enqueuing
from ._calls.job_call import JobCall
from ._calls.rows import row_of
from ._calls.series import run_series
from ._duration import duration
from ._job import Job, fresh_job
from ._looks import Looks, job_id_of, states_of
from ._moment import Moment
from ._pruning import ENDED, prune
from ._records import Cancelled, NewJob
from ._reply import Reply
from ._store import Store
from ._tasks.catalog import Catalog
from ._tasks.definitions import Definitions
from ._tasks.names import check_name
from ._watch import Watch
from ._working import Working
from .errors import JobRefused, StoreError

__all__ = ["Jobs"]


class Jobs(Definitions, Looks, Working):
    """Calls that a store keeps until they are done. Any thread, with or without a loop.

    Args:
        store: the path of a file of SQLite, or a Store.
        lease: seconds that a worker holds what it claimed; it is renewed three times in each.
        synchronous: of the file. "full": what is acknowledged survives a power failure. "normal": the last commits
            before one may be lost. Neither loses anything when processes die.
        max_args_bytes: of the arguments of one job as JSON, and of what follows it.
        max_result_bytes: of a result as JSON.
        routes: patterns of task names with queues, as ``{"reports.*": "slow"}``; the first that matches wins over the
            task's own, and ``options(queue=...)`` over both.
        queues: the queues that there are, by default any; a mapping says how many jobs of each a worker runs at once.
    """

    def __init__(
        self, store: Store | str | os.PathLike[str], *, lease: float = 30.0, synchronous: str | None = None,
        max_args_bytes: int = 1 << 20, max_result_bytes: int = 1 << 20, routes: Mapping[str, str] | None = None,
        queues: Iterable[str] | Mapping[str, int | None] | None = None,
    ) -> None:  # fmt: skip
        self.lease = _checks.seconds("lease", lease)
        self.max_args_bytes = _checks.size_bytes("max_args_bytes", max_args_bytes, least=2)
        self.max_result_bytes = _checks.size_bytes("max_result_bytes", max_result_bytes, least=4)
        self.catalog = Catalog(routes=routes, queues=queues)
        self.store = _store_of(store, synchronous)
        self._watches: dict[int, Watch] = {}  # by process: a forked child has its own

    @property
    def name(self) -> str:
        """Give what people see: the path of the file, or "memory"."""
        return self.store.name

    # -- from beginning to end

    def open(self) -> None:
        """Open the store; its first use does it too. Idempotent.

        Raises:
            StoreError: it cannot be opened; the message says why and what to do.
        """
        self.store.open()

    def close(self) -> None:
        """Finish what was asked, and let go of the store. Idempotent. Waits."""
        self.store.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    # -- into the queue

    def enqueue(self, call: JobCall) -> Reply[Job]:
        """Keep a call until it is done: ``jobs.enqueue(send.call(to="x"))``, which is ``send.enqueue(to="x")``.

        Raises:
            TypeError: an argument is missing.
            PayloadRefused: what follows is too large.
            AlreadyEnqueued: a job with this queueing lock waits (in the reply).
            StoreFull: too many writes wait.
        """
        check_no_import("a job to be enqueued")
        _checks.instance("call", call, JobCall, "a JobCall; make one with task.call(...), or use task.enqueue(...)")
        if call.task.jobs is not self:
            raise JobRefused(f"expected a task of {self!r}, got {call.task!r} of {call.task.jobs!r}")
        if not call.is_whole:
            call.task.parameters.bind(call.task.name, (), call.args)
        row = row_of(call, self.max_args_bytes)
        operation = partial(_enqueue, row)
        if call.said.connection is None:
            return self.store.write(operation).convert(partial(self._fresh, row))
        return Reply.of(self._fresh(row, self.store.write_in(call.said.connection, operation)))

    def enqueue_many(self, task: Enqueuing[..., Any], many: Iterable[Mapping[str, Any]]) -> Reply[list[int]]:
        """Enqueue a call of ``task`` for each dict of arguments: ``jobs.enqueue_many(send, [{"to": "x"}, ...])``.

        ``task`` may have options. The reply has the ids, in order. All arguments are looked at first, on this thread,
        in some 3 µs each; up to 5,000 jobs are enqueued together or not at all, more in several such steps.

        Raises:
            TypeError, PayloadRefused: the function, or JSON, does not take some of the arguments; none are enqueued.
            JobRefused: the options have a queueing lock.
        """
        check_no_import("jobs to be enqueued")
        _checks.instance("task", task, Enqueuing, "a task of this Jobs, as it is or with options")
        if task._task.jobs is not self:
            raise JobRefused(f"expected a task of {self!r}, got {task!r} of {task._task.jobs!r}")
        return enqueue_many(self.store, task, many, self.max_args_bytes)

    def _fresh(self, row: NewJob, enqueued: tuple[int, Moment]) -> Job:
        return fresh_job(row, *enqueued, self)

    # -- what becomes of jobs

    def cancel(self, job_id: int) -> Reply[Cancelled]:
        """Cancel a job that waits; ask its worker to stop one that runs. The reply says what it found."""
        exact = job_id_of(job_id)
        return self.store.write(lambda book, now: book.cancel(exact, now))

    def requeue(self, job_id: int) -> Reply[bool]:
        """Have a job that has ended run anew, with all its attempts; False if it has not ended, or is not there."""
        exact = job_id_of(job_id)
        return self.store.write(lambda book, now: book.requeue(exact, now))

    def prune(
        self, *, older_than: float | timedelta, states: TaskState | str | Iterable[TaskState | str] | None = None
    ) -> Reply[int]:
        """Delete jobs that ended more than ``older_than`` seconds (or a timedelta) ago; the reply counts them.

        They go a thousand at a time.

        Raises:
            ValueError: ``states`` has one in which jobs live.
        """
        seconds = duration("older_than", older_than, zero=True)
        return run_series(self.store, prune(seconds, states_of(states) or ENDED))

    def pause(self, queue: str) -> Reply[None]:
        """Have no more jobs of ``queue`` started, by any worker; what runs goes on.

        Raises:
            ValueError: queues were declared, and it is none of them. ``engine jobs pause FILE`` takes any.
        """
        exact = self.catalog.check_queue("queue", queue)
        return self.store.write(lambda book, now: book.pause(exact, True))

    def resume(self, queue: str) -> Reply[None]:
        """Have jobs of ``queue`` started again."""
        exact = check_name("queue", queue)
        return self.store.write(lambda book, now: book.pause(exact, False))

    def __reduce__(self) -> Any:
        raise TypeError(
            f"expected what travels to another process to hold no Jobs, got {self!r}; have the function find it in its "
            "own module, which the other process imports, and where it opens the store itself"
        )

    def __repr__(self) -> str:
        return f"<Jobs {self.name!r}, {len(self.tasks)} tasks>"


def _enqueue(row: NewJob, book: Book, now: Moment) -> tuple[int, Moment]:
    return book.enqueue((row,), now)[0], now


def _store_of(store: Any, synchronous: str | None) -> Store:
    """Return a store as it is, or the one that a path names."""
    if not isinstance(store, (str, os.PathLike)):
        if not hasattr(type(store), "write_in"):
            raise _checks.wrong("store", "a path or a Store", store, 'use Jobs("jobs.db") or Jobs(MemoryStore())')
        if synchronous is not None:
            raise ValueError("expected synchronous to be said to the Store, got one and both")
        return store  # type: ignore[no-any-return]  # it has what a Store has
    path = os.fspath(store)
    if path.startswith(("postgresql:", "postgres:")):
        raise StoreError(
            "expected the path of a file, got the address of a PostgreSQL server: that store will be in the extra "
            "`distributed`, and is not made yet; use Jobs('jobs.db')"
        )
    from ._sqlite.store import SQLiteStore  # here, for it needs apsw

    return SQLiteStore(path, synchronous or "full")
