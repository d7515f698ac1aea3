"""What is more urgent goes before what workers were sent and have not begun; design/0004.

Guarantees
    Home loop only. What lies in a worker and is over sooner than it could be taken back stays there.
"""

import itertools
import time
from collections.abc import Callable

from ..._states import Lane
from ..base import Front
from .worker import Worker

__all__ = ["Overtaking"]

HURRY_SECONDS = 0.1  #: for which less is sent ahead, as more that is urgent may come
OVERTAKEN_SECONDS = 0.0005  #: of work that lies in a worker, at least, so that something more urgent is sent before it


class Overtaking:
    """Exchanges what lies unbegun in workers for what is more urgent."""

    def __init__(
        self,
        front: Front,
        workers: Callable[[], tuple[Worker, ...]],
        *,
        give_back_rest: Callable[[Worker], None],
        refill: Callable[[Worker], None],
    ) -> None:
        self._front = front
        self._workers = workers
        self._give_back_rest = give_back_rest
        self._refill = refill
        self._hurried_until = 0.0

    def is_hurried(self) -> bool:
        """Say whether something has just overtaken others."""
        return time.monotonic() <= self._hurried_until

    def overtake(self) -> None:
        """Take back what lies in workers and is less urgent than what waits, which they are sent instead.

        First from who began its running task first.
        """
        self._hurried_until = time.monotonic() + HURRY_SECONDS
        lines = {worker: line for worker in self._workers() if (line := worker.unbegun_behind())}
        behind = itertools.chain.from_iterable(lines.values())
        self._front.let_overtake(Lane.PROCESS, behind)  # first: what is submitted from here on calls us again
        for worker in sorted(lines, key=_began):
            if self._front.is_overtaken(lines[worker]) and worker.cost_ahead() > OVERTAKEN_SECONDS:
                self._give_back_rest(worker)
                self._refill(worker)


def _began(worker: Worker) -> float:
    return worker.started(worker.first()) or 0.0
