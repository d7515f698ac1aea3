"""Notices a task that was sent to a worker and is never begun there; design/0009.

Guarantees
    Home loop only, and nothing per task: one timer, while any worker is busy. A worker that is stopped, or that gets no
    CPU, is not judged; a loop that did not turn, or a program that was stopped and continued, counts as one look.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from .busy import BusyWatch
from .usage import usage_of
from .worker import Worker

__all__ = ["BeginWatch"]

LOOK_SECONDS = 0.5
LOOKS = 2  #: after the first one that finds a task not begun: then it will not begin by itself


class _Seen(NamedTuple):
    """What the last look found in one worker."""

    number: int  #: of the task that is first in line and has not begun
    looks: int  #: in a row that found the same, the first one not counted
    cpu_seconds: float | None


class BeginWatch(BusyWatch):
    """Looks at every busy worker, twice a second."""

    def __init__(
        self,
        later: Callable[..., Any],
        workers: Callable[[], tuple[Worker, ...]],
        on_standstill: Callable[[Worker], None],
    ) -> None:
        super().__init__(LOOK_SECONDS, later, workers)
        self._on_standstill = on_standstill
        self._seen: dict[Worker, _Seen] = {}

    def look(self, busy: list[Worker]) -> None:
        """Judge those that have not begun what they were sent."""
        before, self._seen = self._seen, {}
        for worker in busy:
            number = worker.unbegun()
            if number:
                self._judge(worker, number, before.get(worker))

    def _judge(self, worker: Worker, number: int, before: _Seen | None) -> None:
        if worker.pid is None or worker.has_ended():
            return
        usage = usage_of(worker.pid)
        looks = 0
        if before is not None and before.number == number:
            is_starved = not usage.is_waiting and usage.cpu_seconds == before.cpu_seconds
            looks = 0 if usage.is_stopped or is_starved else before.looks + 1
        if looks >= LOOKS:
            self._on_standstill(worker)
        else:
            self._seen[worker] = _Seen(number, looks, usage.cpu_seconds)
