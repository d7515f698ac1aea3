"""Looks at what running tasks take, and decides which of them take too much; design/0007.

Guarantees
    Home loop only; nothing is done while no limit is set or no worker is busy.
"""

import logging
from collections.abc import Callable
from typing import Any

from .usage import MemoryUse
from .worker import Worker

__all__ = ["MemoryWatch"]

log = logging.getLogger("engine")

LOOK_SECONDS = 0.05  #: between two looks: a task may take what it can in that time before it is seen


class MemoryWatch:
    """Looks at every busy worker, 20 times a second."""

    def __init__(
        self,
        limit: int | None,
        later: Callable[..., Any],
        workers: Callable[[], tuple[Worker, ...]],
        on_too_much: Callable[[Worker, MemoryUse], None],
        on_heavy: Callable[[], None],
    ) -> None:
        self._limit = limit
        self._later = later
        self._workers = workers
        self._on_too_much = on_too_much
        self._on_heavy = on_heavy  #: a worker will probably be replaced when its task is over
        self._timer: Any = None
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

    def begin(self) -> None:
        """Look soon: a worker has a task."""
        if self._limit is not None and self._timer is None:
            self._timer = self._later(LOOK_SECONDS, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        assert self._limit is not None
        busy = [worker for worker in self._workers() if worker.state == "busy"]
        for worker in busy:
            use = worker.memory()
            if use is None:
                continue
            if use.is_too_much(self._limit):
                self._on_too_much(worker, use)
            elif use.total > self._limit and not worker.is_heavy:
                worker.is_heavy = True
                self._on_heavy()
        if busy:
            self.begin()
