"""The running task as its own code sees it, in a worker process."""

import contextvars
import sys
from collections.abc import Callable
from typing import Any

from .._current import report
from ..errors import TaskCancelled

__all__ = ["WorkerTask", "set_variables"]


class WorkerTask:
    """One attempt in this worker; ``engine.current_task()`` returns it."""

    __slots__ = ("_is_asked", "_report", "attempt", "deadline", "id", "is_cooperative", "name")

    def __init__(
        self, id: int, name: str, attempt: int, deadline: float | None, report: Callable[[int, object], None]
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.deadline = deadline  #: on time.monotonic's clock, None for never
        self.is_cooperative = False  #: it has looked at cancel_requested, so it may end by itself when asked
        self._is_asked = False
        self._report = report

    @property
    def cancel_requested(self) -> bool:
        """Say whether the task was cancelled or timed out. Looking marks the task as one that ends by itself."""
        self.is_cooperative = True
        return self._is_asked

    def ask(self) -> None:
        """Ask the task to end; called by the control thread."""
        self._is_asked = True

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far the task is; the parent sees it in ``Task.progress``."""
        self._report(self.id, report(done, total, message))

    def checkpoint(self) -> None:
        """Return at once, or raise TaskCancelled if the task should end."""
        if self.cancel_requested:
            raise TaskCancelled


def set_variables(exported: dict[str, Any]) -> None:
    """Set context variables by their addresses, in the context that runs."""
    for address, value in exported.items():
        module, _, name = address.partition(":")
        __import__(module)
        variable: contextvars.ContextVar[Any] = getattr(sys.modules[module], name)
        variable.set(value)
