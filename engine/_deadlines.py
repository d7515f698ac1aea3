"""Timers on the home loop: attempt timeouts, total timeouts, and the pauses between attempts.

Guarantees
    ``Attempt.timer`` and ``Task._timer`` are touched on the home loop only; other threads post there.
    A timer that was posted after its task settled is never armed, and a pause between attempts holds its task weakly
    (the registry keeps it while it is live), so nothing is held longer than it lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._mailbox import Mailbox

if TYPE_CHECKING:
    from ._lanes.base import Attempt
    from ._task import Task

__all__ = ["Deadlines"]


class Deadlines:
    """Arms and forgets timers; what they do is handed in."""

    def __init__(
        self,
        home: Mailbox,
        expire: Callable[[Attempt], None],
        expire_total: Callable[[Task[Any]], None],
        retry_due: Callable[[Task[Any]], None],
    ) -> None:
        self._home = home
        self._expire = expire
        self._expire_total = expire_total
        self._retry_due = retry_due

    def watch(self, attempt: Attempt, seconds: float | None = None) -> None:
        """Call ``expire(attempt)`` in ``seconds`` (its timeout), unless it is over by then. Any thread."""
        self._do(self._arm, attempt, seconds if seconds is not None else attempt.timeout)

    def watch_task(self, task: Task[Any], seconds: float) -> None:
        """Call ``expire_total(task)`` in ``seconds``, unless it is done by then. Any thread."""
        self._do(self._arm_task, task, seconds)

    def retry_after(self, task: Task[Any], seconds: float) -> None:
        """Call ``retry_due(task)`` in ``seconds``. Any thread."""
        self._do(self._arm_retry, task, seconds)

    def forget(self, attempt: Attempt) -> None:
        """Drop the timer of an attempt that is over. Any thread."""
        self._do(self._disarm, attempt)

    def forget_task(self, task: Task[Any]) -> None:
        """Drop the timer of a task that is done. Any thread."""
        self._do(self._disarm_task, task)

    def _do(self, fn: Callable[..., None], *args: Any) -> None:
        if self._home.is_here():
            fn(*args)
        else:
            self._home.post(fn, *args)

    def _arm(self, attempt: Attempt, seconds: float) -> None:
        if attempt.over or attempt.interrupted:  # what was asked to stop has no use for it
            return
        self._disarm(attempt)
        attempt.timer = self._home.loop.call_later(seconds, self._expire, attempt)
        if attempt.over:  # it ended on its own thread meanwhile, and saw no timer
            self._disarm(attempt)

    def _arm_task(self, task: Task[Any], seconds: float) -> None:
        if task.done():
            return
        task._timer = self._home.loop.call_later(seconds, self._expire_total, task)
        if task.done():  # as above
            self._disarm_task(task)

    def _arm_retry(self, task: Task[Any], seconds: float) -> None:
        self._home.loop.call_later(seconds, self._retry_if_kept, weakref.ref(task))

    def _retry_if_kept(self, kept: weakref.ref[Task[Any]]) -> None:
        task = kept()
        if task is not None:
            self._retry_due(task)

    @staticmethod
    def _disarm(attempt: Attempt) -> None:
        if attempt.timer is not None:
            attempt.timer.cancel()
            attempt.timer = None

    @staticmethod
    def _disarm_task(task: Task[Any]) -> None:
        if task._timer is not None:
            task._timer.cancel()
            task._timer = None
