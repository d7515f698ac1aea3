"""What runs the jobs of a Jobs, and what is looked at before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._tasks.settings import DRAIN_TIMEOUT

if TYPE_CHECKING:
    from engine import Engine

    from ._check import Finding
    from ._jobs import Jobs
    from ._reply import Reply
    from ._worker.worker import Worker

__all__ = ["Working"]


class Working:
    """Makes workers, runs jobs without one, and checks what both would meet."""

    def worker(
        self, engine: Engine, *, queues: Iterable[str] | Mapping[str, int | None] | None = None,
        concurrency: int | None = None, name: str | None = None, drain_timeout: float | None = DRAIN_TIMEOUT,
    ) -> Worker:  # fmt: skip
        """Return a Worker, which runs jobs in ``engine``: ``async with jobs.worker(engine): ...``.

        Args:
            engine: a running Engine.
            queues: which; None for all that this Jobs knows. As a mapping, with how many of each may run at once (None:
                as many as there is room for).
            concurrency: how many jobs may run at once; by default as many as the engine can run. Of each lane it never
                claims more than that has slots.
            name: part of what people see: ``host:pid:name``.
            drain_timeout: seconds that leaving waits for what runs; then that is stopped and given back, and uses no
                attempt. None waits for all of it. Leaving with an exception does not wait.

        Raises:
            ValueError: a value is out of range.
        """
        from ._worker.worker import Worker

        return Worker(
            self,  # type: ignore[arg-type]  # it is part of Jobs
            engine, queues=queues, concurrency=concurrency, name=name, drain_timeout=drain_timeout,
        )  # fmt: skip

    def run_inline(self: Any, within: float = 0.0, limit: int | None = None) -> int:
        """Run the jobs that are due, on this thread and without a worker; return how many runs there were. For tests.

        All lanes run here, one job after the other in the order in which a worker would claim them, with its rules for
        retries, snoozes, crashes, locks, follow-ups and hooks, and without jitter. Schedules enqueue. A job that fails
        does not raise: look at it.

        Args:
            within: seconds that pass meanwhile, in no time: what comes due in them runs at its instant. The store needs
                a virtual clock for it: ``Jobs(MemoryStore(clock=VirtualClock()))``.
            limit: end after so many runs; a job that always enqueues another would never let it end.

        Raises:
            ValueError: ``within`` is no duration, or the store is in real time.
            StoreError: the store cannot be used.
        """
        from ._inline import run_inline

        return run_inline(self, within, limit)

    def check(self: Any, queues: Iterable[str] | Mapping[str, int | None] | None = None) -> tuple[Finding, ...]:
        """Return what is wrong with tasks, routes, queues and schedules, errors first; ``()`` if nothing is.

        No store is opened for it. A worker begins with it: it raises ConfigurationError for errors, logs warnings.

        Args:
            queues: those that a worker is to serve, as ``worker(queues=...)`` takes them; None for all.

        Raises:
            ValueError: ``queues`` are none that a worker could be given.
        """
        from ._check import check
        from ._worker.worker import checked_queues

        return check(self, None if queues is None else checked_queues(queues, self))

    def check_store(self: Any) -> Reply[tuple[Finding, ...]]:
        """Give what waits in the store and nobody with this Jobs runs: names that are not registered, paused queues."""
        from ._check import check_store

        jobs: Jobs = self
        return jobs.store.read(lambda book, now: check_store(book, now, jobs))
