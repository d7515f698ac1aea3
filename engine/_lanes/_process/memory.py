"""Looks at what running tasks take, and decides which of them take too much; design/0007.

Guarantees
    Home loop only; nothing is done while no limit is set or no worker is busy.
"""

import logging
from collections.abc import Callable
from typing import Any

from .busy import BusyWatch
from .usage import MemoryUse
from .worker import Worker

__all__ = ["MemoryWatch"]

log = logging.getLogger("engine")

LOOK_SECONDS = 0.05  #: between two looks: a task may take what it can in that time before it is seen


class MemoryWatch(BusyWatch):
    """Looks at every busy worker, 20 times a second."""

    def __init__(
        self,
        limit: int | None,
        later: Callable[..., Any],
        workers: Callable[[], tuple[Worker, ...]],
        on_too_much: Callable[[Worker, MemoryUse], None],
        on_heavy: Callable[[], None],
    ) -> None:
        super().__init__(LOOK_SECONDS, later, workers)
        self._limit = limit
        self._on_too_much = on_too_much
        self._on_heavy = on_heavy  #: a worker will probably be replaced when its task is over
        self._has_warned = False

    def objection(self, worker: Worker) -> str:
        """Say why a worker that is ready cannot be used: it is over the limit without any task. Empty: it can."""
        if self._limit is None:
            return ""
        fresh = worker.fresh_bytes()
        if not fresh and not self._has_warned:
            self._has_warned = True
            log.warning("worker_memory_limit has no effect: /proc does not tell what worker processes use")
        if fresh <= self._limit:
            return ""
        return (
            f"a worker process holds {fresh:,} bytes before its first task, more than worker_memory_limit="
            f"{self._limit:,}; raise the limit, or load less in the initializer"
        )

    def look(self, busy: list[Worker]) -> None:
        """Report those whose task takes too much, and those that will be replaced after it."""
        assert self._limit is not None
        for worker in busy:
            use = worker.memory()
            if use is None:
                continue
            if use.is_too_much(self._limit):
                self._on_too_much(worker, use)
            elif use.total > self._limit and not worker.is_heavy:
                worker.is_heavy = True
                self._on_heavy()
