"""Tiny tasks sent ahead, so that a worker need not be woken for each; design/0004.

Guarantees
    Home loop only. What may lie behind a running task is bounded: ``TINY_AHEAD`` tasks, ``AHEAD_SECONDS`` of measured
    work, or one task of up to ``ONE_SECONDS``; and it is taken back when the task in front turns out slow.
    While the answers of a worker are left to lie, the timer runs that has them read.
"""

import time
from collections.abc import Callable
from typing import Any

from ..._states import Lane
from ..base import Front
from .collecting import Collecting
from .overtaking import Overtaking
from .worker import Worker

__all__ = ["PLENTY", "Ahead"]

TINY_AHEAD = 64  #: tasks that a worker holds at once, the running one included, while all are measured as tiny
PLENTY = TINY_AHEAD // 2  #: a worker that holds more than this is sent nothing yet, so that packets are full
FEW_AHEAD = 16  #: in place of TINY_AHEAD for a while when something more urgent has come
AHEAD_SECONDS = 0.005  #: the measured work that may lie in a worker
SHORT_SECONDS = 0.0015  #: the same of tasks that take longer than this: more of them would not be shared out evenly
ONE_SECONDS = 0.01  #: one task may lie behind one that takes up to this, while many wait: the last go to who is free
EXPECTED_SECONDS = ONE_SECONDS  #: of what has something behind it, at most: nothing is sent behind longer ones
MANY = 2  #: so many times as many as there are workers
STUCK_SECONDS = 0.002  #: what lies behind a task that takes longer than this, and than expected, is taken back
CHUNKS_AHEAD_SECONDS = 0.003  #: AHEAD_SECONDS and STUCK_SECONDS of chunks, which are made to take 2 ms
CHUNK_STUCK_SECONDS = 0.005
LOOK_SECONDS = 0.002  #: between two looks, while anything lies behind anything; more where one task takes more


class Ahead:
    """Sends tiny tasks behind tiny ones, while more of them wait than there are workers."""

    def __init__(
        self,
        front: Front,
        max_tasks: int | None,
        overtaking: Overtaking,
        collecting: Collecting,
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
        self._overtaking = overtaking
        self._collecting = collecting
        self._dispatch = dispatch
        self._give_back_rest = give_back_rest
        self._workers = workers
        self._size = size  #: how many workers there may be; asked late, since counting processors costs 25 ms
        self._pump = pump
        self._later = later
        self._timer: Any = None
        self._due = 0.0  #: when the timer strikes

    def send(self, worker: Worker) -> None:
        """Send ``worker`` more than the task that it runs, if more wait than there are workers."""
        count = worker.count()
        tiny = FEW_AHEAD if self._overtaking.is_hurried() else TINY_AHEAD
        if not count or count > tiny // 2:  # the former: another thread has just taken it back
            return
        cost = worker.cost_ahead()
        bound = AHEAD_SECONDS if cost <= count * SHORT_SECONDS else SHORT_SECONDS
        if worker.is_at_chunk():
            bound = CHUNKS_AHEAD_SECONDS
        limit = self._max_tasks
        most = tiny if limit is None else min(tiny, limit - worker.tasks_done)
        if cost <= bound and count < most:
            ready = self._shared_out()
            while ready > 0 and count < most and cost <= bound:
                sent = self._dispatch(worker, min(ready, most - count), bound - cost)
                if not sent:
                    break
                ready -= sent
                count += sent
                cost += sent * worker.last_cost
        elif count == 1 < most and cost <= ONE_SECONDS and self._many_wait() and self._dispatch(worker, 1, 0.0):
            count += 1
            cost += worker.last_cost
        self._collecting.decide(worker, count, cost)
        if count > 1:
            self._look_in(_pause(worker))

    def _shared_out(self) -> int:
        """Return how many of the waiting tasks one worker may be sent: towards its end the queue is shared out."""
        ready = self._front.has_ready(Lane.PROCESS)
        if ready < 2:
            return 0
        size = self._size()
        return min(ready - size, ready // size)

    def _many_wait(self) -> bool:
        return self._front.has_ready(Lane.PROCESS) >= MANY * self._size()

    def _look_in(self, seconds: float) -> None:
        """Look within so many seconds."""
        before, due = self._timer, time.monotonic() + seconds
        if before is None or due < self._due:
            self._timer = self._later(seconds, self._look)
            self._due = due
            if before is not None:
                before.cancel()

    def _look(self) -> None:
        """Read what was left to lie; take back what lies behind a task that takes unexpectedly long."""
        self._timer = None
        try:
            self._collecting.read()
            self._unstrand()
        finally:  # Ctrl-C may have come while the next task was pickled
            for worker in self._workers():
                if worker.count() > 1:
                    self._look_in(_pause(worker))
            if self._collecting:
                self._look_in(LOOK_SECONDS)

    def _unstrand(self) -> None:
        """Take back what lies behind a task that takes unexpectedly long, so that another worker may run it."""
        for worker in self._workers():
            seconds = CHUNK_STUCK_SECONDS if worker.is_at_chunk() else STUCK_SECONDS
            if worker.count() > 1 and worker.is_stuck(seconds, EXPECTED_SECONDS):
                self._give_back_rest(worker)
                self._pump()  # the others may all be idle by now

    def close(self) -> None:
        """Look no more."""
        self._collecting.close()
        if self._timer is not None:
            self._timer.cancel()


def _pause(worker: Worker) -> float:
    """Return the seconds until the next look at a worker that has something behind the task that it runs."""
    each = worker.cost_ahead() / 2 if worker.count() == 2 else 0.0
    return each if LOOK_SECONDS < each <= ONE_SECONDS else LOOK_SECONDS
