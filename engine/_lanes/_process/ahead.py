"""Tiny tasks sent ahead, so that a worker need not be woken for each; design/0004.

Guarantees
    Home loop only. What may lie behind a running task is bounded: ``TINY_AHEAD`` tasks, ``AHEAD_SECONDS`` of measured
    work; and it is taken back when the task in front turns out slow.
"""

from collections.abc import Callable
from typing import Any

from ..._states import Lane
from ..base import Front
from .worker import Worker

__all__ = ["PLENTY", "Ahead"]

TINY_AHEAD = 64  #: tasks that a worker holds at once, the running one included, while all are measured as tiny
PLENTY = TINY_AHEAD // 2  #: a worker that holds more than this is sent nothing yet, so that packets are full
AHEAD_SECONDS = 0.0015  #: the measured work that may lie in a worker: so long a more urgent task may have to wait
STUCK_SECONDS = 0.002  #: what lies behind a task that takes longer than this is taken back
CHUNKS_AHEAD_SECONDS = 0.003  #: the same two of chunks, which are made to take 2 ms
CHUNK_STUCK_SECONDS = 0.005


class Ahead:
    """Sends tiny tasks behind tiny ones, while more of them wait than there are workers."""

    def __init__(
        self,
        front: Front,
        max_tasks: int | None,
        *,
        dispatch: Callable[[Worker, int, float], int],
        give_back_rest: Callable[[Worker], None],
        workers: Callable[[], tuple[Worker, ...]],
        size: Callable[[], int],
        pump: Callable[[], None],
        later: Callable[..., Any],
    ) -> None:
        self._front = front
        self._max_tasks = max_tasks
        self._dispatch = dispatch
        self._give_back_rest = give_back_rest
        self._workers = workers
        self._size = size  #: how many workers there may be; asked late, since counting processors costs 25 ms
        self._pump = pump
        self._later = later
        self._timer: Any = None

    def send(self, worker: Worker) -> None:
        """Send ``worker`` more than the task that it runs, if more wait than there are workers."""
        count = worker.count()
        if count > PLENTY:
            return
        limit = self._max_tasks
        most = TINY_AHEAD if limit is None else min(TINY_AHEAD, limit - worker.tasks_done)
        cost = worker.cost_ahead()
        bound = CHUNKS_AHEAD_SECONDS if worker.is_at_chunk() else AHEAD_SECONDS
        if cost > bound or count >= most:
            return
        ready = self._front.has_ready(Lane.PROCESS)
        if ready < 2 or (ready := ready - self._size()) <= 0:
            return
        while ready > 0 and count < most and cost <= bound:
            sent = self._dispatch(worker, min(ready, most - count), bound - cost)
            if not sent:
                break
            ready -= sent
            count += sent
            cost += sent * worker.last_cost
        if count > 1 and self._timer is None:
            self._timer = self._later(STUCK_SECONDS, self._unstrand)

    def _unstrand(self) -> None:
        """Take back what lies behind a task that takes unexpectedly long, so that another worker may run it."""
        self._timer = None
        ahead = [worker for worker in self._workers() if worker.count() > 1]
        for worker in ahead:
            if worker.is_stuck(CHUNK_STUCK_SECONDS if worker.is_at_chunk() else STUCK_SECONDS):
                self._give_back_rest(worker)
                self._pump()  # the others may all be idle by now
        if ahead:
            self._timer = self._later(STUCK_SECONDS, self._unstrand)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
