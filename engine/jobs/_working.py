"""What runs the jobs of a Jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ._settings import DRAIN_TIMEOUT

if TYPE_CHECKING:
    from engine import Engine

    from ._worker import Worker

__all__ = ["Working"]


class Working:
    """Makes workers."""

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
        from ._worker import Worker

        return Worker(
            self,  # type: ignore[arg-type]  # it is part of Jobs
            engine, queues=queues, concurrency=concurrency, name=name, drain_timeout=drain_timeout,
        )  # fmt: skip
