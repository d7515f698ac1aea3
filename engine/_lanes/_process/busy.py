"""Looks at the workers that are busy, again and again: what the watches over memory and over begins share.

Guarantees
    Home loop only; one timer, and none while no worker is busy.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from .worker import Worker

__all__ = ["BusyWatch"]


class BusyWatch(ABC):
    """Calls ``look`` with the busy workers every ``seconds``, as long as there are any."""

    def __init__(self, seconds: float, later: Callable[..., Any], workers: Callable[[], tuple[Worker, ...]]) -> None:
        self._seconds = seconds
        self._later = later
        self._workers = workers
        self._timer: Any = None

    def begin(self) -> None:
        """Look soon: a worker has a task."""
        if self._timer is None:
            self._timer = self._later(self._seconds, self._look)

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        busy = [worker for worker in self._workers() if worker.state == "busy"]
        self.look(busy)
        if busy:
            self.begin()

    @abstractmethod
    def look(self, busy: list[Worker]) -> None:
        """Judge the workers that are busy now."""
