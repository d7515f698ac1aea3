"""One background task from the inside: its record, what it is called with, who waits for it, who holds its slot.

Guarantees
    Every field is guarded by the ledger's lock; methods that end in ``_locked`` want it held.
    A record becomes terminal once: ``finish_locked`` is the one door and tells its caller whether it was the one.
    A slot has two holders: the job's coroutine, and the thread inside its plain function, which may outlive it.
    Once neither is left, no code of the job runs any more.
"""

import asyncio
import contextvars
import time
from typing import Any

from ._home import Home
from ._once import Once
from ._records import TERMINAL, BackgroundTask, TaskStatus, after

__all__ = ["Job"]


class Job:
    """What the manager knows of one task besides its record."""

    __slots__ = ("_anchor", "cause", "context", "driver", "home", "in_driver", "in_thread", "is_asked", "kwargs",
                 "left", "record", "settled", "turn")  # fmt: skip

    def __init__(self, record: BackgroundTask, kwargs: dict[str, Any], home: Home) -> None:
        self.record = record
        self.kwargs = kwargs
        self.home = home
        self.context: contextvars.Context | None = contextvars.copy_context()
        self.driver: asyncio.Task[Any] | None = None  #: what runs its coroutine; None before its turn
        self.cause: BaseException | None = None  #: what it raised
        self.is_asked = False  #: it was cancelled: it cannot complete any more
        self.in_driver = False  #: its coroutine has a slot: from the claim until it has ended
        self.in_thread = False  #: a thread is inside its function
        self.turn = Once()  #: it was claimed and may run
        self.settled = Once()  #: the record is terminal
        self.left = Once()  #: the record is terminal and none of its code runs
        self._anchor = time.monotonic()

    @property
    def is_live(self) -> bool:
        """Say whether the record may still change."""
        return self.record.status not in TERMINAL

    @property
    def has_slot(self) -> bool:
        """Say whether the job counts towards the limit."""
        return self.in_driver or self.in_thread

    def now(self) -> float:
        """Give the wall time by this job's own anchor, so that a clock that is set cannot reorder its timestamps."""
        return self.record.created_at + (time.monotonic() - self._anchor)

    def start_locked(self) -> bool:
        """Record that the job runs now. False: it was cancelled before, and must not."""
        record = self.record
        if record.status is not TaskStatus.PENDING:
            return False
        record.started_at = after(self.now(), record.created_at)
        record.status = TaskStatus.RUNNING
        return True

    def finish_locked(self, status: TaskStatus, result: Any, cause: BaseException | None, error: str | None) -> bool:
        """Record how the job ended. False: that is known already."""
        record = self.record
        if not self.is_live:
            return False
        if status is TaskStatus.COMPLETED and self.is_asked:
            status, result = TaskStatus.CANCELLED, None
        record.completed_at = after(self.now(), record.started_at or record.created_at)
        record.result, record.error, self.cause = result, error, cause
        self.kwargs, self.context = {}, None
        record.status = status
        return True
