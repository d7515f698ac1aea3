"""What threads wait on in here: an event that Ctrl-C cannot break.

``threading.Event`` and ``concurrent.futures.Future`` are made of a Condition written in Python: a KeyboardInterrupt in
its ``__exit__`` leaves its lock held, and whoever sets the event then waits for ever; that would be the engine's own
loop. A ``SimpleQueue`` is C: no signal is looked for while it is locked, and a signal handler may put into it.

Guarantees
    Any thread, signal handlers and the collector for ``set``. Set once; everybody who waits, now or later, goes on.
"""

import queue

__all__ = ["Latch"]


class Latch:
    """An event that is set once."""

    __slots__ = ("_is_set", "_tokens")

    def __init__(self) -> None:
        self._is_set = False
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self, *_: object) -> None:
        """Let everybody go. Idempotent; arguments are ignored, so that it can be a callback."""
        self._is_set = True
        self._tokens.put(None)

    def is_set(self) -> bool:
        """Say whether it was set."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if it is not after ``timeout`` seconds."""
        if self._is_set:
            return True
        try:
            self._tokens.get(timeout=timeout)
        except queue.Empty:
            return self._is_set
        self._tokens.put(None)  # for the next who waits
        return True
