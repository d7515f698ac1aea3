"""Tiny tasks sent ahead, so that a worker need not be woken for each; design/0004.

Guarantees
    Home loop only. What may lie behind a running task is bounded: ``TINY_AHEAD`` tasks, ``AHEAD_SECONDS`` of measured
    work; and it is taken back when the task in front turns out slow, or something more urgent comes.
    While the answers of a worker are left to lie, the timer runs that has them read.
"""

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..._states import Lane
from ..base import Front
from .worker import Worker

__all__ = ["PLENTY", "Ahead", "Collector"]

TINY_AHEAD = 64  #: tasks that a worker holds at once, the running one included, while all are measured as tiny
PLENTY = TINY_AHEAD // 2  #: a worker that holds more than this is sent nothing yet, so that packets are full
FEW_AHEAD = 16  #: in place of TINY_AHEAD for a while when something more urgent has come, as more of it may come
A_WHILE = 0.1  #: seconds
AHEAD_SECONDS = 0.005  #: the measured work that may lie in a worker
SHORT_SECONDS = 0.0015  #: the same of tasks that take longer than this: more of them would not be shared out evenly
LOOK_SECONDS = 0.002  #: between two looks, while anything lies behind anything
STUCK_SECONDS = 0.002  #: what lies behind a task that takes longer than this, and than expected, is taken back
OVERTAKEN_SECONDS = 0.0005  #: of work that lies in a worker, at least, so that something more urgent is sent before it
COLLECT_SECONDS = 0.003  #: of work behind the running task: its answers may lie for LOOK_SECONDS
WATCHED_SECONDS = 0.25  #: in which each answer is read as it comes, of a worker that had run out of work meanwhile
WORTH_SECONDS = 0.0001  #: of each task, at least: shorter ones come in rows by themselves
CHUNKS_AHEAD_SECONDS = 0.003  #: AHEAD_SECONDS and STUCK_SECONDS of chunks, which are made to take 2 ms
CHUNK_STUCK_SECONDS = 0.005


class Collector(Protocol):
    """Reads the answers of one worker."""

    def collect(self, is_wanted: bool) -> bool:
        """Leave answers where they are until ``read_collected``, or no more; return whether they are left."""

    def read_collected(self) -> None:
        """Report the answers that were left."""


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
        listeners: Mapping[Worker, Collector],
        refill: Callable[[Worker], None],
    ) -> None:
        self._front = front
        self._max_tasks = max_tasks
        self._dispatch = dispatch
        self._give_back_rest = give_back_rest
        self._workers = workers
        self._size = size  #: how many workers there may be; asked late, since counting processors costs 25 ms
        self._pump = pump
        self._later = later
        self._listeners = listeners
        self._refill = refill
        self._hurried_until = 0.0
        self._collecting: set[Worker] = set()  #: whose answers are read by the timer
        self._timer: Any = None

    def send(self, worker: Worker) -> None:
        """Send ``worker`` more than the task that it runs, if more wait than there are workers."""
        count = worker.count()
        tiny = TINY_AHEAD if time.monotonic() > self._hurried_until else FEW_AHEAD
        if not count or count > tiny // 2:  # the former: another thread has just taken it back
            return
        cost = worker.cost_ahead()
        is_at_chunk = worker.is_at_chunk()
        bound = AHEAD_SECONDS if cost <= count * SHORT_SECONDS else SHORT_SECONDS
        if is_at_chunk:
            bound = CHUNKS_AHEAD_SECONDS
        limit = self._max_tasks
        most = tiny if limit is None else min(tiny, limit - worker.tasks_done)
        ready = self._shared_out() if cost <= bound and count < most else 0
        while ready > 0 and count < most and cost <= bound:
            sent = self._dispatch(worker, min(ready, most - count), bound - cost)
            if not sent:
                break
            ready -= sent
            count += sent
            cost += sent * worker.last_cost
        behind = cost - cost / count
        is_ample = behind >= COLLECT_SECONDS and cost >= count * WORTH_SECONDS and not is_at_chunk
        self._collect(worker, is_ample=is_ample and worker.watched_until < time.monotonic())
        if count > 1 and self._timer is None:
            self._timer = self._later(LOOK_SECONDS, self._look)

    def _shared_out(self) -> int:
        """Return how many of the waiting tasks one worker may be sent: towards its end the queue is shared out."""
        ready = self._front.has_ready(Lane.PROCESS)
        if ready < 2:
            return 0
        size = self._size()
        return min(ready - size, ready // size)

    def overtake(self) -> None:
        """Take back what lies in workers and is less urgent than what waits, which they are sent instead.

        First from who began its running task first. What is over sooner than it is taken back stays.
        """
        self._hurried_until = time.monotonic() + A_WHILE
        lines = {worker: line for worker in self._workers() if (line := worker.unbegun_behind())}
        behind = itertools.chain.from_iterable(lines.values())
        self._front.let_overtake(Lane.PROCESS, behind)  # first: what is submitted from here on calls us again
        for worker in sorted(lines, key=_began):
            if self._front.is_overtaken(lines[worker]) and worker.cost_ahead() > OVERTAKEN_SECONDS:
                self._give_back_rest(worker)
                self._refill(worker)

    def _collect(self, worker: Worker, *, is_ample: bool) -> None:
        """Have answers of ``worker`` read every now and then, while it has ample work; else at once, one by one."""
        if is_ample or worker in self._collecting:
            listener = self._listeners.get(worker)
            if listener is not None and listener.collect(is_ample):
                self._collecting.add(worker)
            else:
                self._collecting.discard(worker)

    def _look(self) -> None:
        """Read what was left to lie; take back what lies behind a task that takes unexpectedly long."""
        self._timer = None
        try:
            for worker in tuple(self._collecting):
                self._read(worker)
            self._unstrand()
        finally:  # Ctrl-C may have come while the next task was pickled
            if self._timer is None and (self._collecting or any(worker.count() > 1 for worker in self._workers())):
                self._timer = self._later(LOOK_SECONDS, self._look)

    def _read(self, worker: Worker) -> None:
        """Read what was left to lie; where it had begun all it was sent, no answer is left to lie for a while."""
        if not worker.unbegun_behind():
            worker.watched_until = time.monotonic() + WATCHED_SECONDS
        listener = self._listeners.get(worker)
        if listener is not None:
            listener.read_collected()  # which sends it more, and decides anew
        if worker.count() < 2 or worker.watched_until > time.monotonic():
            self._collect(worker, is_ample=False)

    def _unstrand(self) -> None:
        """Take back what lies behind a task that takes unexpectedly long, so that another worker may run it."""
        for worker in self._workers():
            if worker.count() > 1 and worker.is_stuck(CHUNK_STUCK_SECONDS if worker.is_at_chunk() else STUCK_SECONDS):
                self._give_back_rest(worker)
                self._pump()  # the others may all be idle by now

    def close(self) -> None:
        """Look no more."""
        for worker in tuple(self._collecting):
            self._collect(worker, is_ample=False)
        if self._timer is not None:
            self._timer.cancel()


def _began(worker: Worker) -> float:
    return worker.started(worker.first()) or 0.0
