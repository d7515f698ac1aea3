"""What follows a change, outside the registry's lock: who is called, and what is let go.

Guarantees
    Callers: any thread, no lock of ours held: a waiter, a wake-up or a ``__del__`` may run anything of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._lanes.base import Attempt
from ._registry import Registry
from ._task import Task, Waiter

if TYPE_CHECKING:
    from ._deadlines import Deadlines
    from ._waiters import Waiters

__all__ = ["NO_KWARGS", "Telling"]

NO_KWARGS: dict[str, Any] = {}


class Telling:
    """The part of the scheduler that the others end in."""

    registry: Registry
    deadlines: Deadlines
    waiters: Waiters

    def leave(self, attempt: Attempt) -> None:
        """Drop what ``attempt``, which is over, held, and tell who waited for its slot."""
        attempt.fn, attempt.args, attempt.kwargs, attempt.context = None, (), NO_KWARGS, None
        if attempt.timer is not None:
            self.deadlines.forget(attempt)
        callbacks, attempt.callbacks = attempt.callbacks, None
        for fn in callbacks or ():
            fn()

    def tell(
        self,
        task: Task[Any] | None,
        waiters: list[Waiter] | None,
        wake: Callable[[], None] | None,
        quiet: list[Callable[[], object]] | None,
    ) -> None:
        """Call whom a change concerns: the waiters of a settled ``task``, a parked taker, who waits for quiet."""
        if self.registry.dropped:
            self.registry.let_go()
        if waiters is not None and task is not None:
            if task._rare.failure is not None:
                task._rare.failure = None  # here, outside the lock: what its traceback holds may have a __del__
            if task._timer is not None:
                self.deadlines.forget_task(task)
            if waiters:
                self.waiters.deliver(task, waiters)
            if self.registry.room_waiters:
                self.open_room()
        if wake is not None:
            wake()
        for fn in quiet or ():
            fn()

    def open_room(self) -> None:
        """Tell the first who waits for room, if there is room."""
        with self.registry.lock:
            opened = self.registry.room_opened_locked()
        if opened is not None:
            self.tell_of_room(opened)

    def tell_of_room(self, opened: Callable[[], object]) -> None:
        """Call ``opened``, who waited for room; to be called twice does it no harm."""
        opened()
        with self.registry.lock:
            self.registry.opening.pop(opened, None)
