"""How many operations may wait for the writer, and what becomes of the next one.

A thread waits until there is room. A running loop cannot: there the caller is refused, who can await some replies
first. Ends of runs and the like are let in always: there are no more of them than runs.

Guarantees
    Shared: ``_waiting``.  Guarded by: ``_lock``, held for a list operation.  Callers: any thread.
    Who waits puts down its latch and then counts again; ``tell`` comes after the count went down, and then looks for
    latches: one of the two sees the other.
"""

import asyncio
import threading
import time
from collections.abc import Callable

from ..._latch import Latch
from ..errors import StoreFull

__all__ = ["Room"]

WAIT_SECONDS = 30.0  #: that a thread waits for room


class Room:
    """The bound on what waits for one writer."""

    def __init__(self, limit: int, path: str) -> None:
        self._limit = limit
        self._path = path
        self._lock = threading.Lock()
        self._waiting: list[Latch] = []

    def enter(self, count: Callable[[], int], *, may_wait: bool) -> None:
        """Return when ``count()``, of the operations that wait, is below the limit.

        Raises:
            StoreFull: it is not, and this thread may not wait, or has waited ``WAIT_SECONDS``.
        """
        if count() < self._limit:
            return
        may_wait = may_wait and asyncio._get_running_loop() is None
        end = time.monotonic() + (WAIT_SECONDS if may_wait else 0.0)
        while count() >= self._limit:
            left = end - time.monotonic()
            if left <= 0:
                raise StoreFull(
                    f"expected fewer than {self._limit} operations to wait for {self._path}, got as many; await the "
                    "replies of some before asking for more, or use enqueue_many()", path=self._path,
                )  # fmt: skip
            latch = Latch()
            with self._lock:
                self._waiting.append(latch)
            if count() >= self._limit:
                latch.wait(left)

    def tell(self) -> None:
        """Let those go on that wait, to count again."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for latch in waiting:
            latch.set()
