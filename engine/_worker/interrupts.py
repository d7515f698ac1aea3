"""Raises ``TaskCancelled`` in the running task, and only in the one it was meant for.

Guarantees
    Shared: ``_current``, ``_skip``, ``_polite``.  Guarded by: ``_lock``, held for a few set operations.
    ``region`` and ``targets`` are also read by the signal handler, which must take no lock: it runs on the main
    thread, which may hold it. They are right without one: the handler raises only if the number now inside user code
    is a target, and takes it out first, so it raises at most once for one task and never outside of it.
    ``enter``, ``call`` and ``leave`` are for the main thread, which alone stores ``region``; ``cancel`` and ``press``
    for the control thread. What runs the items of a chunk (``packets``) does as ``call`` does, for itself.
    A task is either skipped or entered: ``cancel`` and ``enter`` decide under the lock.
"""

import _thread
import contextvars
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..errors import TaskCancelled
from .current import WorkerTask, set_variables

__all__ = ["Interrupts", "context_with"]

HAS_SIGNALS = hasattr(signal, "SIGURG") and hasattr(signal, "pthread_kill")  # else ``checkpoint`` and the kill help


class Interrupts:
    """Who is to be interrupted, and who runs."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._main = _thread.get_ident()
        self._current = 0  #: the number of the task taken last, 0 between tasks
        self._latest = 0
        self._task: WorkerTask | None = None
        self._skip: set[int] = set()
        self._polite: list[tuple[float, int]] = []  #: when to stop waiting for a cooperative task
        self.region = 0  #: the number of the task that is inside user code
        self.targets: set[int] = set()
        self.has_raised = False
        if HAS_SIGNALS:
            signal.signal(signal.SIGURG, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        number = self.region
        if number and number in self.targets:
            self.targets.discard(number)
            self.has_raised = True
            raise TaskCancelled

    def enter(self, number: int, task: WorkerTask) -> bool:
        """Take task ``number``. False: it was cancelled before it began, do not run it."""
        with self._lock:
            self._latest = number
            if self._skip and number in self._skip:
                self._skip.discard(number)
                return False
            self._current = number
            self._task = task
            return True

    def call(self, number: int, call: Callable[..., Any], fn: Any, args: Any, kwargs: Any) -> Any:
        """Run the user's code. No loop in here: a raise on a back edge could skip the ``finally`` (cpython #108214)."""
        try:
            self.region = number
            if self.targets:
                self.raise_if_asked()
            return call(fn, *args, **kwargs)
        finally:
            self.region = 0

    def raise_if_asked(self) -> None:
        """Raise what was asked between ``enter`` and here, if it was: the handler saw region 0."""
        self._handle(0, None)

    def leave(self, number: int) -> None:
        """Forget task ``number``: nothing meant for it can be raised from here on."""
        self.region = 0
        with self._lock:
            self._current = 0
            self._task = None
            self.targets.discard(number)

    def cancel(self, number: int, grace: float) -> None:
        """Have task ``number`` end: skip it if it has not begun, else ask, then interrupt."""
        with self._lock:
            if number != self._current:
                if number > self._latest:
                    self._skip.add(number)
                return
            task = self._task
            if task is not None:
                task.ask()
                if task.is_cooperative and grace > 0:
                    self._polite.append((time.monotonic() + grace / 2, number))
                    return
            self._strike(number)

    def _strike(self, number: int) -> None:
        self.targets.add(number)
        if HAS_SIGNALS:
            signal.pthread_kill(self._main, signal.SIGURG)

    def press(self) -> float | None:
        """Interrupt cooperative tasks whose time is up; return the seconds until the next one, None for none."""
        with self._lock:
            now = time.monotonic()
            waiting = [entry for entry in self._polite if entry[1] == self._current]
            self._polite = [entry for entry in waiting if entry[0] > now]
            for entry in waiting:
                if entry[0] <= now:
                    self._strike(entry[1])
            return min((due - now for due, _ in self._polite), default=None)


def context_with(exported: dict[str, Any] | None) -> contextvars.Context:
    """Return a fresh context in which the variables that the submitter exported are set."""
    context = contextvars.Context()
    if exported:
        context.run(set_variables, exported)
    return context
