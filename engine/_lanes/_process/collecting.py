"""Answers that are left to lie for a moment, so that many are read with one wake-up; design/0004.

Guarantees
    Home loop only. Only while a worker has ample work behind the task that it runs; of one that had run out of work
    meanwhile, each answer is read as it comes for a while.
"""

import math
import time
import weakref
from collections.abc import Mapping
from typing import Protocol

from .worker import Worker

__all__ = ["Collecting", "Collector"]

AMPLE_SECONDS = 0.003  #: of work behind the running task: it is not done before the answers are read
AMPLE_TASKS = 3  #: that it holds, at least: with two of some milliseconds the look comes seldom
WORTH_SECONDS = 0.0001  #: of each task, at least: shorter ones come in rows by themselves
WATCHED_SECONDS = 0.25  #: in which each answer is read as it comes, of a worker that had run out of work meanwhile


class Collector(Protocol):
    """Reads the answers of one worker."""

    def collect(self, is_wanted: bool) -> bool:
        """Leave answers where they are until ``read_collected``, or no more; return whether they are left."""

    def read_collected(self) -> None:
        """Report the answers that were left."""


class Collecting:
    """Decides whose answers are left to lie; somebody else's timer has them read."""

    def __init__(self, collectors: Mapping[Worker, Collector]) -> None:
        self._collectors = collectors
        self._collected: set[Worker] = set()
        self._watched_until: weakref.WeakKeyDictionary[Worker, float] = weakref.WeakKeyDictionary()

    def __bool__(self) -> bool:
        return bool(self._collected)

    def decide(self, worker: Worker, count: int, cost: float) -> None:
        """Leave the answers of ``worker`` to lie if its ``count`` tasks, of ``cost`` seconds, are ample work."""
        behind = cost - cost / count
        is_ample = count >= AMPLE_TASKS and behind >= AMPLE_SECONDS and cost >= count * WORTH_SECONDS
        is_ample = is_ample and not worker.is_at_chunk() and not self._is_watched(worker)
        self._collect(worker, is_ample=is_ample)

    def read(self) -> None:
        """Have all read that was left to lie."""
        for worker in tuple(self._collected):
            self._read(worker)

    def close(self) -> None:
        """Leave nothing to lie any more."""
        for worker in tuple(self._collected):
            self._collect(worker, is_ample=False)

    def _is_watched(self, worker: Worker) -> bool:
        return self._watched_until.get(worker, -math.inf) >= time.monotonic()

    def _collect(self, worker: Worker, *, is_ample: bool) -> None:
        if is_ample or worker in self._collected:
            collector = self._collectors.get(worker)
            if collector is not None and collector.collect(is_ample):
                self._collected.add(worker)
            else:
                self._collected.discard(worker)

    def _read(self, worker: Worker) -> None:
        if not worker.unbegun_behind():  # it has begun all that it was sent
            self._watched_until[worker] = time.monotonic() + WATCHED_SECONDS
        collector = self._collectors.get(worker)
        if collector is not None:
            collector.read_collected()  # which sends it more, and decides anew
        if worker.count() < 2 or self._is_watched(worker):
            self._collect(worker, is_ample=False)
