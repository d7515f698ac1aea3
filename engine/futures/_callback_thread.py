"""One thread that calls what users have added to an executor's futures.

Guarantees
    Shared: ``_queue``, ``_thread``.  Guarded by: ``_lock``, re-entrant since the collector may post, held for a look
    and an assignment.  Callers: any thread.
    What is posted is called once, in that order, never on the thread that posts (but where no thread can be started).
    The thread lives while there is work and for a moment after it, and ends with ``finish``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from .._latch import Latch

__all__ = ["CallbackThread"]

_IDLE_SECONDS = 0.5  #: that the thread waits for more before it ends


class CallbackThread:
    """Calls functions, which may be slow and must not raise, one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self.is_inline = False  #: there is to be no thread: whoever posts calls

    def post(self, fn: Callable[[], object]) -> None:
        """Have ``fn`` called, after all that was posted before. Does not wait."""
        if self.is_inline:
            fn()
            return
        self._queue.put(fn)
        self._see_to_it()

    def _see_to_it(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # none can be had: here, or never
            self._run(seconds=0.0)

    def _run(self, seconds: float = _IDLE_SECONDS) -> None:
        while True:
            try:
                fn = self._queue.get(timeout=seconds)
            except queue.Empty:
                fn = None
            if fn is not None:
                fn()
                continue
            with self._lock:  # a post puts first and looks for the thread then: nothing stays behind
                if self._queue.empty():
                    self._thread = None
                    return

    def is_here(self) -> bool:
        """Say whether this is the thread that calls."""
        return threading.current_thread() is self._thread

    def finish(self, timeout: float | None = None) -> bool:
        """Wait until all that was posted so far was called, and the thread has ended. False: not in ``timeout``.

        On the thread itself, in a callback, it does not wait.
        """
        with self._lock:
            thread = self._thread
        if thread is None or self.is_here():
            return True
        done = Latch()
        self.post(done.set)
        if not done.wait(timeout):
            return False
        self._queue.put(None)
        thread.join(timeout)
        return True
