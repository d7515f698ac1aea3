"""What an engine has settled and still runs: threads and processes that were told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine import Engine

__all__ = ["Lingering"]

_LOOK_EVERY = 0.02  #: seconds
_LOOKS_MOST = 500  #: then something holds a process that not even SIGKILL ends


class Lingering:
    """Tells when nothing of a settled task runs any more, or its engine has given it up. Home loop only.

    A cancelled or timed out task of the thread and process lanes settles at once, and is stopped behind its handle. The
    next run of its job must not overlap.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[int, Callable[[], None]] = {}  #: by the task's id
        self._looker: asyncio.Task[None] | None = None

    def wait_for(self, task_id: int, when_over: Callable[[], None]) -> None:
        """Have ``when_over()`` called once nothing of the task runs."""
        self._waiting[task_id] = when_over
        if self._looker is None:
            self._looker = asyncio.get_running_loop().create_task(self._look(), name="engine.jobs: lingering runs")

    def give_up(self) -> None:
        """Treat everything as over."""
        self._tell(set(self._waiting))

    async def _look(self) -> None:
        looks = 0
        while self._waiting:
            over = self._waiting.keys() - self._running()
            self._tell(over)
            looks = 0 if over else looks + 1
            if looks > _LOOKS_MOST:
                self.give_up()
            await asyncio.sleep(_LOOK_EVERY)
        self._looker = None

    def _running(self) -> set[int]:
        workers = self._engine.snapshot().workers
        return {worker.task_id for worker in workers if worker.task_id is not None and worker.state != "abandoned"}

    def _tell(self, task_ids: set[int]) -> None:
        for task_id in task_ids:
            self._waiting.pop(task_id)()
