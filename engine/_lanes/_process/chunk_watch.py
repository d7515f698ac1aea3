"""Looks at running chunks, and divides those that take longer than they were made for; design/0011.

Guarantees
    Home loop only; one timer, and none while no chunk is in a worker.
"""

import time
from collections.abc import Callable
from typing import Any

from ..base import Attempt
from ..chunk import Chunk
from .worker import Worker

__all__ = ["ChunkWatch"]

LOOK_SECONDS = 0.002
STUCK_SECONDS = 1.0  #: in which the first item should begin
SETTLED_SECONDS = 0.001  #: in which both sides have seen what the other has stored: no store takes so long
LATE_SECONDS = 0.005  #: a chunk that runs for longer is told to begin no more; what it has finished comes then


class ChunkWatch:
    """Looks at every worker that has a chunk."""

    def __init__(self, later: Callable[..., Any], workers: Callable[[], tuple[Worker, ...]]) -> None:
        self._later = later
        self._workers = workers
        self._timer: Any = None

    def begin(self) -> None:
        """Look soon: a worker was sent a chunk."""
        if self._timer is None:
            self._timer = self._later(LOOK_SECONDS, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        has_any = False
        for worker in self._workers():
            for number, attempt, chunk in chunks_of(worker):
                if chunk.size > 1 and worker.state == "busy" and not attempt.interrupted:
                    has_any |= _look_at(worker, number, chunk, now)
        if has_any:
            self.begin()


def _look_at(worker: Worker, number: int, chunk: Chunk, now: float) -> bool:
    """Divide a chunk that is late: stop it, and at the next look take what it has not begun. False: that is done."""
    started = worker.started(number) if number == worker.first() else None
    if started is None or now - started <= LATE_SECONDS:
        return True
    begun = worker.items_begun(number)
    if chunk.stopped_at is None:
        if begun or now - started > STUCK_SECONDS:  # the latter: perhaps one of them cannot be rebuilt
            chunk.stopped_at = now
            worker.stop_chunk(number)
        return True
    if now - chunk.stopped_at < SETTLED_SECONDS:
        return True
    chunk.cut(begun, one_by_one=not begun)
    return False


def chunks_of(worker: Worker) -> list[tuple[int, Attempt, Chunk]]:
    """Return the chunks that ``worker`` has been sent and has not answered."""
    return [(number, attempt, attempt.args) for number, attempt in worker.unanswered() if type(attempt.args) is Chunk]
