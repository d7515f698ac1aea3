"""Cancels tasks from threads and from wherever else it is asked to, and remembers the answers.

Guarantees
    Shared: the answers in the promises, ``did``, ``errors``.  Guarded by: ``_lock``, held for a few operations.
    Callers: any thread. After ``stop`` every order has been carried out.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine import Task
from stress._ledger import Promise

__all__ = ["Cancellers"]

THREADS = 3


class Cancellers:
    """A few threads that cancel on order."""

    def __init__(self) -> None:
        self.did: Counter[str] = Counter()
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self._orders: queue.SimpleQueue[tuple[Promise, Callable[[], Task[Any] | None]] | None] = queue.SimpleQueue()
        self._crew = [threading.Thread(target=self._work, name=f"canceller-{n}", daemon=True) for n in range(THREADS)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._crew:
            thread.start()

    def stop(self) -> None:
        """Have them carry out what was ordered, and end."""
        for _ in self._crew:
            self._orders.put(None)
        for thread in self._crew:
            thread.join()

    def order(self, promise: Promise, find: Callable[[], Task[Any] | None]) -> None:
        """Have a thread cancel the task that ``find`` gives; None is a submit that has not returned."""
        self._orders.put((promise, find))

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            promise, find = order
            while (task := find()) is None:
                time.sleep(0)
            self.cancel(promise, task)

    def cancel(self, promise: Promise, task: Task[Any]) -> None:
        """Cancel ``task`` here and now, and note the answer."""
        was_done = task.done()
        answer = task.cancel()
        with self._lock:
            promise.cancel_answers.append(answer)
            self.did["cancels"] += 1
            self.did["told True"] += answer
            if was_done and answer:
                self.errors.append(f"cancel of {task}, which was done, answered True")
